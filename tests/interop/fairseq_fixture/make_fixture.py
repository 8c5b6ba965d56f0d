"""Writes the fixtures of `test_fairseq.py`: checkpoints of fairseq's own classes and what these compute.

fairseq does not install on today's Python, so its classes are imported from a checkout of one of `COMMITS`,
in the environment of this project. What they need besides lies in a folder of its own. In the project's root:

    python -m pip install --no-deps --target ../needed omegaconf==2.0.6 hydra-core==1.0.7 \
        antlr4-python3-runtime==4.8 bitarray subword-nmt==0.3.8
    git clone https://github.com/facebookresearch/fairseq ../fairseq
    for commit in e6422528dae0b899848469efe2dc404c1e639ce9 df2f84ce619edddb80e720a56abc74d5490fed99 \
        3d262bb25690e4eb2e7d3c1309b1e9c406ca4b99; do
        git -C ../fairseq checkout --quiet $commit
        PYTHONPATH=../needed:../fairseq python tests/interop/fairseq_fixture/make_fixture.py
    done

Each variant becomes a folder here: the checkpoint as fairseq's `Trainer` saves it, the dictionaries as its
`Dictionary` does, the BPE codes, and `expected.json` with the batch, the logits and the translations of
fairseq's `SequenceGenerator`; `pieces.json` has words as subword-nmt splits them. Words are invented; the
weights are fairseq's initial ones, trained a little.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy
import sentencepiece
import torch
from torch.nn.functional import cross_entropy

COMMITS = {
    "e6422528dae0b899848469efe2dc404c1e639ce9": "v0.6.2",
    "df2f84ce619edddb80e720a56abc74d5490fed99": "v0.9.0",
    "3d262bb25690e4eb2e7d3c1309b1e9c406ca4b99": "main",
}
SIZES = (
    "--encoder-embed-dim 16 --decoder-embed-dim 16 --encoder-layers 1 --decoder-layers 2"
    " --encoder-attention-heads 4 --decoder-attention-heads 2"
    " --encoder-ffn-embed-dim 20 --decoder-ffn-embed-dim 28"
)
# Beam, length penalty and most tokens before the end token.
SEARCHES = ((1, 1.0, 200), (4, 1.0, 200), (5, 0.6, 200), (3, 1.4, 200), (1, 1.0, 2))
PAD = 1
# Of so many tokens of each target the logits are kept.
STEPS = 5
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Variant:
    """A model to make.

    Attributes:
        flags: options of fairseq-train beyond `SIZES`.
        shared: one dictionary for both languages.
        bpe: how words are split: "subword_nmt", "sentencepiece" or not at all.
        named: the checkpoint's settings name the BPE and its file.
        moses: the words are those of Moses' tokenizer.
    """

    flags: str
    shared: bool = False
    bpe: str | None = "subword_nmt"
    named: bool = False
    moses: bool = False


PRE_NORM = "--encoder-normalize-before --decoder-normalize-before"
LEARNED = "--encoder-learned-pos --decoder-learned-pos --max-source-positions 40 --max-target-positions 40"
VARIANTS = {
    "v0.6.2": {
        "first-names": Variant("--share-all-embeddings", shared=True, bpe=None),
        "first-pre-norm": Variant(PRE_NORM, bpe=None),
    },
    "v0.9.0": {
        "args-shared-moses": Variant("--share-all-embeddings", shared=True, named=True, moses=True),
        "args-separate": Variant(f"{PRE_NORM} --relu-dropout 0.2"),
        "args-learned": Variant(f"{LEARNED} --share-decoder-input-output-embed --activation-fn gelu"),
    },
    "main": {
        "cfg-shared": Variant("--share-all-embeddings --attention-dropout 0.1", shared=True, named=True),
        "cfg-sentencepiece": Variant(
            f"{PRE_NORM} {LEARNED} --share-decoder-input-output-embed", bpe="sentencepiece", named=True
        ),
        "cfg-separate": Variant("--no-token-positional-embeddings --activation-fn gelu_accurate", bpe=None),
        "cfg-unscaled": Variant(
            "--no-scale-embedding --share-all-embeddings", shared=True, bpe="sentencepiece"
        ),
    },
}


def prepare_imports() -> None:
    """Lets old code run on today's libraries: former names, semantics and defaults; no scikit-learn."""
    for kind in (float, int):
        setattr(numpy, kind.__name__, kind)
    divide = torch.div
    torch.div = lambda one, other, **how: divide(
        one, other, **({} if one.is_floating_point() else {"rounding_mode": "trunc"}) | how
    )
    chunk = torch.Tensor.chunk
    # What is changed in place may not be a view of one tensor with others any more.
    torch.Tensor.chunk = lambda *how, **named: [part.clone() for part in chunk(*how, **named)]  # type: ignore
    for name in ("sklearn", "sklearn.metrics"):
        sys.modules[name] = MagicMock(__spec__=ModuleSpec(name, None))
    get_field = dataclasses._get_field  # type: ignore[attr-defined]

    def with_hashable_default(cls: type, name: str, *args: Any) -> Any:
        default = getattr(cls, name, None)
        kind = type(getattr(default, "default", default))
        if kind.__hash__ is None and kind.__module__.partition(".")[0] in ("fairseq", "hydra"):
            kind.__hash__ = object.__hash__
        return get_field(cls, name, *args)

    dataclasses._get_field = with_hashable_default  # type: ignore[attr-defined]


