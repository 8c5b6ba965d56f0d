"""Stands in for transformers' tests of its exporters, which its source distribution leaves out."""


class ExportTesterMixin:
    """Nothing to inherit."""
