"""BPE-dropout of a corpus: what is drawn says the same, and what does not fit stays as it was."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from helpers import parallel_sentences

from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.training.filtering import FEATURES, prepare_pairs
from vanilla_transformer.training.segmentation import EpochSegmentation

WITH_IDS = ("input_ids", "labels")


@pytest.fixture(scope="module")
def tokenizer() -> VanillaTransformerTokenizer:
    words = (text for pair in parallel_sentences(300, seed=4) for text in pair)
    return VanillaTransformerTokenizer.train_from_iterator(words, vocab_size=280)


@pytest.fixture(scope="module")
def pairs(tokenizer: Any) -> datasets.Dataset:
    rows = [{"source": source, "target": target} for source, target in parallel_sentences(300, seed=4)]
    rows[7]["source"] = " "  # so that rows are selected, as in a real corpus
    prepared, _ = prepare_pairs(datasets.Dataset.from_list(rows), tokenizer)
    assert len(prepared) == 299
    return prepared


def segmented(pairs: datasets.Dataset, tokenizer: Any, folder: Path, limits: tuple[int, int]) -> Any:
    return EpochSegmentation(pairs, tokenizer, dropout=0.5, run_dir=folder, limits=limits).epoch(0)


def test_another_segmentation_of_the_same_text(
    pairs: datasets.Dataset, tokenizer: Any, tmp_path: Path
) -> None:
    drawn = segmented(pairs, tokenizer, tmp_path, (500, 500))
    assert drawn.features == {name: FEATURES[name] for name in drawn.features}
    for name, text in zip(WITH_IDS, ("source", "target"), strict=True):
        ids = drawn[name][:]
        assert tokenizer.batch_decode(ids, skip_special_tokens=True) == pairs[text][:]
        assert drawn[f"{text}_length"][:] == [len(row) for row in ids]
        changed = [new != usual for new, usual in zip(ids, pairs[name][:], strict=True)]
        assert np.mean(changed) > 0.4


def test_a_pair_that_does_not_fit_keeps_both_its_sides(
    pairs: datasets.Dataset, tokenizer: Any, tmp_path: Path
) -> None:
    limits = tuple(int(np.median(pairs[name])) + 3 for name in ("source_length", "target_length"))
    drawn = segmented(pairs, tokenizer, tmp_path, limits)  # type: ignore[arg-type]
    usual = [pairs[name][:] for name in WITH_IDS]
    kept = [sides == before for sides, before in zip(rows_of(drawn), rows_of(pairs), strict=True)]
    assert 20 < sum(kept) < 280
    for side, limit in enumerate(limits):
        for new, before in zip(drawn[WITH_IDS[side]][:], usual[side], strict=True):
            assert len(new) <= limit or new == before
    # Those that were as long as the longest, and so may have been cut, are never drawn anew.
    longest = max(len(row) for row in usual[0])
    assert all(keeps for keeps, row in zip(kept, usual[0], strict=True) if len(row) == longest)


def rows_of(pairs: Any) -> list[tuple[list[int], list[int]]]:
    return list(zip(*(pairs[name][:] for name in WITH_IDS), strict=True))


@pytest.mark.parametrize("change", ["nothing", "pairs", "dropout"])
def test_what_was_drawn_of_other_pairs_is_not_taken(
    change: str, pairs: datasets.Dataset, tokenizer: Any, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"dropout": 0.5, "run_dir": tmp_path, "limits": (500, 500)}
    first = EpochSegmentation(pairs, tokenizer, **settings)
    first.start(anew=True)
    drawn = rows_of(first.epoch(0))
    if change == "pairs":
        pairs = pairs.select(range(len(pairs) - 1, -1, -1))
    settings |= {"dropout": 0.4} if change == "dropout" else {}
    again = EpochSegmentation(pairs, tokenizer, **settings)
    again.start(anew=False)
    assert (rows_of(again.epoch(0)) == drawn) == (change == "nothing")