def commit_of_checkout() -> str:
    """The commit that `fairseq` is imported from, one of `COMMITS`."""
    import fairseq

    folder = Path(fairseq.__file__).parent
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if commit not in COMMITS:
        raise SystemExit(f"{folder} must be at one of {', '.join(COMMITS)}, but is at {commit}.")
    return commit


def main() -> None:
    """Makes the variants of the commit that is checked out."""
    prepare_imports()
    commit = commit_of_checkout()
    for name, variant in VARIANTS[COMMITS[commit]].items():
        with tempfile.TemporaryDirectory() as folder:
            # Checkpoints keep the paths that they were made with: here relative ones.
            with contextlib.chdir(folder):
                make(Path(), COMMITS[commit], variant)
                expected = json.loads(Path("expected.json").read_text())
                text = json.dumps({"fairseq": commit} | expected, ensure_ascii=False)
                Path("expected.json").write_text(text + "\n")
            shutil.rmtree(HERE / name, ignore_errors=True)
            shutil.copytree(folder, HERE / name)
        print(name)
    write_pieces(HERE / "pieces.json")


def write_pieces(path: Path) -> None:
    """What subword-nmt itself makes of invented words, by codes of its version 0.2 and of the first one."""
    from subword_nmt import apply_bpe, learn_bpe

    learned = io.StringIO()
    learn_bpe.learn_bpe(io.StringIO("\n".join(corpus(3, False))), learned, num_symbols=50)
    later = learned.getvalue().splitlines()
    earlier = []
    for line in later[1:]:
        last = line.split(" ")[1]
        # There the mark of a word's end is a piece of its own, and merged like one.
        earlier += [f"{last[0]} </w>"] * (len(last) == len("a</w>") and last.endswith("</w>")) + [line]
    words = sorted({word for line in corpus(3, False) + corpus(4, True) for word in line.split()})
    words += ["a", "\u00e9", "ta\u00e9ta", "tatatata", "x", "</w>", "a</w>"]
    codes = {"later": later, "earlier": earlier}
    pieces = {
        name: [apply_bpe.BPE(io.StringIO("\n".join(lines) + "\n")).segment(word) for word in words]
        for name, lines in codes.items()
    }
    path.write_text(json.dumps({"codes": codes, "words": words, "pieces": pieces}) + "\n")


def make(folder: Path, era: str, variant: Variant) -> None:
    """Writes one fixture."""
    torch.manual_seed(1)
    corpora = {"xa": corpus(1, variant.moses), "xb": corpus(2, variant.moses)}
    encode = text_pipeline(folder, era, variant, [line for lines in corpora.values() for line in lines])
    write_dictionaries(folder, variant.shared, {lang: map(encode, lines) for lang, lines in corpora.items()})
    args, settings = parse_settings(folder, era, variant)
    task, criterion, model = build(era, args, settings)
    sentences = [corpora["xa"][number] for number in (3, 8, 0, 5)] + ["unseen W0rd", "ab"]
    targets = [corpora["xb"][number] for number in (7, 2, 6, 1, 3, 0)]
    batch = padded_batch(task, [encode(line) for line in sentences], [encode(line) for line in targets])
    updates, hypotheses = train(era, task, model, batch)
    decode = text_decoder(folder, era, variant, task)
    with torch.no_grad():
        logits = model(**batch["net_input"])[0]
    expected = {
        "updates": updates,
        "sentences": sentences,
        "targets": targets,
        "src_tokens": batch["net_input"]["src_tokens"].tolist(),
        "prev_output_tokens": batch["net_input"]["prev_output_tokens"].tolist(),
        "logits": [[[float(f"{x:.9g}") for x in step] for step in row[:STEPS]] for row in logits.tolist()],
        "searches": [
            {
                "beam": beam,
                "lenpen": penalty,
                "max_len_b": longest,
                "tokens": [[one["tokens"].tolist() for one in found] for found in each],
                "scores": [[float(f"{one['score']:.9g}") for one in found] for found in each],
                "texts": [decode(found[0]["tokens"]) for found in each],
            }
            for (beam, penalty, longest), each in zip(SEARCHES, hypotheses, strict=True)
        ],
    }
    save_checkpoint(folder / "model.pt", era, args, settings, task, model, criterion)
    Path(folder, "expected.json").write_text(json.dumps(expected, ensure_ascii=False))


