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
from ..files import read_json
from ..modeling.hub_vanilla_transformer import head_of
from .checkpoints import CURVES_FILE, RESULTS_FILE
from .recipe import (
    ClassifierRecipe,
    LanguageModelRecipe,
    RunRecipe,
    TrainRecipe,
    recipe_of_model,
)

LANGUAGES = {
    "ar": "Arabic", "cs": "Czech", "de": "German", "en": "English", "es": "Spanish", "fi": "Finnish",
    "fr": "French", "hi": "Hindi", "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sv": "Swedish", "tr": "Turkish",
    "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
METRICS = {
    "bleu": "BLEU", "chrf": "chrF", "accuracy": "accuracy", "f1": "F1 (macro average)",
    "loss": "loss per token (nats)", "perplexity": "perplexity",
}  # fmt: skip
# What the metadata of a card tell; loss and perplexity depend on the vocabulary.
_SCORES = ("bleu", "chrf", "accuracy", "f1")
# What the rows are that a run counts.
_ROWS: dict[type[RunRecipe], str] = {LanguageModelRecipe: "pieces of text", ClassifierRecipe: "texts"}
# Of a path in the recipe only the last part is told.
_PATH_KEYS = re.compile(r".*_(source|target|file|text)|word_vectors|output_dir")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$!])")


