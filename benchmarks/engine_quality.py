"""What the inference engines make of a trained model: the same translations, as good ones, in which time.

The model is exported to CTranslate2 (weights in float32 and in int8) and to ONNX, and the same text
translated by each, greedily, by the paper's search, and by a beam search under CTranslate2's own rules.
"same" is the share of translations that are word for word ours under the same rules; the paper's search is
approximate in CTranslate2, which ranks its n best anew. Engines that are not installed are left out and are
named.

    python benchmarks/engine_quality.py --model runs/demo --source test.zh --references test.en --json FILE
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from side_by_side import tell_left_out

from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.lines import load_aligned_lines
from vanilla_transformer.scripts.support.models import load_model
from vanilla_transformer.scripts.support.options import parser_of, positive

MEGABYTE = 10**6
# Name: engine, and how its weights are stored.
ENGINES = {
    "ctranslate2 float32": ("ctranslate2", "float32"),
    "ctranslate2 int8": ("ctranslate2", "int8"),
    "onnx float32": ("onnx", None),
}
LIBRARIES = {"ctranslate2": "ctranslate2", "onnx": "onnxruntime"}
COLUMNS = ("same %", "BLEU", "CPU seconds", "MB on disk")
TITLES = ("Search", "System", *COLUMNS)
Results = dict[str, dict[str, dict[str, float]]]


def searches() -> dict[str, dict[str, Any]]:
    """Return how each row searches, by the name that it is shown under."""
    from vanilla_transformer.modeling.generation_vanilla_transformer import (
        CTRANSLATE2_DECODING,
        PAPER_DECODING,
    )

    limit = {"max_length_beyond_source": PAPER_DECODING["max_length_beyond_source"]}
    return {
        "greedy": {"num_beams": 1, **limit},
        "beam 4, the paper's": PAPER_DECODING,
        "beam 4, CTranslate2's": {"num_beams": 4, "length_penalty": 0.6, **limit, **CTRANSLATE2_DECODING},
    }


def export(model: Any, folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return the exported models, ready to translate, each in a folder of its own inside `folder`."""
    from vanilla_transformer.interop import save_ctranslate2, save_onnx
    from vanilla_transformer.modeling.engines import load_engine

    engines = {}
    for name in names:
        backend, kind = ENGINES[name]
        place = folder / name.replace(" ", "-")
        place.mkdir()
        if kind is None:
            save_onnx(model, place)
        else:
            save_ctranslate2(model, place, quantization=kind)
        engines[name] = load_engine(backend, place)
    return engines


def not_installed(names: Sequence[str]) -> dict[str, str]:
    """Return the engines that cannot run, and why."""
    libraries = {name: LIBRARIES[ENGINES[name][0]] for name in names}
    return {
        name: f"{library} is not installed" for name, library in libraries.items() if not find_spec(library)
    }


def bytes_on_disk(folder: Path) -> int:
    """Return the size of the weights in a folder."""
    return sum(
        path.stat().st_size for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".onnx")
    )


def measure(
    systems: dict[str, tuple[Any, Path]],
    tokenizer: Any,
    sources: Sequence[str],
    score: Callable[[Sequence[str]], float],
) -> Results:
    """Return the figures of `COLUMNS` for each system under each search; the first one is ours."""
    from vanilla_transformer.modeling.translation_vanilla_transformer import translate

    results: Results = {}
    for search, options in searches().items():
        ours: list[str] | None = None
        results[search] = {}
        for name, (model, folder) in systems.items():
            list(translate(model, tokenizer, sources[:8], **options))  # what happens only once is not timed
            start = time.process_time()
            found = list(translate(model, tokenizer, sources, **options))
            seconds = time.process_time() - start
            ours = ours or found
            same = 100 * sum(map(str.__eq__, ours, found)) / len(ours)
            row = (same, score(found), seconds, bytes_on_disk(folder) / MEGABYTE)
            results[search][name] = dict(zip(COLUMNS, row, strict=True))
    return results


def table_rows(results: Results) -> list[list[str]]:
    """Return the results as they are shown."""
    return [
        [search, name, *(f"{figures[column]:.2f}" for column in COLUMNS)]
        for search, systems in results.items()
        for name, figures in systems.items()
    ]


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="folder of a trained model and its tokenizer")
    add("--source", required=True, help="text to translate, a sentence a line, or .gz")
    add("--references", required=True, help="its translation, line by line")
    add("--target-lang", default="en", help="target language, for BLEU's word splitter (default: en)")
    add("--sentences", type=positive, help="translate only so many (default: all)")
    add("--systems", nargs="+", choices=ENGINES, default=list(ENGINES), help="engines (default: all)")
    add("--threads", type=positive, default=1, help="CPU threads (default: 1)")
    add("--json", type=Path, help="write the figures here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    arguments = parse_arguments(argv)
    return run_script(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Export, translate, and print a table."""
    from vanilla_transformer.training import metrics
    from vanilla_transformer.training.reports import show_report

    torch.set_num_threads(arguments.threads)
    texts = load_aligned_lines([arguments.source, arguments.references])
    sources, references = (lines[: arguments.sentences] for lines in texts)
    model, tokenizer = load_model(str(arguments.model), device="cpu", dtype="float32")

    options: dict[str, Any] = {"language": arguments.target_lang, "lowercase": metrics.lower_cases(tokenizer)}

    def bleu(found: Sequence[str]) -> float:
        scores = metrics.score(found, [references], metrics=("bleu",), **options)
        return float(scores["bleu"])

    left_out = not_installed(arguments.systems)
    tell_left_out(left_out)
    with tempfile.TemporaryDirectory() as folder:
        installed = [name for name in arguments.systems if name not in left_out]
        engines = export(model, Path(folder), installed)
        systems = {"ours": (model, arguments.model)}
        systems |= {name: (engine, engine.folder) for name, engine in engines.items()}
        results = measure(systems, tokenizer, sources, bleu)
    show_report(
        arguments.json,
        titles=TITLES,
        rows=table_rows(results),
        device="cpu",
        figures=results,
        left_out=left_out,
    )


if __name__ == "__main__":
    raise SystemExit(main())
