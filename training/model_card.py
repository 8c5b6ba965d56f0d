"""The model card of a training run: `model_card.md` filled with what the run's folder says."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..errors import InputError
from . import checkpoints
from .checkpoints import CURVES_FILE, RECIPE_FILE, RESULTS_FILE
from .recipe import TrainRecipe, load_recipe

LANGUAGES = {
    "ar": "Arabic", "cs": "Czech", "de": "German", "en": "English", "es": "Spanish", "fi": "Finnish",
    "fr": "French", "hi": "Hindi", "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sv": "Swedish", "tr": "Turkish",
    "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
METRICS = {"bleu": "BLEU", "chrf": "chrF", "loss": "loss per token (nats)", "perplexity": "perplexity"}
# Of a path in the recipe only the last part is told.
_PATH_KEYS = re.compile(r".*_(source|target|file)|dataset|tokenizer|init_from|output_dir")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$!])")


def render_model_card(
    folder: str | Path, repo_id: str, *, license: str | None = None, base_model: str | None = None
) -> ModelCard:
    """The card of the model in `folder`; what the folder does not tell is not in the card.

    Args:
        folder: a saved model; config.json is read, and where they are there generation_config.json,
            results.json, recipe.yaml and training_curves.png.
        repo_id: the repository, as the model is to be loaded from.
        license: identifier of a licence, such as "apache-2.0"; without one none is stated.
        base_model: Hub name of the model that this one was fine-tuned from.

    Raises:
        InputError: a file is missing or damaged, or the metadata are none.
    """
    folder = Path(folder)
    config = checkpoints.read_json(folder / "config.json")
    results = _optional(folder / RESULTS_FILE)
    recipe = load_recipe(folder / RECIPE_FILE) if (folder / RECIPE_FILE).is_file() else None
    rows = _rows(results, recipe)
    template = resources.files("vanilla_transformer").joinpath("model_card.md").read_text("utf-8")
    data = _metadata(repo_id, config, recipe, rows, license, base_model)
    values = {
        **_model_values(config, _optional(folder / "generation_config.json")),
        **_training_values(results, recipe),
        "model_id": repo_id,
        "model_name": repo_id.rpartition("/")[2],
        "license_name": license,
        "base_model_name": base_model,
        "results": rows,
        "curves": CURVES_FILE if (folder / CURVES_FILE).is_file() else None,
    }
    escaped = {name: value if name in _RAW else _escape(value) for name, value in values.items()}
    try:
        return ModelCard.from_template(data, template_str=template, **escaped)
    except ValueError as error:
        raise InputError(f"the model card cannot be written: {' '.join(str(error).split())}") from None


# Values for code blocks, where nothing is special, and what only decides.
_RAW = frozenset({"model_id", "recipe", "fence", "translates", "curves"})


def _optional(path: Path) -> dict[str, Any]:
    return checkpoints.read_json(path) if path.is_file() else {}


def _escape(value: Any) -> Any:
    """Text that shows as it is in Markdown and in its tables, in lists and dictionaries too."""
    if isinstance(value, str):
        return _SPECIAL.sub(r"\\\1", " ".join(value.split()))
    if isinstance(value, dict):
        return {key: _escape(item) for key, item in value.items()}
    return [_escape(item) for item in value] if isinstance(value, list) else value


def _model_values(config: dict[str, Any], generation: dict[str, Any]) -> dict[str, Any]:
    from ..configuration import VanillaTransformerConfig

    whole = VanillaTransformerConfig.from_dict(config)
    architecture = (config.get("architectures") or ["model"])[0]
    translates = architecture == "VanillaTransformerForConditionalGeneration"
    return {
        "architecture": architecture,
        "translates": translates,
        "parameters": f"{whole.num_parameters:,}" if translates else None,
        "shape": (
            f"{whole.encoder_layers} + {whole.decoder_layers} layers, width {whole.d_model},"
            f" {whole.encoder_attention_heads} heads, feed-forward width {whole.encoder_ffn_dim},"
            f" {whole.norm_position}-norm"
        ),
        "vocab_size": f"{whole.vocab_size:,}",
        "decoding": _decoding(generation),
    }


def _decoding(generation: dict[str, Any]) -> str:
    beams = generation.get("num_beams") or 1
    if beams == 1:
        return "greedy search"
    penalty = generation.get("length_penalty")
    return f"beam search with {beams} beams" + ("" if penalty is None else f" and length penalty {penalty}")


def _training_values(results: dict[str, Any], recipe: TrainRecipe | None) -> dict[str, Any]:
    """What is known of the training; each value is absent where it was not recorded."""
    seconds = results.get("training_seconds")
    values: dict[str, Any] = {
        "steps": results.get("steps"),
        "pairs": results.get("training_pairs"),
        "hardware": results.get("hardware"),
        "software": results.get("software"),
        "training_time": None if seconds is None else _duration(seconds),
    }
    if recipe is not None:
        values |= {
            "source_language": _language(recipe.source_lang),
            "target_language": _language(recipe.target_lang),
            "training_data": _data_name(recipe, "train"),
            "longest_source": None if recipe.long_sentences == "keep" else recipe.max_source_length,
            **_recipe_block(recipe),
        }
    return values


def _language(code: str | None) -> str | None:
    return None if code is None else LANGUAGES.get(code.partition("-")[0].lower(), code)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{seconds / 60:.1f} min"


def _data_name(recipe: TrainRecipe, part: str) -> str | None:
    """The data set and its split, or the names of the files."""
    names = [getattr(recipe, f"{part}_{key}") for key in ("source", "target", "file")]
    files = [Path(name).name for name in names if name is not None]
    if files:
        return " and ".join(files)
    split = getattr(recipe, f"{part}_split")
    if recipe.dataset is None or split is None:
        return None
    return ", ".join(filter(None, [_last_part(recipe.dataset), recipe.dataset_config, f"split {split}"]))


def _last_part(name: str) -> str:
    """A Hub name as it is, of a path the last part."""
    is_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    return Path(name).name if is_path else name


def _recipe_block(recipe: TrainRecipe) -> dict[str, str]:
    """The recipe without the folders of the machine, and a fence longer than any run of backticks in it."""
    values = {
        key: Path(value).name if isinstance(value, str) and _PATH_KEYS.fullmatch(key) else value
        for key, value in recipe.to_dict().items()
    }
    for key in ("dataset", "tokenizer", "init_from"):
        values[key] = None if values[key] is None else _last_part(getattr(recipe, key))
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip()
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return {"recipe": text, "fence": "`" * max(3, longest + 1)}


def _rows(results: dict[str, Any], recipe: TrainRecipe | None) -> list[dict[str, Any]]:
    """One row for each score of the final model that the run measured."""
    test_set = (recipe and _data_name(recipe, "valid")) or "validation data"
    signatures = results.get("signatures", {})
    return [
        {
            "test_set": test_set,
            "key": name,
            "metric": METRICS[name],
            "value": round(value, 3),
            "signature": signatures.get(name, ""),
        }
        for name, value in results.get("scores", {}).get("final", {}).items()
        if name in METRICS
    ]


def _metadata(
    repo_id: str,
    config: dict[str, Any],
    recipe: TrainRecipe | None,
    rows: list[dict[str, Any]],
    license: str | None,
    base_model: str | None,
) -> ModelCardData:
    translates = "VanillaTransformerForConditionalGeneration" in (config.get("architectures") or [])
    languages = [code for code in (recipe and recipe.source_lang, recipe and recipe.target_lang) if code]
    hub_dataset = recipe is not None and recipe.dataset is not None and not Path(recipe.dataset).exists()
    scored = [_eval_result(row) for row in rows if row["key"] in ("bleu", "chrf")]
    return ModelCardData(
        language=languages or None,
        license=license,
        library_name="transformers",
        pipeline_tag="translation" if translates else None,
        tags=["vanilla_transformer"],
        datasets=[recipe.dataset] if hub_dataset and recipe is not None else None,  # type: ignore[list-item]
        base_model=base_model,
        metrics=[row.metric_type for row in scored] or None,
        model_name=repo_id.rpartition("/")[2],
        eval_results=scored or None,
    )


def _eval_result(row: dict[str, Any]) -> EvalResult:
    return EvalResult(
        task_type="translation",
        dataset_type="custom",
        dataset_name=row["test_set"],
        dataset_split="validation",
        metric_type=row["key"],
        metric_name=row["metric"],
        metric_value=row["value"],
        metric_args={"signature": row["signature"]} if row["signature"] else None,
    )


def metadata_of(card: str) -> dict[str, Any]:
    """The metadata block of a model card, checked as the Hub's client checks it.

    Raises:
        InputError: there is none, or it is malformed.
    """
    try:
        data: dict[str, Any] = ModelCard(card, ignore_metadata_errors=False).data.to_dict()
        json.dumps(data, default=str)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"the model card has no usable metadata: {' '.join(str(error).split())}") from None
    return data
