"""A saved folder that is complete and whole: our code beside the weights, every file written or none.

The code lies flat in the folder, and in a copy loaded from there this file is one of its files: a model that
was loaded with `trust_remote_code` saves as a model of the package does.
"""

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# An import of another file of ours: the dots, and the dotted path behind them, whose last name is the file's.
_OUR_IMPORT = re.compile(r"^(\s*from )(\.+)((?:\w+\.)*(\w+_vanilla_transformer))( import\b)", re.MULTILINE)
# Beside a whole model it is applied to that model wherever PEFT is installed.
ADAPTER_CONFIG_FILE = "adapter_config.json"
_WEIGHTS = re.compile(
    r"model(?:\.(?P<file>.+?))?(?:-\d{5}-of-\d{5})?\.safetensors"
    r"|model\.safetensors\.index(?:\.(?P<index>.+))?\.json"
)


def check_safetensors(path: Path) -> None:
    """Refuse a file that is not the length of a header (8 bytes), the header, and the bytes it announces.

    Raises:
        ValueError: its message begins with the path.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(header_size) if header_size < size else b"")
        ends = [value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"]
        announced = 8 + header_size + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"`{path}` is cut short or damaged.") from None
    if announced != size:
        raise ValueError(f"`{path}` is cut short: it has {size} bytes and should have {announced}.")


def auto_classes() -> dict[str, tuple[type, ...]]:
    """Our classes for each Auto class of transformers; of several, the first is the default."""
    # Here and not above, since each of these files imports this one.
    from ..configuration.configuration_vanilla_transformer import VanillaTransformerConfig
    from ..tokenization.fairseq_vanilla_transformer import FairseqTokenizer, FsmtTokenizer
    from ..tokenization.tokenization_vanilla_transformer import VanillaTransformerTokenizer
    from .modeling_vanilla_transformer import (
        VanillaTransformerDecoderModel,
        VanillaTransformerEncoderModel,
        VanillaTransformerForCausalLM,
        VanillaTransformerForConditionalGeneration,
        VanillaTransformerForMaskedLM,
        VanillaTransformerForSequenceClassification,
        VanillaTransformerForTokenClassification,
        VanillaTransformerModel,
    )

    return {
        "AutoConfig": (VanillaTransformerConfig,),
        "AutoTokenizer": (VanillaTransformerTokenizer, FairseqTokenizer, FsmtTokenizer),
        "AutoModel": (
            VanillaTransformerModel,
            VanillaTransformerEncoderModel,
            VanillaTransformerDecoderModel,
        ),
        "AutoModelForCausalLM": (VanillaTransformerForCausalLM,),
        "AutoModelForMaskedLM": (VanillaTransformerForMaskedLM,),
        "AutoModelForSeq2SeqLM": (VanillaTransformerForConditionalGeneration,),
        "AutoModelForSequenceClassification": (VanillaTransformerForSequenceClassification,),
        "AutoModelForTextEncoding": (VanillaTransformerEncoderModel,),
        "AutoModelForTokenClassification": (VanillaTransformerForTokenClassification,),
    }


def class_reference(cls: type) -> str:
    """How `auto_map` and `custom_pipelines` name a class: the file beside the weights, a dot, the class."""
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"


def code_references(architecture: str) -> dict[str, Any]:
    """The entries of config.json that say which class of the code beside it each Auto class loads.

    Args:
        architecture: name of the class whose weights are beside config.json.

    Returns:
        `auto_map`, and `custom_pipelines` for a model that translates.
    """
    from ..configuration.configuration_vanilla_transformer import BASE_MODELS

    base = BASE_MODELS.get(architecture, architecture)
    chosen = {
        auto: next((cls for cls in classes if cls.__name__ == base), classes[0])
        for auto, classes in auto_classes().items()
        if auto != "AutoTokenizer"
    }
    references: dict[str, Any] = {"auto_map": {auto: class_reference(cls) for auto, cls in chosen.items()}}
    if architecture == auto_classes()["AutoModelForSeq2SeqLM"][0].__name__:
        references["custom_pipelines"] = custom_pipelines()
    return references


def architecture_of(cls: type) -> str:
    """The name of the class of ours whose weights an object of `cls` has.

    FSDP makes a class of its own of each model, and a user may derive one.
    """
    own = {one.__name__ for classes in auto_classes().values() for one in classes}
    return next((base.__name__ for base in cls.__mro__ if base.__name__ in own), cls.__name__)


def custom_pipelines() -> dict[str, dict[str, Any]]:
    """The entry `custom_pipelines` of config.json: the pipeline that transformers no longer has."""
    from .pipeline_vanilla_transformer import TranslationPipeline

    return {"translation": {"impl": class_reference(TranslationPipeline), "pt": ["AutoModelForSeq2SeqLM"]}}


def add_references(folder: str | Path) -> None:
    """Name the code in a folder that was saved without it; write it with `write_code`."""
    config = Path(folder) / "config.json"
    values = json.loads(config.read_text("utf-8"))
    for architecture in values.get("architectures") or [""]:
        _update_json(config, code_references(architecture))
    tokenizer = Path(folder) / "tokenizer_config.json"
    name = json.loads(tokenizer.read_text("utf-8")).get("tokenizer_class") if tokenizer.is_file() else None
    for cls in auto_classes()["AutoTokenizer"]:
        if cls.__name__ == name:
            _update_json(tokenizer, {"auto_map": {"AutoTokenizer": [class_reference(cls), None]}})


def _update_json(path: Path, changes: dict[str, Any]) -> None:
    values = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


def source_files() -> list[Path]:
    """This file and all that it imports of ours, directly or not, sorted by name."""
    found: dict[str, Path] = {}
    remaining = [Path(__file__)]
    while remaining:
        path = remaining.pop()
        if path.name in found:
            continue
        found[path.name] = path
        for match in _OUR_IMPORT.finditer(path.read_text("utf-8")):
            folder = path.parents[len(match[2]) - 1]
            remaining.append(folder.joinpath(*match[3].split(".")).with_suffix(".py"))
    return [found[name] for name in sorted(found)]


def write_code(folder: str | Path) -> None:
    """Write the flat copy of our code into `folder`: the same files, run from the package or from a copy."""
    for path in source_files():
        flat = _OUR_IMPORT.sub(r"\1.\4\5", path.read_text("utf-8"))
        (Path(folder) / path.name).write_text(flat, "utf-8")


@contextmanager
def files_written_whole(folder: str | Path) -> Iterator[Path]:
    """A folder to write into, whose files take their places in `folder` when the block ends without an error.

    A new `folder` appears as a whole. In one that exists each file is exchanged by a rename, weights last and
    all put back if one rename fails; weights of an earlier model that new ones do not replace are removed,
    those of another `variant` excepted. Whatever else is there stays.

    Args:
        folder: where the files are to be.

    Raises:
        NotADirectoryError: there is a file of that name.
        ValueError: a whole model, such as one merged with its adapter, was written over an adapter.
    """
    final = Path(folder).absolute()
    if final.is_file():
        raise NotADirectoryError(errno.ENOTDIR, "is a file, not a folder", str(final))
    # On the file system of the folder itself, which alone makes a rename atomic.
    place = final if final.is_dir() else final.parent
    place.mkdir(parents=True, exist_ok=True)
    beside = place / f".{final.name}.incomplete-{uuid.uuid4().hex[:12]}"
    beside.mkdir()
    try:
        yield beside
        apply_umask(beside)
        flush(beside)
        try:
            beside.rename(final)
        except OSError:
            if not final.is_dir():
                raise
            _exchange(beside, final)  # it was there, or another process has just made it
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def apply_umask(folder: Path) -> None:
    """Let others read the files of a new folder as they may the folder itself, whose mode the umask gave.

    safetensors lets nobody else read what it writes.
    """
    wanted = folder.stat().st_mode & 0o666
    for path in filter(Path.is_file, folder.rglob("*")):
        mode = path.stat().st_mode
        if mode | wanted != mode:
            path.chmod(mode | wanted)


def flush(folder: Path) -> None:
    """Force the files to disk, so that a power failure after the rename finds them whole."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("r+b") as file:  # Windows flushes no file that is open for reading alone
                os.fsync(file.fileno())


