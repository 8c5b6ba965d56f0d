"""Whole jobs: ours against transformers' Marian, as a user of each would do them.

- `training`: our trainer at 4,000 tokens an update, against `Seq2SeqTrainer` at its defaults (8 sentences a
  batch, in any order) with MarianMTModel, over the same pairs; beside them that model in our trainer, where
  the batches are the same. Counted are target tokens without padding.
- `file`: our `translate` over a text, against Marian's `generate` on 16 lines at a time as they come; beside
  them Marian in our `translate`, where the batches are the same. Random weights end no sentence, so that all
  write as many tokens for each line.
- `start`: a fresh interpreter that imports, loads a saved model and translates one sentence.

"ours, bf16" and "marian, bf16" compute in that type, where the device multiplies it: under autocast in
training, with weights of that type in translation; a column of its own compares the two. All else is in
float32. Beside training stands the share of padding in our batches, sources and targets together.

All models have random weights, and all words are drawn at random. Sentences are as long as in news
(log-normal around 25 tokens, at most 128) or as captions are in Multi30k (normal around 15); translations are
about as long as their sources, as German and English are there. The systems take turns; on a CPU the clock
counts the process's own seconds.

    python benchmarks/jobs_speed.py --threads 1 --json jobs_speed.json --figure jobs_speed.png
    python benchmarks/jobs_speed.py --device cuda --pairs 20000 --lines 5000
"""

import argparse
import copy
import math
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from side_by_side import (
    END,
    FIRST_WORD,
    LENGTH_NOISE,
    MARIAN,
    NO_BFLOAT16,
    OURS,
    SHAPES,
    add_options,
    build_model,
    format_ratio,
    report,
    take_turns,
    tell_left_out,
    with_ratios,
)

from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.options import parser_of, positive

# Entries of the vocabulary at each shape.
VOCABULARIES = {"toy": 300, "tiny": 8000, "base": 10_000, "big": 10_000}
UNITS = {"training": "target tokens/s", "file": "sentences/s", "start": "starts/s"}
JOBS = tuple(UNITS)
TITLES = ("Job", "System", "Speed", "Marian = 1", "Marian, bf16 = 1")
BF16, MARIAN_BF16, MARIAN_IN_OURS = "ours, bf16", "marian, bf16", "marian in our batches"
SYSTEMS = (OURS, BF16, MARIAN, MARIAN_BF16, MARIAN_IN_OURS)
PADDING = "padding share"
LINES_AT_ONCE, NEW_TOKENS = 16, 15
FIRST_TRANSLATION = """
import sys, torch
torch.set_num_threads(int(sys.argv[3]))
{imports}
tokenizer = {tokenizer}.from_pretrained(sys.argv[1])
model = {model}.from_pretrained(sys.argv[1]).eval().to(sys.argv[4])
inputs = tokenizer([sys.argv[2]], return_tensors="pt").to(sys.argv[4])
settings = {{"num_beams": 1, "max_length": None, "max_new_tokens": 15}}
found = model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], **settings)
print(tokenizer.batch_decode(found, skip_special_tokens=True)[0])
"""

# What a system does in one round; how much work it was, in units of the job.
Work = Callable[[], float]
# What else a job finds, by name.
Notes = dict[str, float]


def model_of(name: str, arguments: argparse.Namespace) -> Any:
    """Return our model or Marian's at `--shape`, on `--device`."""
    return build_model(name, SHAPES[arguments.shape], VOCABULARIES[arguments.shape], arguments.device)


