"""What tests of several folders use: the corpora folder, synthetic parallel text, a small tokenizer."""

import importlib.util
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}


def load_benchmark(name: str) -> ModuleType:
    """Return `benchmarks/<name>.py` as a module; the folder is no package."""
    path = Path(__file__).resolve().parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def corpora_folder() -> Path | None:
    """Return the folder of the real corpora: VT_DATA_DIR, or else shared/data beside the checkout."""
    given = os.environ.get("VT_DATA_DIR")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


def require_corpus(name: str) -> Path:
    """Return the folder of one real corpus (such as "multi30k"), or skip the test and say why."""
    folder = corpora_folder()
    if folder is None or not (folder / name).is_dir():
        pytest.skip(f"no corpus {name}: set VT_DATA_DIR to the folder that holds {name}/")
    return folder / name


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Hold the umask of the process at `mask`."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> set[int]:
    """Return the modes of all files of a folder."""
    return {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}


def parallel_sentences(n: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Return `n` distinct pairs of 2 to 13 invented words; the target is the source backwards, upper case."""
    draw = random.Random(seed)
    pairs = []
    for number in range(n):
        words = [f"w{draw.randrange(40)}" for _ in range(draw.randint(1, 12))] + [f"n{number}"]
        pairs.append((" ".join(words), " ".join(reversed(words)).upper()))
    return pairs


def write_parallel_files(folder: Path, n: int, *, seed: int = 0) -> tuple[Path, Path]:
    """Write `parallel_sentences(n)` as two aligned files into `folder` and return their paths."""
    source, target = folder / f"text{seed}.src", folder / f"text{seed}.tgt"
    pairs = parallel_sentences(n, seed=seed)
    source.write_text("".join(f"{text}\n" for text, _ in pairs), encoding="utf-8")
    target.write_text("".join(f"{text}\n" for _, text in pairs), encoding="utf-8")
    return source, target


def word_tokenizer(lines: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token for each word of `lines`; every sequence ends in </s>."""
    words = sorted({word for line in lines for word in line.split()})
    vocabulary = SPECIAL_TOKENS | {word: 5 + i for i, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), behavior="removed")
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
