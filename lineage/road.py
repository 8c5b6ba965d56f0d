"""The road on one corpus and one vocabulary: all models trained on the same pairs, in one table and plot."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedModel, set_seed

from ..configuration import VanillaTransformerConfig
from ..errors import InputError, first_line
from ..files import read_json, write_text
from ..modeling import VanillaTransformerForConditionalGeneration
from ..modeling.translation_vanilla_transformer import translate
from ..tables import display_width
from ..tokenization import VanillaTransformerTokenizer
from ..tokenization.tokenization_vanilla_transformer import BYTE_TOKENS
from ..training.arguments import VanillaTransformerTrainingArguments
from ..training.corpus import Texts, load_pairs
from ..training.filtering import prepare_pairs
from ..training.metrics import score
from ..training.reports import machine
from ..training.trainer import VanillaTransformerTrainer
from .config import LineageConfig
from .elmo import BidirectionalLanguageModel, characters_of
from .ngram import NgramLanguageModel
from .nnlm import NeuralLanguageModel
from .pictures import plot_senses
from .recurrent import RecurrentTranslator
from .senses import WORD, learn_senses, sense_cosines, split_sentences, vectors_in_context
from .word_vectors import analogy, neighbours, plot_words, train_word_vectors

TITLES = ("Model", "Year", "Parameters", "Seconds", "Perplexity", "BLEU")
SENSE_TITLES = (
    "Layer of ELMo",
    "Cosine within a sense",
    "Across the two senses",
    "Sense named right, %",
    "Weight in the mix",
)
# Where the ranges of source tokens end that each have a BLEU of their own.
LENGTHS = (6, 8, 10, 12, 16, 20, 24)
# A range with fewer sentences than this has none.
FEWEST_SENTENCES = 20
# What is to the third word as the second is to the first, asked where a corpus has all three.
ANALOGIES = {
    "en": (
        ("cat", "cats", "dog"),
        ("book", "books", "letter"),
        ("man", "men", "woman"),
        ("he", "his", "she"),
        ("buy", "bought", "eat"),
        ("is", "was", "are"),
    ),
    "de": (
        ("Mann", "Männer", "Frau"),
        ("er", "sein", "sie"),
        ("rotes", "roten", "blaues"),
        ("sitzt", "sitzen", "steht"),
    ),
    "fr": (
        ("homme", "hommes", "femme"),
        ("un", "le", "une"),
        ("noir", "noire", "blanc"),
        ("porte", "portent", "joue"),
    ),
}


@dataclass(frozen=True)
class Experiment:
    """What all models share.

    Attributes:
        train, valid: prepared pairs, with their texts.
        tokenizer: the one vocabulary.
        output_dir: folder of the rows, the pictures and the table.
        steps: optimizer steps of each neural model.
        tokens_per_update: source or target tokens of a step.
        width: of embeddings, states and the Transformer.
        seed: of weights and the order of batches.
        language: target language, for BLEU.
    """

    train: Any
    valid: Any
    tokenizer: Any
    output_dir: Path
    steps: int = 1000
    tokens_per_update: int = 2048
    width: int = 128
    seed: int = 1
    language: str | None = "en"


Measure: TypeAlias = Callable[[Experiment, PreTrainedModel], dict[str, Any]]


def prepare(
    files: dict[str, str], output_dir: Path, *, vocab_size: int = 2000, **settings: Any
) -> Experiment:
    """Read the four files (`train_source`, ... `valid_target`) and train the one tokenizer on them."""
    pairs = load_pairs(source=files["train_source"], target=files["train_target"])
    try:
        tokenizer = VanillaTransformerTokenizer.train_from_iterator(Texts(pairs), vocab_size=vocab_size)
    except ValueError as error:
        raise InputError(f"no tokenizer can be trained: {first_line(error)}") from error
    train, report = prepare_pairs(pairs, tokenizer)
    valid_pairs = load_pairs(source=files["valid_source"], target=files["valid_target"])
    valid, valid_report = prepare_pairs(valid_pairs, tokenizer, long_sentences="keep")
    print(f"Training data: {report}\nValidation data: {valid_report}", flush=True)
    return Experiment(train=train, valid=valid, tokenizer=tokenizer, output_dir=output_dir, **settings)


def ngram_row(experiment: Experiment, order: int) -> dict[str, Any]:
    """Count the target side."""
    model = NgramLanguageModel(order, len(experiment.tokenizer)).fit(experiment.train["labels"])
    return {"parameters": model.num_parameters, "perplexity": model.perplexity(experiment.valid["labels"])}


def neural_row(
    experiment: Experiment,
    build: Callable[[Experiment], PreTrainedModel],
    name: str,
    measure: Measure | None = None,
) -> dict[str, Any]:
    """Train a neural model with the package's Trainer, measure its perplexity and what `measure` adds.

    The model and the tokenizer are saved in `models/` of the output folder, under `name`.
    """
    set_seed(experiment.seed)
    trainer = VanillaTransformerTrainer(
        model=build(experiment),
        args=training_arguments(experiment, name),
        train_dataset=experiment.train,
        eval_dataset=experiment.valid,
        processing_class=experiment.tokenizer,
    )
    trainer.train()
    trainer.save_model(str(experiment.output_dir / "models" / name))
    model: Any = trainer.model.eval()
    curve = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    row = {"parameters": model.num_parameters(), "loss_by_step": curve}
    row["perplexity"] = trainer.evaluate()["eval_perplexity"]
    return row | (measure(experiment, model) if measure else {})


def elmo_row(experiment: Experiment) -> dict[str, Any]:
    """Train ELMo on the source side and, where 苹果 is a piece of it, see whether its senses come apart.

    It then also reads some sentences that have the word in both senses; others of the kind are looked at.
    """
    # What it predicts of the source, in each direction: the evaluation weighs batches by their labels.
    predicted = experiment.valid.map(
        lambda row: {"labels": row["input_ids"][1:], "target_length": row["source_length"] - 1}
    )
    experiment = replace(experiment, valid=predicted)
    shown, held_out = split_sentences(experiment.tokenizer)
    if not held_out:
        return neural_row(experiment, build_elmo, "elmo")
    texts = [text for text, _ in shown]
    pairs, _ = prepare_pairs(Dataset.from_dict({"source": texts, "target": texts}), experiment.tokenizer)
    experiment = replace(experiment, train=concatenate_datasets([experiment.train, pairs]))
    return neural_row(
        experiment, build_elmo, "elmo", measure=partial(measure_senses, shown=shown, held_out=held_out)
    )


def measure_senses(
    experiment: Experiment,
    model: PreTrainedModel,
    shown: Sequence[tuple[str, str]],
    held_out: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """苹果 in unseen sentences: cosines, a picture, and how often a classifier names its sense.

    The classifier learns from the sentences shown, from each layer alone and from the mix of them all.
    """
    look = partial(vectors_in_context, cast(BidirectionalLanguageModel, model), experiment.tokenizer)
    (known, known_senses), (unseen, senses) = (
        (look(texts), senses) for texts, senses in (zip(*part, strict=True) for part in (shown, held_out))
    )
    plot_senses(unseen, held_out, experiment.output_dir / "senses.png")
    mixed = learn_senses(known, known_senses)
    layers = [
        sense_cosines(unseen[number], senses)
        | {"accuracy": learn_senses(known[[number]], known_senses).accuracy(unseen[[number]], senses)}
        | {"weight": weight}
        for number, weight in enumerate(mixed.mix.weights.softmax(-1).tolist())
    ]
    together = sense_cosines(mixed.mix(unseen), senses) | {"accuracy": mixed.accuracy(unseen, senses)}
    together["gamma"] = float(mixed.mix.gamma)
    return {"senses": {"sentences": len(senses), "layers": layers, "mix": together}}


def training_arguments(experiment: Experiment, name: str) -> VanillaTransformerTrainingArguments:
    """The same for all: Adam, a learning rate that falls in a straight line, no label smoothing."""
    return VanillaTransformerTrainingArguments(
        output_dir=str(experiment.output_dir / "trainer" / name),
        tokens_per_update=experiment.tokens_per_update,
        max_steps=experiment.steps,
        paper_schedule=False,
        learning_rate=2e-3,
        lr_scheduler_type="linear",
        warmup_steps=min(100, experiment.steps // 10),
        label_smoothing_factor=0.0,
        max_grad_norm=1.0,
        predict_with_generate=False,
        prediction_loss_only=True,
        remove_unused_columns=False,
        label_names=["labels"],
        save_strategy="no",
        logging_steps=max(1, experiment.steps // 40),
        report_to="none",
        seed=experiment.seed,
    )


def translation_scores(experiment: Experiment, model: PreTrainedModel) -> dict[str, Any]:
    """BLEU of greedy translations of the validation sources, all and by length."""
    sources, references = list(experiment.valid["source"]), list(experiment.valid["target"])
    translations = list(translate(model, experiment.tokenizer, sources, **greedy(model)))
    by_length = {
        name: bleu(experiment, [translations[k] for k in rows], [references[k] for k in rows])
        for name, rows in rows_by_length(experiment.valid["source_length"]).items()
    }
    return {"bleu": bleu(experiment, translations, references), "bleu_by_length": by_length}


def rows_by_length(lengths: Sequence[int]) -> dict[str, list[int]]:
    """Which sentences fall into each range of lengths that has enough of them, such as "9-10"."""
    found = {}
    for shortest, longest in itertools.pairwise((0, *LENGTHS, 10**9)):
        rows = [k for k, length in enumerate(lengths) if shortest < length <= longest]
        if len(rows) >= FEWEST_SENTENCES:
            found[f"{shortest + 1}-{longest}" if longest in LENGTHS else f"over {shortest}"] = rows
    return found


def greedy(model: PreTrainedModel) -> dict[str, Any]:
    """What makes `generate` take the likeliest word at each step; the recurrent models do nothing else."""
    if not isinstance(model, VanillaTransformerForConditionalGeneration):
        return {}
    return {"num_beams": 1, "length_penalty": 1.0}


def bleu(experiment: Experiment, translations: list[str], references: list[str]) -> float:
    """sacreBLEU."""
    found = score(translations, [references], language=experiment.language, metrics=("bleu",))
    return float(found["bleu"])


def build_nnlm(experiment: Experiment) -> PreTrainedModel:
    """NNLM of four context words."""
    return NeuralLanguageModel(lineage_config(experiment))


def build_elmo(experiment: Experiment) -> PreTrainedModel:
    """A bidirectional language model of the source side."""
    pieces = experiment.tokenizer.convert_ids_to_tokens(list(range(len(experiment.tokenizer))))
    symbols = {*experiment.tokenizer.all_special_tokens, *BYTE_TOKENS}
    return BidirectionalLanguageModel.of_pieces(lineage_config(experiment), characters_of(pieces, symbols))


def build_recurrent(experiment: Experiment, *, cell: str, attention: bool) -> PreTrainedModel:
    """An encoder-decoder of GRUs or LSTMs."""
    return RecurrentTranslator(lineage_config(experiment, cell=cell, attention=attention))


def build_transformer(experiment: Experiment) -> PreTrainedModel:
    """Two layers in each stack."""
    return VanillaTransformerForConditionalGeneration(
        VanillaTransformerConfig(
            vocab_size=len(experiment.tokenizer),
            d_model=experiment.width,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=2 * experiment.width,
            decoder_ffn_dim=2 * experiment.width,
            dropout=0.1,
        )
    )


def lineage_config(experiment: Experiment, **fields: Any) -> LineageConfig:
    """Sizes that all older models share."""
    sizes: dict[str, Any] = {"embedding_dim": experiment.width, "hidden_dim": experiment.width}
    return LineageConfig(vocab_size=len(experiment.tokenizer), **sizes, **fields)


def words_row(experiment: Experiment, *, skip_gram: bool) -> dict[str, Any]:
    """Train word2vec on the target side, note neighbours of common words and analogies, and draw words."""
    sentences = [pieces_of(experiment.tokenizer, row) for row in experiment.train["labels"]]
    vectors = train_word_vectors(sentences, skip_gram=skip_gram, size=experiment.width, seed=experiment.seed)
    words = [piece for piece in vectors.index_to_key if begins_a_word(piece)] or vectors.index_to_key
    # The short words are the most frequent ones, and say the least.
    shown = [word for word in words if display_width(word.strip()) > 2] or words
    name = "skip_gram" if skip_gram else "cbow"
    plot_words(vectors, shown[:60], experiment.output_dir / f"words_{name}.png")
    near = {word.strip(): stripped(neighbours(vectors, word, set(words))) for word in shown[20:30]}
    answers = {}
    for asked in ANALOGIES.get((experiment.language or "").partition("-")[0], ()):
        a, b, c = (f" {word}" for word in asked)
        if all(word in vectors for word in (a, b, c)):
            found = analogy(vectors, a, b, c, set(words), count=3)
            answers["{} : {} = {} : ?".format(*asked)] = stripped(found)
    # As many again, which are thrown away, are of the words that are predicted.
    return {"parameters": 2 * vectors.vectors.size, "neighbours": near, "analogies": answers}


def pieces_of(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The pieces of a text without its end token; the first one as it is spelled within a text, if it is."""
    first, *others = tokenizer.convert_ids_to_tokens(list(ids[:-1]))
    within = f" {first}"
    return [within if within in tokenizer.get_vocab() else first, *others]