def render_model_card(
    folder: str | Path, repo_id: str, *, license: str | None = None, base_model: str | None = None
) -> ModelCard:
    """The card of the model in `folder`; what the folder does not tell is not in the card.

    Args:
        folder: a saved model; config.json is read, and where they are there generation_config.json,
            results.json, recipe.yaml (of a checkpoint that of its run) and training_curves.png.
        repo_id: the repository, as the model is to be loaded from.
        license: identifier of a licence, such as "apache-2.0"; without one none is stated.
        base_model: Hub name of the model that this one was fine-tuned from.

    Raises:
        InputError: a file is missing or damaged, or the metadata are none.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    results = _optional(folder / RESULTS_FILE)
    recipe = recipe_of_model(folder)
    auto_class, task = head_of(_architecture(config))
    rows = _rows(results, recipe)
    template = resources.files("vanilla_transformer").joinpath("model_card.md").read_text("utf-8")
    data = _metadata(repo_id, task, recipe, rows, license, base_model, results.get("hub_dataset"))
    values = {
        **_model_values(config, _optional(folder / "generation_config.json")),
        **_training_values(results, recipe),
        "auto_class": auto_class,
        "model_id": repo_id,
        "model_name": repo_id.rpartition("/")[2],
        "license_name": license,
        "base_model_name": base_model,
        "results": rows,
        "chosen": results.get("final_model") in ("best", "average_best"),
        "curves": CURVES_FILE if (folder / CURVES_FILE).is_file() else None,
    }
    escaped = {name: value if name in _RAW else _escape(value) for name, value in values.items()}
    try:
        return ModelCard.from_template(data, template_str=template, **escaped)
    except ValueError as error:
        raise InputError(f"the model card cannot be written: {' '.join(str(error).split())}") from None


# Values for code blocks, where nothing is special, and what only decides.
_RAW = frozenset({"model_id", "recipe", "fence", "translates", "curves", "chosen"})


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _architecture(config: dict[str, Any]) -> str:
    return str((config.get("architectures") or ["model"])[0])


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
    architecture = _architecture(config)
    translates = architecture == "VanillaTransformerForConditionalGeneration"
    layers, heads, ffn_dim = (_of_both(whole, size) for size in ("layers", "attention_heads", "ffn_dim"))
    return {
        "architecture": architecture,
        "translates": translates,
        "parameters": f"{whole.num_parameters:,}" if translates else None,
        "shape": (
            f"{layers} layers, width {whole.d_model}, {heads} heads, feed-forward width {ffn_dim},"
            f" {whole.norm_position}-norm"
        ),
        "vocab_size": f"{whole.vocab_size:,}",
        "decoding": _decoding(generation),
    }


def _of_both(config: Any, size: str) -> str:
    """A size of encoder and decoder, "6 + 6" layers for instance; one number where it is that of each."""
    encoder, decoder = (getattr(config, f"{stack}_{size}") for stack in ("encoder", "decoder"))
    # The sizes of a decoder that stands alone are the encoder's too.
    one = not config.is_encoder_decoder or (encoder == decoder and size != "layers")
    return f"{encoder}" if one else f"{encoder} + {decoder}"


def _decoding(generation: dict[str, Any]) -> str:
    beams = generation.get("num_beams") or 1
    if generation.get("do_sample"):
        return "sampling" if beams == 1 else f"sampling with {beams} beams"
    if beams == 1:
        return "greedy search"
    penalty = generation.get("length_penalty")
    kind = "the GNMT length penalty" if generation.get("length_penalty_type") == "gnmt" else "length penalty"
    return f"beam search with {beams} beams" + ("" if penalty is None else f" and {kind} {penalty}")


def _training_values(results: dict[str, Any], recipe: RunRecipe | None) -> dict[str, Any]:
    """What is known of the training; each value is absent where it was not recorded."""
    seconds = results.get("training_seconds")
    values: dict[str, Any] = {
        "steps": results.get("steps"),
        "count": results.get("training_pairs"),
        "rows": "pairs" if recipe is None else _ROWS.get(type(recipe), "pairs"),
        "hardware": results.get("hardware"),
        "software": results.get("software"),
        "training_time": None if seconds is None else _duration(seconds),
    }
    if recipe is not None:
        values |= {
            "source_language": _language(getattr(recipe, "source_lang", None)),
            "target_language": _language(getattr(recipe, "target_lang", None)),
            "training_data": _data_name(recipe, "train"),
            "longest_source": _longest_source(recipe),
            **_recipe_block(recipe),
        }
    return values


def _longest_source(recipe: RunRecipe) -> int | None:
    if not isinstance(recipe, TrainRecipe) or recipe.long_sentences == "keep":
        return None
    return recipe.max_source_length


def _language(code: str | None) -> str | None:
    return None if code is None else LANGUAGES.get(code.partition("-")[0].lower(), code)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{seconds / 60:.1f} min"


def _data_name(recipe: RunRecipe, part: str) -> str | None:
    """The data set and its split, or the names of the files."""
    names = [getattr(recipe, f"{part}_{key}", None) for key in ("source", "target", "file", "text")]
    files = [Path(name).name for name in names if name is not None]
    if files:
        return " and ".join(files)
    split = getattr(recipe, f"{part}_split", None)
    if not isinstance(recipe, TrainRecipe) or recipe.dataset is None or split is None:
        return None
    return ", ".join(filter(None, [_last_part(recipe.dataset), recipe.dataset_config, f"split {split}"]))


def _last_part(name: str) -> str:
    """A Hub name as it is, of a path the last part."""
    is_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    return Path(name).name if is_path or Path(name).exists() else name


def _recipe_block(recipe: RunRecipe) -> dict[str, str]:
    """The recipe without the folders of the machine, and a fence longer than any run of backticks in it."""
    values = {
        key: Path(value).name if isinstance(value, str) and _PATH_KEYS.fullmatch(key) else value
        for key, value in recipe.to_dict().items()
    }
    for key in ("dataset", "tokenizer", "init_from"):
        if values.get(key) is not None:
            values[key] = _last_part(getattr(recipe, key))
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip()
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return {"recipe": text, "fence": "`" * max(3, longest + 1)}


def _rows(results: dict[str, Any], recipe: RunRecipe | None) -> list[dict[str, Any]]:
    """One row for each score of the final model that the run measured."""
    test_set = (recipe and _data_name(recipe, "valid")) or "validation data"
    signatures = results.get("signatures", {})
    metrics = METRICS | ({"loss": "loss per text (nats)"} if isinstance(recipe, ClassifierRecipe) else {})
    return [
        {
            "test_set": test_set,
            "key": name,
            "metric": metrics[name],
            "value": round(value, 3),
            "signature": signatures.get(name, ""),
        }
        for name, value in results.get("scores", {}).get("final", {}).items()
        if name in metrics
    ]


def _metadata(
    repo_id: str,
    task: str | None,
    recipe: RunRecipe | None,
    rows: list[dict[str, Any]],
    license: str | None,
    base_model: str | None,
    dataset: str | None,
) -> ModelCardData:
    languages = [
        code for code in (getattr(recipe, f"{side}_lang", None) for side in ("source", "target")) if code
    ]
    split = getattr(recipe, "valid_split", None) or "validation"
    scored = [_eval_result(row, str(task), split) for row in rows if row["key"] in _SCORES]
    return ModelCardData(
        language=languages or None,
        license=license,
        library_name="transformers",
        pipeline_tag=task,
        tags=["vanilla_transformer"],
        datasets=None if dataset is None else [dataset],
        base_model=base_model,
        metrics=[row.metric_type for row in scored] or None,
        model_name=repo_id.rpartition("/")[2],
        eval_results=scored or None,
    )


def _eval_result(row: dict[str, Any], task: str, split: str) -> EvalResult:
    return EvalResult(
        task_type=task,
        dataset_type="custom",
        dataset_name=row["test_set"],
        dataset_split=split,
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
        if not data:
            raise ValueError("it must begin with a block of YAML between lines of ---.")
        json.dumps(data, default=str)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"the model card has no usable metadata: {' '.join(str(error).split())}") from None
    return data
