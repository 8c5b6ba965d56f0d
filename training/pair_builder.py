"""What lets `datasets` prepare, cache and stream the columns of text that our own readers yield.

`datasets` replaces `open`, `Path` and the like in the module of every builder; nothing here uses them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa


def text_features(columns: Sequence[str]) -> datasets.Features:
    """Columns that hold text."""
    return datasets.Features({column: datasets.Value("string") for column in columns})


PAIR_COLUMNS = ("source", "target")
FEATURES = text_features(PAIR_COLUMNS)


@dataclass
class PairBuilderConfig(datasets.BuilderConfig):
    """Configuration of `PairBuilder`: `read` returns batches of one list for each column, from the start."""

    read: Callable[[], Iterator[tuple[list[str], ...]]] | None = None
    columns: tuple[str, ...] = PAIR_COLUMNS


class PairBuilder(datasets.ArrowBasedBuilder):
    """One split "train" with columns of text, by default a pair's; `config_id` is the key of its cache."""

    BUILDER_CONFIG_CLASS = PairBuilderConfig
    # A new version makes caches of an older reader useless: count it up whenever the readers read
    # differently.
    VERSION = datasets.Version("1.0.0")

    def __init__(
        self,
        *,
        read: Callable[[], Iterator[tuple[list[str], ...]]],
        config_id: str,
        columns: tuple[str, ...] = PAIR_COLUMNS,
    ) -> None:
        super().__init__(
            dataset_name="vanilla_transformer_pairs", config_id=config_id, read=read, columns=columns
        )

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=text_features(self.config.columns))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name=datasets.Split.TRAIN)]

    def _generate_tables(self) -> Iterator[tuple[int, pa.Table]]:
        columns = self.config.columns
        for number, batch in enumerate(self.config.read()):
            table = dict(zip(columns, batch, strict=True))
            yield number, pa.table(table, schema=text_features(columns).arrow_schema)
