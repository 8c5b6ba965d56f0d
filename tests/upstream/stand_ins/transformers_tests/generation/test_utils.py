"""Stands in for transformers' tests of generation, which its source distribution leaves out."""


class GenerationTesterMixin:
    """Nothing to inherit."""