def _exchange(beside: Path, final: Path) -> None:
    """Move the files of `beside` over those of `final`, or leave `final` as it was."""
    new = [path.relative_to(beside) for path in beside.rglob("*") if path.is_file()]
    new.sort(key=lambda path: (weights_variant(path.name) is not None, path))
    adapter = Path(ADAPTER_CONFIG_FILE)
    whole = any(weights_variant(path.name) is not None for path in new)
    if whole and adapter not in new and (final / adapter).is_file():
        raise ValueError(
            f"`{final}` holds an adapter, which would be applied once more to the model saved there: save it"
            f" into another folder, or delete {ADAPTER_CONFIG_FILE} first."
        )
    kept = beside / ".earlier"
    kept.mkdir()
    moved: list[Path] = []
    there = {path for path in new if (final / path).exists()}
    try:
        for path in new:
            (final / path).parent.mkdir(parents=True, exist_ok=True)
            _keep(final / path, kept / str(len(moved)))
            os.replace(beside / path, final / path)
            moved.append(path)
    except BaseException:
        for number, path in enumerate(moved):
            # Where nothing could be kept, the new file is all that there is.
            if (kept / str(number)).exists() or path not in there:
                _put_back(kept / str(number), final / path)
        raise
    variants = {weights_variant(path.name) for path in new} - {None}
    for path in final.iterdir():
        if weights_variant(path.name) in variants and Path(path.name) not in new:
            path.unlink()


def weights_variant(name: str) -> str | None:
    """The `variant` that a file of weights is of, "" for none; `None` for a file of another kind."""
    match = _WEIGHTS.fullmatch(name)
    return None if match is None else match["file"] or match["index"] or ""


def _keep(path: Path, link: Path) -> None:
    # A file system without hard links keeps nothing; there only each single file is safe.
    with suppress(OSError):
        os.link(path, link)


def _put_back(link: Path, path: Path) -> None:
    if link.exists():
        os.replace(link, path)
    else:
        path.unlink(missing_ok=True)
