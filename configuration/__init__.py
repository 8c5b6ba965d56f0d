"""The configuration of the model and its presets."""

from .configuration_vanilla_transformer import PRESETS, Preset, VanillaTransformerConfig

__all__ = ["PRESETS", "Preset", "VanillaTransformerConfig"]
