"""What a folder or a wrapper holds, and what is refused of it before it is used."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..configuration.configuration_vanilla_transformer import BASE_MODELS, VanillaTransformerConfig
from ..errors import InputError
from ..files import read_json
from .generation_vanilla_transformer import check_saved_fields
from .saving_vanilla_transformer import ADAPTER_CONFIG_FILE


def tokenizer_place(name: str | Path) -> str | Path:
    """Where a model's tokenizer is: in its folder, or in the base model's if that of an adapter has none."""
    folder = Path(name)
    files = ("config.json", "tokenizer_config.json", "tokenizer.json")
    adapter = folder / ADAPTER_CONFIG_FILE
    if not adapter.is_file() or any((folder / file).is_file() for file in files):
        return name
    return str(read_json(adapter).get("base_model_name_or_path") or name)


def check_translates(config: Any, name: str) -> None:
    """Refuse the folder of a model of ours with one stack: the other would have random weights.

    Args:
        config: configuration of the folder.
        name: what the message calls it.

    Raises:
        InputError: names the class whose weights are there.
    """
    ours = config.model_type == VanillaTransformerConfig.model_type
    found = list(config.architectures or []) if ours else []
    bases = {BASE_MODELS.get(architecture, architecture) for architecture in found}
    if bases & {"VanillaTransformerEncoderModel", "VanillaTransformerDecoderModel"}:
        raise InputError(f"`{name}` holds a {found[0]}, which does not translate.")


def check_complete(missing: Collection[str], config: Any, name: str) -> None:
    """Refuse a model of ours some of whose weights are not there: transformers has drawn them at random.

    Models of other types are let through, as some compute what their files lack.

    Args:
        missing: the `missing_keys` of `from_pretrained(..., output_loading_info=True)`.
        config: configuration of the model.
        name: what the message calls it.

    Raises:
        InputError: names the first of those weights.
    """
    if missing and config.model_type == VanillaTransformerConfig.model_type:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"`{name}` cannot be loaded: its weights lack `{min(missing)}`{more}.")


def check_search(model: Any, name: str) -> None:
    """Refuse a model of ours whose generation config holds, in a field of ours, what no search can use.

    Raises:
        InputError: names the file, in the folder or repository `name`, and the field.
    """
    if model.config.model_type != VanillaTransformerConfig.model_type:
        return
    try:
        check_saved_fields(model.generation_config)
    except ValueError as error:
        raise InputError(f"`{Path(name, 'generation_config.json')}` cannot be used: {error}") from None


def check_vocabulary(tokenizer: Any, config: Any) -> None:
    """Refuse a tokenizer whose tokens a model of ours has no embeddings for.

    Raises:
        InputError: it is larger than the vocabulary of the sources.
    """
    if config.model_type == VanillaTransformerConfig.model_type and len(tokenizer) > config.vocab_size:
        raise InputError(
            f"the tokenizer has {len(tokenizer)} entries, but `vocab_size` of the model is"
            f" {config.vocab_size}."
        )


def without_peft(model: Any, refusal: str) -> Any:
    """The model in a `PeftModel`, whose adapters are layers of its own and stay active; any other as it is.

    Args:
        model: a model, wrapped or not.
        refusal: what the message says of one that PEFT changes by learned prompts instead.

    Raises:
        InputError: what was learned is in no layer of the model.
    """
    if not hasattr(model, "get_base_model"):
        return model
    config = getattr(model, "active_peft_config", None)
    if getattr(config, "is_prompt_learning", False):
        kind = type(config).__name__.removesuffix("Config")
        raise InputError(f"a model with {kind} cannot be {refusal}.")
    return model.get_base_model()
