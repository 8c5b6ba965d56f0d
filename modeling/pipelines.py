"""`pipeline`: transformers' function of the same name, which also translates again."""

import re
from pathlib import Path
from typing import Any

import transformers
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    Pipeline,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .pipeline_vanilla_transformer import TranslationPipeline

_TASK = re.compile(r"translation(?:_(\w+)_to_(\w+))?")
_LOADING = ("revision", "token", "trust_remote_code", "cache_dir", "local_files_only", "force_download")


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
        task: "translation", or "translation_xx_to_yy" for tokenizers that take languages. Any other task is
            left to `transformers.pipeline`.
        model: the model, ours or Marian, mBART, T5 ...
        tokenizer: by default the one beside the model, or where the model object was loaded from.
        options: `device`, `dtype`, `device_map`, `revision`, `token`, `trust_remote_code` and other options
            of loading; all else as for `TranslationPipeline`.

    Raises:
        ValueError: a model object whose tokenizer is nowhere to be found.
        OSError: there is no such model.
    """
    match = _TASK.fullmatch(task)
    if match is None:
        other: Any = transformers.pipeline
        return other(task, model=model, tokenizer=tokenizer, **options)
    loading = {name: options.pop(name) for name in _LOADING if name in options}
    if tokenizer is None:
        tokenizer = model.name_or_path if isinstance(model, PreTrainedModel) else model
    if tokenizer == "":
        raise ValueError("`tokenizer` must be given, as the model was not loaded from a folder or the Hub.")
    if isinstance(tokenizer, (str, Path)):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer, **loading)
    if isinstance(model, (str, Path)):
        placing = {name: options.pop(name) for name in ("dtype", "device_map") if name in options}
        model = AutoModelForSeq2SeqLM.from_pretrained(model, **{"dtype": "auto", **placing}, **loading)
    if match[1] and hasattr(tokenizer, "tgt_lang"):
        options = {"src_lang": match[1], "tgt_lang": match[2], **options}
    whole: Any = {"model": model, "tokenizer": tokenizer}
    return TranslationPipeline(**whole, task="translation", **options)
