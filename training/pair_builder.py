"""What lets `datasets` prepare, cache and stream the pairs that our own readers yield.

`datasets` replaces `open`, `Path` and the like in the module of every builder; nothing here uses them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa

FEATURES = datasets.Features({"source": datasets.Value("string"), "target": datasets.Value("string")})


@dataclass
class PairBuilderConfig(datasets.BuilderConfig):
    """Configuration of `PairBuilder`: `read` returns the pairs as batches of two lists, from the start."""

    read: Callable[[], Iterator[tuple[list[str], list[str]]]] | None = None


class PairBuilder(datasets.ArrowBasedBuilder):
    """One split "train" with the text columns "source" and "target"; `config_id` is the key of its cache."""

    BUILDER_CONFIG_CLASS = PairBuilderConfig
    # A new version makes caches of an older reader useless: count it up whenever the readers read
    # differently.
    VERSION = datasets.Version("1.0.0")

    def __init__(self, *, read: Callable[[], Iterator[tuple[list[str], list[str]]]], config_id: str) -> None:
        super().__init__(dataset_name="vanilla_transformer_pairs", config_id=config_id, read=read)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=FEATURES)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name=datasets.Split.TRAIN)]

    def _generate_tables(self) -> Iterator[tuple[int, pa.Table]]:
        for number, (sources, targets) in enumerate(self.config.read()):
            yield number, pa.table({"source": sources, "target": targets}, schema=FEATURES.arrow_schema)
