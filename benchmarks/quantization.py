"""What int8 weights cost and save: size on disk and in memory, time and quality of the same translations.

The model is loaded as it is and once more with `quantization_config`, by torchao's weight-only int8: each
linear layer of encoder and decoder keeps a byte for each weight and a scale for each row. The embeddings, and
the projection that is tied to them, stay as they are. Both translate the same text with the decoding that the
model was saved with. torchao comes with `pip install '.[quant]'`.

    python benchmarks/quantization.py --model runs/demo --source test.zh --references test.en --target-lang en
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.lines import load_aligned_lines
from vanilla_transformer.scripts.support.models import load_model
from vanilla_transformer.scripts.support.options import parser_of, positive

MEGABYTE = 10**6
KINDS = ("as saved", "int8")
COLUMNS = ("MB on disk", "MB in memory", "seconds", "BLEU", "chrF")
TITLES = ("Weights", *COLUMNS)


def load(folder: Path, kind: str) -> tuple[Any, Any]:
    """Return the model of a folder, on the CPU, as it was saved or with int8 weights, and its tokenizer."""
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    quantization = TorchAoConfig(Int8WeightOnlyConfig()) if kind == "int8" else None
    return load_model(str(folder), device="cpu", quantization_config=quantization)


def tensor_bytes(tensor: torch.Tensor) -> int:
    """Return the bytes that a tensor takes; for a quantized one those of the tensors it is made of."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return tensor.numel() * tensor.element_size()
    names, _ = tensor.__tensor_flatten__()
    return sum(tensor_bytes(getattr(tensor, name)) for name in names)


def bytes_in_memory(model: torch.nn.Module) -> int:
    """Return the bytes of all parameters, each tied one once."""
    return sum(tensor_bytes(parameter) for parameter in model.parameters())


def bytes_on_disk(model: Any) -> int:
    """Return the bytes of the weights that `save_pretrained` writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))


def measure(model: Any, tokenizer: Any, sources: Sequence[str], references: Sequence[str], lang: str) -> Any:
    """Return the figures of `COLUMNS` for one model."""
    from vanilla_transformer.modeling.translation_vanilla_transformer import translate
    from vanilla_transformer.training.metrics import lower_cases, score

    list(translate(model, tokenizer, sources[:8]))  # what happens only once is not timed
    start = time.perf_counter()
    hypotheses = list(translate(model, tokenizer, sources))
    seconds = time.perf_counter() - start
    options: dict[str, Any] = {"language": lang, "lowercase": lower_cases(tokenizer)}
    scores = score(hypotheses, [references], metrics=("bleu", "chrf"), **options)
    sizes = (bytes_on_disk(model) / MEGABYTE, bytes_in_memory(model) / MEGABYTE)
    return dict(zip(COLUMNS, (*sizes, seconds, scores["bleu"], scores["chrf"]), strict=True))


def table_rows(results: dict[str, dict[str, float]]) -> list[list[str]]:
    """Return the results as they are shown."""
    return [[kind, *(f"{figures[column]:.2f}" for column in COLUMNS)] for kind, figures in results.items()]


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="folder of a trained model and its tokenizer")
    add("--source", required=True, help="text to translate, a sentence a line, or .gz")
    add("--references", required=True, help="its translation, line by line")
    add("--target-lang", default="en", help="target language, for BLEU's word splitter (default: en)")
    add("--sentences", type=positive, help="translate only so many (default: all)")
    add("--json", type=Path, help="write the figures here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    arguments = parse_arguments(argv)
    return run_script(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Measure both and print a table."""
    from vanilla_transformer.training.reports import show_report

    texts = load_aligned_lines([arguments.source, arguments.references])
    sources, references = (lines[: arguments.sentences] for lines in texts)
    results = {
        kind: measure(*load(arguments.model, kind), sources, references, arguments.target_lang)
        for kind in KINDS
    }
    show_report(arguments.json, titles=TITLES, rows=table_rows(results), device="cpu", figures=results)


if __name__ == "__main__":
    raise SystemExit(main())