def corpus(seed: int, punctuation: bool) -> list[str]:
    """Lines of one to five invented words."""
    draw, marks = random.Random(seed), [",", " &", "'s", "-ta", ".", '"']
    syllables = [a + b for a in "bdklmnrst" for b in "aeiou"]
    vocabulary = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(60)]
    lines = [vocabulary[start : start + 1 + start % 5] for start in range(0, 60, 3)]
    if not punctuation:
        return [" ".join(line) for line in lines]
    return [" ".join(line) + marks[number % len(marks)] + " ke." for number, line in enumerate(lines)]


def text_pipeline(folder: Path, era: str, variant: Variant, lines: list[str]) -> Any:
    """Learns the BPE from `lines`; returns fairseq's own way from a text to pieces with spaces between."""
    if era == "v0.6.2":
        return lambda text: text
    from fairseq.data import encoders

    settings = argparse.Namespace(**text_settings(folder, variant))
    tokenizer = encoders.build_tokenizer(settings)
    tokenized = [tokenizer.encode(line) for line in lines] if tokenizer else lines
    if variant.bpe == "subword_nmt":
        learn_codes(folder / "bpecodes", tokenized)
    elif variant.bpe == "sentencepiece":
        learn_sentencepiece(folder / "sentencepiece.bpe.model", tokenized)
    bpe = encoders.build_bpe(settings)

    def encode(text: str) -> str:
        for step in (tokenizer, bpe):
            text = step.encode(text) if step else text
        return text

    return encode


def text_settings(folder: Path, variant: Variant) -> dict[str, Any]:
    """What fairseq's tokenizers and encoders read of the settings."""
    return {
        "tokenizer": "moses" if variant.moses else None,
        "source_lang": "xa",
        "target_lang": "xb",
        "moses_no_dash_splits": False,
        "moses_no_escape": False,
        "bpe": variant.bpe,
        "bpe_codes": str(folder / "bpecodes"),
        "bpe_separator": "@@",
        "sentencepiece_model": str(folder / "sentencepiece.bpe.model"),
    }


def learn_codes(path: Path, lines: list[str]) -> None:
    """Codes of subword-nmt."""
    from subword_nmt import learn_bpe

    with path.open("w", encoding="utf-8") as file:
        learn_bpe.learn_bpe(io.StringIO("\n".join(lines)), file, num_symbols=24, min_frequency=2)


def learn_sentencepiece(path: Path, lines: list[str]) -> None:
    """A small model of SentencePiece, without its large table of normalizations."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=40,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())


def write_dictionaries(folder: Path, shared: bool, corpora: dict[str, Any]) -> None:
    """`dict.xa.txt` and `dict.xb.txt`, as fairseq-preprocess makes them."""
    from fairseq.data import Dictionary

    dictionaries = {lang: Dictionary() for lang in corpora}
    if shared:
        dictionaries = dict.fromkeys(corpora, Dictionary())
    for lang, lines in corpora.items():
        for line in lines:
            for piece in line.split():
                dictionaries[lang].add_symbol(piece)
    for dictionary in {id(one): one for one in dictionaries.values()}.values():
        dictionary.finalize(nwords=-1 if shared else 56)
    for lang, dictionary in dictionaries.items():
        dictionary.save(f"{folder}/dict.{lang}.txt")


def parse_settings(folder: Path, era: str, variant: Variant) -> tuple[argparse.Namespace, Any]:
    """What fairseq-train makes of its options: a Namespace, and the configuration that main makes of it."""
    from fairseq import options

    flags = [str(folder), "--task", "translation", "--arch", "transformer", *SIZES.split()]
    flags += [*variant.flags.split(), "--source-lang", "xa", "--target-lang", "xb", "--optimizer", "adam"]
    flags += ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"]
    flags += ["--max-tokens", "100", "--lr", "0.1", "--lr-scheduler", "inverse_sqrt"]
    if era == "main":
        flags += ["--plasma-path", "plasma"]
    if variant.named:
        values = {key: value for key, value in text_settings(folder, variant).items() if value is not None}
        names = ["tokenizer", "bpe"]
        names += {"subword_nmt": ["bpe_codes"], "sentencepiece": []}[str(variant.bpe)]
        names += ["sentencepiece_model"] if variant.bpe == "sentencepiece" else []
        for name in (name for name in names if name in values):
            flags += [f"--{name.replace('_', '-')}", values[name]]
    args = options.parse_args_and_arch(options.get_training_parser(), flags)
    if era != "main":
        return args, args
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    return args, convert_namespace_to_omegaconf(args)


def build(era: str, args: argparse.Namespace, settings: Any) -> tuple[Any, Any, Any]:
    """Task, criterion and model."""
    from fairseq import tasks

    if era == "main":
        task = tasks.setup_task(settings.task)
        return task, task.build_criterion(settings.criterion), task.build_model(settings.model).eval()
    task = tasks.setup_task(args)
    return task, task.build_criterion(args), task.build_model(args).eval()


def padded_batch(task: Any, sources: list[str], targets: list[str]) -> Any:
    """A batch of fairseq's own collater, padded as fairseq pads."""
    from fairseq.data import LanguagePairDataset

    sides = []
    for dictionary, lines in ((task.source_dictionary, sources), (task.target_dictionary, targets)):
        ids = [dictionary.encode_line(line, add_if_not_exist=False).long() for line in lines]
        sides += [ids, [len(one) for one in ids], dictionary]
    data = LanguagePairDataset(*sides)
    batch = data.collater([data[number] for number in range(len(sources))])
    order = batch["id"].argsort()
    inputs = batch["net_input"]
    batch["net_input"] = {name: value.index_select(0, order) for name, value in inputs.items()}
    batch["target"] = batch["target"].index_select(0, order)
    return batch


