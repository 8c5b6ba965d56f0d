"""A Space for a published model: the page that `vanilla-transformer demo` opens, with the code behind it.

The weights stay in the model's own repository. The package comes along, so that the Space needs nothing of
ours from elsewhere, and no remote code.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path

from huggingface_hub import SpaceCard, SpaceCardData
from packaging.requirements import Requirement

PACKAGE = __name__.partition(".")[0]
FOLDERS = ("", ".configuration", ".tokenization", ".modeling", ".inspection")
# Of Gradio and Python, which a Space takes from its card.
GRADIO_VERSION = "6.31.0"
PYTHON_VERSION = "3.12"
FONTS = "fonts-noto-cjk\nfonts-noto-core"
CARD = """---
{data}
---

# {name}

The page of [{model}](https://huggingface.co/{model}), a Transformer trained with `vanilla-transformer`:
translations with their scores, and the attention, positions and steps of decoding behind them. `app.py` loads
the model from its repository; if that is private, give the Space a secret `HF_TOKEN` that may read it.
"""
APP = '''"""The page of a model trained with vanilla-transformer, whose code lies beside this file."""

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import vanilla_transformer  # noqa: F401 (makes the Auto classes know the model)
from vanilla_transformer.inspection.app import build_app

MODEL = {model!r}
REVISION = {revision!r}
EXAMPLES = {examples!r}

model = AutoModelForSeq2SeqLM.from_pretrained(MODEL, revision=REVISION).eval()
tokenizer = AutoTokenizer.from_pretrained(MODEL, revision=REVISION)
build_app(model, tokenizer, examples=EXAMPLES, title=MODEL).launch()
'''


def write_space(
    folder: str | Path,
    model: str,
    *,
    revision: str = "main",
    examples: Sequence[str] = (),
    license: str | None = None,
    extras: Sequence[str] = ("demo",),
) -> None:
    """Write what a Space holds: its card, `app.py`, what is to be installed, and our code.

    Args:
        folder: an empty folder.
        model: `owner/name` of the model on the Hub.
        revision: branch, tag or commit of the model.
        examples: sentences to click.
        license: identifier of a licence, such as "apache-2.0"; without one none is stated.
        extras: those of our package that the page needs; a converted tokenizer needs "convert", too.
    """
    folder = Path(folder)
    name = model.rpartition("/")[2]
    data = SpaceCardData(
        title=name,
        sdk="gradio",
        sdk_version=GRADIO_VERSION,
        python_version=PYTHON_VERSION,
        app_file="app.py",
        license=license,
        models=[model],
    )
    card = CARD.format(data=data.to_yaml(), name=name, model=model)
    SpaceCard(card, ignore_metadata_errors=False)
    app = APP.format(model=model, revision=revision, examples=list(examples))
    texts = {
        "README.md": card,
        "app.py": app,
        "packages.txt": FONTS,
        "requirements.txt": "\n".join(requirements(extras)),
    }
    for file, text in texts.items():
        (folder / file).write_text(f"{text.rstrip()}\n", "utf-8")
    for part in FOLDERS:
        _copy_package(f"{PACKAGE}{part}", folder)


def _copy_package(package: str, folder: Path) -> None:
    target = folder.joinpath(*package.split("."))
    target.mkdir()
    for path in Path(import_module(package).__path__[0]).glob("*.py"):
        (target / path.name).write_bytes(path.read_bytes())


def requirements(extras: Sequence[str] = ("demo",)) -> list[str]:
    """What the page needs, as our package names it; Gradio itself comes with the Space."""

    def is_wanted(one: Requirement) -> bool:
        return one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras)

    known = [Requirement(line) for line in metadata.requires("vanilla-transformer") or []]
    return sorted(f"{one.name}{one.specifier}" for one in known if one.name != "gradio" and is_wanted(one))
