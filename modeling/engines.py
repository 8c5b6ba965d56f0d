"""Models exported to an inference engine, with the face of ours: `generate()`, and what translates by it."""

from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn, Self

import torch
from transformers import GenerationConfig

from ..configuration import VanillaTransformerConfig
from ..errors import InputError, first_line
from .generation_vanilla_transformer import VanillaTransformerGenerationMixin
from .modeling_vanilla_transformer import VanillaTransformerPreTrainedModel

# The engine's name: module of this folder, imported when it is asked for, and class in it.
ENGINES = {
    "ctranslate2": (".ctranslate2_engine", "CTranslate2Model"),
    "onnx": (".onnx_engine", "OnnxModel"),
}


class EngineModel(VanillaTransformerPreTrainedModel, VanillaTransformerGenerationMixin):  # type: ignore[misc]
    """A model whose weights are the engine's: it translates, and can neither be trained nor saved.

    Args:
        folder: where it was exported to.
        device: where it runs, "cpu", "cuda" or one GPU of several, "cuda:1".
        options: of the engine.

    Raises:
        InputError: the folder is damaged or holds no such model, an option is not one of the engine's, or its
            library is not installed.
    """

    engine_name: str
    files: tuple[str, ...]
    main_input_name = "input_ids"
    generate: Callable[..., Any]

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu", **options: Any):
        folder = Path(folder)
        for name in self.files:
            if not (folder / name).is_file():
                raise InputError(f"`{folder}` was not exported to {self.engine_name}: it has no {name}.")
        config, generation_config = _read_configs(folder)
        super().__init__(config)
        self.generation_config = generation_config
        self.folder = folder
        self.place = torch.device(device)
        self.name_or_path = str(folder)
        self.eval()
        self.open(**options)

    def open(self) -> None:
        """Loads the model from `folder`; takes the options of the engine."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.place

    @property
    def dtype(self) -> torch.dtype:
        """What its logits are."""
        return torch.float32

    def to(self, device: Any = None, *args: Any, **kwargs: Any) -> Self:  # type: ignore[override]
        """Itself; an engine stays on the device that it was loaded on."""
        if device is not None and _numbered(torch.device(device)) != _numbered(self.place):
            raise InputError(
                f"`device` must be chosen when a model of {self.engine_name} is loaded, not later."
            )
        return self

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises `InputError`: the exported folder is what there is to copy."""
        raise InputError(f"a model of {self.engine_name} cannot be saved; copy its folder `{self.folder}`.")

    def set_attn_implementation(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises `InputError`: the engine does not show its attention."""
        raise InputError(f"`attention` weights are not available with {self.engine_name}.")


def load_engine(
    name: str, folder: str | Path, *, device: str | torch.device = "cpu", **options: Any
) -> EngineModel:
    """A model that `vanilla-transformer convert --to` exported, ready to translate.

    Args:
        name: one of `ENGINES`.
        folder: the exported folder.
        device: "cpu", "cuda" or one GPU of several, "cuda:1".
        options: of the engine; those that are `None` are as good as absent.

    Raises:
        InputError: see `EngineModel`.
    """
    if name not in ENGINES:
        raise InputError(f"`backend` must be one of {', '.join(ENGINES)}, but is {name!r} instead.")
    module, kind = ENGINES[name]
    model_class: type[EngineModel] = getattr(import_module(module, __package__), kind)
    given = {option: value for option, value in options.items() if value is not None}
    for option in given.keys() - signature(model_class.open).parameters.keys():
        raise InputError(f"`{option}` is not available with {model_class.engine_name}.")
    return model_class(folder, device=device, **given)


def _numbered(device: torch.device) -> tuple[str, int]:
    """Kind and number of a device; "cuda" is the first GPU."""
    return device.type, device.index or 0


def _read_configs(folder: Path) -> tuple[VanillaTransformerConfig, GenerationConfig]:
    try:
        config = VanillaTransformerConfig.from_pretrained(folder)
        generation_config = GenerationConfig.from_pretrained(folder)
    except Exception as error:  # what a damaged file raises is of many kinds
        raise InputError(f"`{folder}` cannot be loaded: {first_line(error)}") from None
    return config, generation_config