def train(era: str, task: Any, model: Any, batch: Any) -> tuple[int, list[Any]]:
    """Trains on the batch until translations end by themselves and tell sentences, and searches, apart.

    Returns:
        The number of updates, and all hypotheses of each search.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for update in range(1, 1000):
        logits = model(**batch["net_input"])[0]
        cross_entropy(logits.flatten(0, 1), batch["target"].flatten(), ignore_index=PAD).backward()
        optimizer.step()
        optimizer.zero_grad()
        if update < 40 or update % 10 or not is_ordinary(generate(era, task, model, batch, 1, 1.0, 20), task):
            continue
        found = [generate(era, task, model, batch, *search) for search in SEARCHES]
        best = [[one[0]["tokens"].tolist() for one in each] for each in found]
        differ = len({tuple(one) for one in best[0]}) > 4 and (best[0] != best[1] or update > 250)
        if differ and all(is_ordinary(each, task) for each in found):
            return update, found
    raise SystemExit("the translations never end, or the searches never differ")


def is_ordinary(hypotheses: list[Any], task: Any) -> bool:
    """Whether the best translation of each sentence ends soon, and has no special token but the last."""
    special = task.target_dictionary.nspecial
    best = [one[0]["tokens"][:-1] for one in hypotheses]
    return all(0 < len(tokens) < 20 and int(tokens.min()) >= special for tokens in best)


def generate(
    era: str, task: Any, model: Any, batch: Any, beam: int, penalty: float, longest: int
) -> list[Any]:
    """Hypotheses of fairseq's `SequenceGenerator`, the best first."""
    from fairseq.sequence_generator import SequenceGenerator

    options = {"beam_size": beam, "len_penalty": penalty, "max_len_b": longest}
    inputs = {name: value for name, value in batch["net_input"].items() if name != "prev_output_tokens"}
    sample = {"net_input": inputs}
    if era == "main":
        found: list[Any] = SequenceGenerator([model], task.target_dictionary, **options).generate([], sample)
    else:
        found = SequenceGenerator(task.target_dictionary, **options).generate([model], sample)
    return found


def text_decoder(folder: Path, era: str, variant: Variant, task: Any) -> Any:
    """fairseq's own way from tokens to a text."""
    if era == "v0.6.2":
        return task.target_dictionary.string
    from fairseq.data import encoders

    settings = argparse.Namespace(**text_settings(folder, variant))
    steps = [encoders.build_bpe(settings), encoders.build_tokenizer(settings)]

    def decode(tokens: torch.Tensor) -> str:
        text: str = task.target_dictionary.string(tokens)
        for step in steps:
            text = step.decode(text) if step else text
        return text

    return decode


def save_checkpoint(
    path: Path, era: str, args: argparse.Namespace, settings: Any, task: Any, model: Any, criterion: Any
) -> None:
    """The whole checkpoint as fairseq's `Trainer` writes it."""
    from fairseq.trainer import Trainer

    extra = {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}, "val_loss": 1.0, "best": 1.0}
    trainer = Trainer(settings if era == "main" else args, task, model, criterion, None)
    if era == "main":
        trainer.consolidate_optimizer()
    trainer.save_checkpoint(str(path), extra)


if __name__ == "__main__":
    main()