def begins_a_word(piece: str) -> bool:
    """Whether a piece has the space in front of a word, or is of a script that writes none."""
    return piece.startswith(" ") or display_width(piece[:1]) > 1


def stripped(pieces: Sequence[str]) -> list[str]:
    """The pieces as they are shown, without a space in front."""
    return [piece.strip() for piece in pieces]


@dataclass(frozen=True)
class LineageModel:
    """A line of the table: its title, the year of its paper, and what trains and measures it."""

    title: str
    year: int
    measure: Callable[[Experiment], dict[str, Any]]


def lineage_models() -> dict[str, LineageModel]:
    """All models, oldest first."""
    found = {
        f"ngram{order}": LineageModel(f"{order}-gram, add-one", 1948, partial(ngram_row, order=order))
        for order in (1, 2, 3)
    }
    found["nnlm"] = LineageModel("NNLM", 2003, partial(neural_row, build=build_nnlm, name="nnlm"))
    for kind in ("cbow", "skip_gram"):
        measure = partial(words_row, skip_gram=kind == "skip_gram")
        found[kind] = LineageModel(f"word2vec {kind.replace('_', '-')}", 2013, measure)
    for cell, attention in itertools.product(("gru", "lstm"), (False, True)):
        name = f"{cell}_attention" if attention else cell
        title = f"{cell.upper()} encoder-decoder" + (" with attention" if attention else "")
        build = partial(build_recurrent, cell=cell, attention=attention)
        measure = partial(neural_row, build=build, name=name, measure=translation_scores)
        found[name] = LineageModel(title, 2015 if attention else 2014, measure)
    measure = partial(neural_row, build=build_transformer, name="transformer", measure=translation_scores)
    found["transformer"] = LineageModel("Transformer", 2017, measure)
    found["elmo"] = LineageModel("ELMo (of the source)", 2018, elmo_row)
    return found