def build_tokenizer(vocabulary: int) -> Any:
    """Return a tokenizer with a token for each of `vocabulary` words, for both models."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", *(f"w{k}" for k in range(FIRST_WORD, vocabulary))]
    backend = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def draw_lengths(count: int, kind: str, draw: random.Random) -> list[int]:
    """Return how many tokens each of `count` sentences has."""
    if kind == "news":
        return [min(max(round(25 * math.exp(draw.gauss(0, 0.6))), 4), 128) for _ in range(count)]
    return [min(max(round(draw.gauss(15, 5)), 3), 40) for _ in range(count)]


def make_lines(lengths: Sequence[int], vocabulary: int, draw: random.Random) -> list[str]:
    """Return a sentence of random words for each of `lengths`."""
    return [" ".join(f"w{draw.randrange(FIRST_WORD, vocabulary)}" for _ in range(n)) for n in lengths]


def make_pairs(arguments: argparse.Namespace, vocabulary: int) -> tuple[list[str], list[str]]:
    """Return `--pairs` sources, and targets that are about as long."""
    draw = random.Random(1)
    lengths = draw_lengths(arguments.pairs, arguments.lengths, draw)
    targets = [max(round(n * math.exp(draw.gauss(0, LENGTH_NOISE))), 1) for n in lengths]
    return make_lines(lengths, vocabulary, draw), make_lines(targets, vocabulary, draw)


def training_works(arguments: argparse.Namespace, folder: Path, notes: Notes) -> dict[str, Work]:
    """One epoch over `--pairs` pairs, in target tokens; the share of padding in our batches is noted."""
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

    from vanilla_transformer.training import (
        TranslationCollator,
        VanillaTransformerTrainer,
        VanillaTransformerTrainingArguments,
    )

    vocabulary = VOCABULARIES[arguments.shape]
    tokenizer = build_tokenizer(vocabulary)
    sides = [tokenizer(lines)["input_ids"] for lines in make_pairs(arguments, vocabulary)]
    pairs = Dataset.from_dict({"input_ids": sides[0], "labels": sides[1]})
    tokens = sum(map(len, sides[1]))
    quiet: dict[str, Any] = {
        "output_dir": str(folder), "num_train_epochs": 1, "save_strategy": "no", "report_to": "none",
        "disable_tqdm": True, "logging_strategy": "no", "use_cpu": arguments.device == "cpu",
    }  # fmt: skip

    def in_our_trainer(name: str, label_smoothing: float, bf16: bool = False) -> float:
        settings: dict[str, Any] = {
            "tokens_per_update": 4000, "label_smoothing_factor": label_smoothing, "bf16": bf16,
            "logging_strategy": "epoch",
        }  # fmt: skip
        trainer = VanillaTransformerTrainer(
            model=model_of(name, arguments),
            args=VanillaTransformerTrainingArguments(**quiet | settings, predict_with_generate=False),
            data_collator=TranslationCollator(tokenizer),
            train_dataset=pairs,
            processing_class=tokenizer,
        )
        trainer.train()
        notes[PADDING] = trainer.state.log_history[0]["padding_share"]
        return tokens

    def marian(bf16: bool = False) -> float:
        model = model_of(MARIAN, arguments)
        Seq2SeqTrainer(
            model=model,
            args=Seq2SeqTrainingArguments(**quiet, bf16=bf16),
            data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
            train_dataset=pairs,
        ).train()
        return tokens

    return {
        OURS: lambda: in_our_trainer(OURS, 0.1),
        BF16: lambda: in_our_trainer(OURS, 0.1, bf16=True),
        MARIAN: marian,
        MARIAN_BF16: lambda: marian(bf16=True),
        # Marian's loss cannot smooth labels.
        MARIAN_IN_OURS: lambda: in_our_trainer(MARIAN, 0.0),
    }


def file_works(arguments: argparse.Namespace, folder: Path, notes: Notes) -> dict[str, Work]:
    """Translate `--lines` lines greedily, in sentences."""
    from vanilla_transformer.modeling.translation_vanilla_transformer import translate

    vocabulary = VOCABULARIES[arguments.shape]
    tokenizer, draw = build_tokenizer(vocabulary), random.Random(3)
    lines = make_lines(draw_lengths(arguments.lines, arguments.lengths, draw), vocabulary, draw)
    models = {name: model_of(name, arguments).eval() for name in (OURS, MARIAN)}
    for name, model in ((BF16, models[OURS]), (MARIAN_BF16, models[MARIAN])):
        models[name] = copy.deepcopy(model).bfloat16()
    settings: dict[str, Any] = {"num_beams": 1, "max_length": None, "max_new_tokens": NEW_TOKENS}

    def sorted_batches(name: str) -> float:
        return float(len(list(translate(models[name], tokenizer, lines, **settings))))

    def as_they_come(name: str) -> float:
        found = []
        for start in range(0, len(lines), LINES_AT_ONCE):
            part = lines[start : start + LINES_AT_ONCE]
            inputs = tokenizer(part, padding=True, return_tensors="pt").to(arguments.device)
            sources = {key: inputs[key] for key in ("input_ids", "attention_mask")}
            tokens = models[name].generate(**sources, **settings)
            found += tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return float(len(found))

    return {
        OURS: lambda: sorted_batches(OURS),
        BF16: lambda: sorted_batches(BF16),
        MARIAN: lambda: as_they_come(MARIAN),
        MARIAN_BF16: lambda: as_they_come(MARIAN_BF16),
        MARIAN_IN_OURS: lambda: sorted_batches(MARIAN),
    }


def start_works(arguments: argparse.Namespace, folder: Path, notes: Notes) -> dict[str, Work]:
    """Import, load and translate one sentence in a fresh interpreter, in starts."""
    tokenizer = build_tokenizer(VOCABULARIES[arguments.shape])
    classes = {
        OURS: ("vanilla_transformer", "VanillaTransformerForConditionalGeneration"),
        MARIAN: ("transformers", "MarianMTModel"),
    }

    def work(name: str) -> Work:
        package, model = classes[name]
        model_of(name, arguments).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        imports = f"from {package} import {model}\nfrom transformers import PreTrainedTokenizerFast"
        program = FIRST_TRANSLATION.format(imports=imports, model=model, tokenizer="PreTrainedTokenizerFast")
        words = [sys.executable, "-c", program, str(folder / name), "w7 w8 w9", str(arguments.threads)]
        words.append(arguments.device)

        def start() -> float:
            subprocess.run(words, check=True, capture_output=True)
            return 1.0

        return start

    return {name: work(name) for name in classes}


WORKS = {"training": training_works, "file": file_works, "start": start_works}


def left_out(device: str) -> dict[str, str]:
    """Return the systems that cannot be measured on a device, and why."""
    from vanilla_transformer.modeling.modules_vanilla_transformer import multiplies_bfloat16

    if device != "cpu" or multiplies_bfloat16():
        return {}
    return dict.fromkeys((BF16, MARIAN_BF16), NO_BFLOAT16)


def measure(job: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the work per second of each system, the ratios within a round, and what else was found."""
    notes: Notes = {}
    with tempfile.TemporaryDirectory() as folder:
        works = WORKS[job](arguments, Path(folder), notes)
        works = {name: work for name, work in works.items() if name not in left_out(arguments.device)}
        speeds = take_turns(works, rounds=arguments.rounds, device=arguments.device)
    return with_ratios(speeds, [(BF16, MARIAN_BF16)]) | notes


