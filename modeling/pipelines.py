"""`pipeline`: transformers' function of the same name, which also translates again."""

import re
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    Pipeline,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .engines import EngineModel, load_engine
from .loading import check_complete, check_translates, tokenizer_place
from .pipeline_vanilla_transformer import TranslationPipeline, takes_languages

_TASK = re.compile(r"translation(?:_(\w+)_to_(\w+))?")
_PLACING = ("dtype", "torch_dtype", "device_map", "quantization_config", "attn_implementation", "variant")
_LOADING = (
    *("revision", "token", "trust_remote_code", "cache_dir", "local_files_only", "force_download"),
    "subfolder",
)


def pipeline(
    task: str,
    model: str | Path | PreTrainedModel,
    tokenizer: str | Path | PreTrainedTokenizerBase | None = None,
    **options: Any,
) -> Pipeline:
    """A pipeline for a model by path, Hub name or object, and for `"translation"` too.

    `transformers.pipeline` knows that task no more: it refuses every model object, and every checkpoint that
    does not bring the code for it. Here it takes any sequence-to-sequence model, and no code from its
    checkpoint unless `trust_remote_code` allows that.

    Args:
        task: "translation", or "translation_xx_to_yy" where the model's config has an entry for it in
            `task_specific_params` (T5's has: a prefix for each sentence, and how to search), or for
            tokenizers that take languages. For a model of one direction it is but a name. Any other task is
            left to `transformers.pipeline`.
        model: the model, ours or Marian, mBART, T5 ...
        tokenizer: by default the one beside the model, or where the model object was loaded from.
        options: `device`, `dtype`, `device_map`, `quantization_config`, `attn_implementation`, `revision`,
            `token`, `trust_remote_code` and others of loading, and any in `model_kwargs`;
            `backend="ctranslate2"` or `"onnx"` for a folder exported to that engine, with `compute_type` of
            ctranslate2; all else as for `TranslationPipeline`.

    Raises:
        ValueError: a model object whose tokenizer is nowhere to be found, a direction that is not among those
            of the model's config, or an option that an engine lacks.
        InputError: the folder holds a model of ours that does not translate, or not all of its weights.
        OSError: there is no such model.
    """
    match = _TASK.fullmatch(task)
    if match is None:
        other: Any = transformers.pipeline
        return other(task, model=model, tokenizer=tokenizer, **options)
    given = dict(options.pop("model_kwargs", None) or {})
    loading = {name: given.pop(name) for name in _LOADING if name in given}
    loading |= {name: options.pop(name) for name in _LOADING if name in options}
    if "backend" in options:
        model, options = _exported(model, given | options | loading)
    # Unless it is allowed, no code, and no question either.
    loading.setdefault("trust_remote_code", False)
    if tokenizer is None:
        # By its attribute and not its class: PEFT wraps models in one of its own.
        tokenizer = model if isinstance(model, (str, Path)) else getattr(model, "name_or_path", "")
    if tokenizer == "":
        raise ValueError("`tokenizer` must be given, as the model was not loaded from a folder or the Hub.")
    if isinstance(tokenizer, (str, Path)):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_place(tokenizer), **loading)
    if isinstance(model, (str, Path)):
        placing = {**given, **{name: options.pop(name) for name in _PLACING if name in options}}
        if "torch_dtype" in placing:  # its name of before
            placing.setdefault("dtype", placing.pop("torch_dtype"))
        model = _load_translator(str(model), **{"dtype": "auto", **placing, **loading})
    options = _options_of_task(match, model, tokenizer) | options
    whole: Any = {"model": model, "tokenizer": tokenizer}
    return TranslationPipeline(**whole, task="translation", **options)


def _load_translator(name: str, **options: Any) -> Any:
    loaded: Any = AutoModelForSeq2SeqLM.from_pretrained(name, **options, output_loading_info=True)
    model, report = loaded
    check_translates(model.config, name)
    check_complete(report["missing_keys"], model.config, name)
    return model


def _options_of_task(match: re.Match[str], model: Any, tokenizer: Any) -> dict[str, Any]:
    """What a task asks for: its entry in the model's config, else the languages that it names.

    Not the `max_length` of the entry: a translation follows the length of its source, whatever a folder says.
    """
    tasks = getattr(model.config, "task_specific_params", None) or {}
    if match[0] in tasks:
        return {name: value for name, value in tasks[match[0]].items() if name != "max_length"}
    if not match[1]:
        return {}
    if takes_languages(tokenizer):
        return {"src_lang": match[1], "tgt_lang": match[2]}
    known = [name for name in tasks if _TASK.fullmatch(name)]
    if known:
        raise ValueError(f"`task` must be one of {', '.join(known)}, but is {match[0]!r} instead.")
    return {}


def _exported(model: Any, options: dict[str, Any]) -> tuple[EngineModel, dict[str, Any]]:
    """The model of an exported folder, and the options that are not of loading."""
    if not isinstance(model, (str, Path)):
        raise ValueError(f"`backend` needs an exported folder, but `model` is a {type(model).__name__}.")
    backend, device = options.pop("backend"), options.pop("device", "cpu")
    for name in (*_PLACING, *_LOADING):
        if options.pop(name, None) is not None:
            raise ValueError(f"`{name}` is not available with `backend={backend!r}`.")
    if isinstance(device, int):
        device = torch.device("cuda", device) if device >= 0 else "cpu"
    place = torch.device(device)
    compute_type = options.pop("compute_type", None)
    engine = load_engine(backend, model, device=place, compute_type=compute_type)
    return engine, options | {"device": place}