def row_file(experiment: Experiment, name: str) -> Path:
    """Where the row of a model is kept."""
    return experiment.output_dir / "rows" / f"{name}.json"


def train_missing(experiment: Experiment, names: Sequence[str]) -> None:
    """Train and measure the models that have no row in the output folder yet.

    Their seconds are the processor's where all is computed on a CPU, so that other work does not count.
    """
    known = lineage_models()
    clock = time.perf_counter if torch.accelerator.is_available() else time.process_time
    for name in names:
        path = row_file(experiment, name)
        if not path.is_file():
            started = clock()
            row = known[name].measure(experiment)
            row |= {"title": known[name].title, "year": known[name].year}
            row |= {"seconds": clock() - started, "machine": machine()}
            write_text(path, json.dumps(row, indent=2, ensure_ascii=False))


def read_rows(experiment: Experiment, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The rows of those of the models that have one, from this call or an earlier one."""
    files = {name: row_file(experiment, name) for name in names}
    return {name: read_json(path) for name, path in files.items() if path.is_file()}


def table_rows(rows: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The rows as they are shown."""
    return [
        [
            row["title"],
            str(row["year"]),
            f"{row['parameters']:,}",
            f"{row['seconds']:.0f}",
            f"{row['perplexity']:.2f}" if "perplexity" in row else "",
            f"{row['bleu']:.1f}" if "bleu" in row else "",
        ]
        for row in rows.values()
    ]


def word_lines(rows: dict[str, dict[str, Any]]) -> list[str]:
    """What word2vec and ELMo found, to read: the nearest words, answers to analogies, and senses."""
    lines = []
    for row in rows.values():
        for kind in ("neighbours", "analogies"):
            answers = [f"{asked} {', '.join(found)}" for asked, found in row.get(kind, {}).items()]
            if answers:
                lines.append(f"{row['title']}, {kind}: {'; '.join(answers)}")
        if "senses" in row:
            lines.append(sense_line(row))
    return lines


def sense_rows(row: dict[str, Any]) -> list[list[str]]:
    """How alike the vectors of 苹果 are in each layer and in the mix, and what they tell, as it is shown."""
    layers = {str(number): found for number, found in enumerate(row["senses"]["layers"])}
    return [
        [
            name,
            f"{found['within']:.2f}",
            f"{found['across']:.2f}",
            f"{100 * found['accuracy']:.0f}",
            f"{found['weight']:.2f}" if "weight" in found else "",
        ]
        for name, found in (layers | {"mix": row["senses"]["mix"]}).items()
    ]


def sense_line(row: dict[str, Any]) -> str:
    """The same in one line."""
    layers = "; ".join(
        f"{'' if name == 'mix' else 'layer '}{name} {within} and {across}, {right}%"
        for name, within, across, right, _ in sense_rows(row)
    )
    return (
        f"{row['title']}, {WORD} the fruit and the company in {row['senses']['sentences']} unseen sentences,"
        f" mean cosine within a sense and across, and how often a classifier names the sense: {layers}"
    )