def table_rows(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the results as they are shown."""
    rows = []
    for job, row in results.items():
        for name in (name for name in SYSTEMS if name in row):
            ratios = (row.get(f"{name} / {other}") for other in (MARIAN, MARIAN_BF16))
            shown = [format_ratio(ratio) if ratio else "" for ratio in ratios]
            rows.append([f"{job}, {UNITS[job]}", name, f"{row[name]:.4g}", *shown])
        if PADDING in row:
            rows.append([f"{job}, padding in our batches", OURS, f"{row[PADDING]:.1%}", "", ""])
    return rows


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the ratios to Marian as bars."""
    from vanilla_transformer.drawing import new_figure, save_figure

    bars = {
        f"{job}, {name}": row[f"{name} / {MARIAN}"][0]
        for job, row in results.items()
        for name in SYSTEMS
        if f"{name} / {MARIAN}" in row
    }
    figure = new_figure(8, 3)
    axes = figure.subplots()
    axes.barh(list(bars), list(bars.values()))
    axes.axvline(1, color="grey", linewidth=1)
    axes.set_xlabel("speed, Marian = 1")
    save_figure(figure, path)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--jobs", choices=JOBS, nargs="+", default=JOBS, help="which of them (default: all)")
    add("--shape", choices=SHAPES, default="tiny", help="size of both models (default: tiny)")
    add("--pairs", type=positive, default=2000, help="pairs of an epoch (default: 2000)")
    add("--lines", type=positive, default=500, help="lines to translate (default: 500)")
    add("--lengths", choices=("news", "captions"), default="news", help="of sentences (default: news)")
    add_options(parser, rounds=3)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    arguments = parse_arguments(argv)
    return run_script(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Measure and print a table."""
    torch.set_num_threads(arguments.threads)
    absent = left_out(arguments.device)
    tell_left_out(absent)
    results = {job: measure(job, arguments) for job in arguments.jobs}
    report(arguments, results, titles=TITLES, rows=table_rows(results), plot=plot, left_out=absent)


if __name__ == "__main__":
    raise SystemExit(main())
