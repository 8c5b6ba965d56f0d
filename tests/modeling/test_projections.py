"""Products of a decoding step are those of the layers, whichever way they are computed, and never stale."""

import copy
import gc
import pickle
import platform
import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn

from vanilla_transformer.modeling import projections_vanilla_transformer as projections
from vanilla_transformer.modeling.half_weights import half_weights_run_here
from vanilla_transformer.modeling.modules_vanilla_transformer import multiplies_bfloat16
from vanilla_transformer.modeling.projections_vanilla_transformer import (
    FEW_ROWS,
    MANY_ENTRIES,
    ROW_COUNTS,
    STEPS_WORTH_A_COPY,
    Projections,
    copies_run_here,
    forget_copies,
    project,
    row_blocks,
)
from vanilla_transformer.modeling.translation_vanilla_transformer import evaluation_mode

from .toy import SOURCES, assert_parity, pad, translating_model

WIDTH = 300
X86 = platform.machine() in ("x86_64", "AMD64") and sys.platform != "darwin"
needs_copies = pytest.mark.skipif(
    not copies_run_here(torch.float32), reason="this processor or this PyTorch has no products with copies"
)


@pytest.mark.skipif(not X86, reason="the kernels are those of x86 processors")
def test_the_kernels_are_found_where_pytorch_has_them() -> None:
    """Elsewhere the tests of copies and of half weights are skipped, which a bug must not bring about."""
    vectors = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    assert copies_run_here(torch.float32) == (vectors and torch.backends.mkldnn.is_available())
    assert copies_run_here(torch.bfloat16) == (copies_run_here(torch.float32) and multiplies_bfloat16())
    assert half_weights_run_here() == ("fbgemm" in torch.backends.quantized.supported_engines)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The products with copies that are taken, and no copy of another test."""
    taken: list[Any] = []
    call = projections.JointProduct.__call__

    def counted(self: Any, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        taken.append(self.matrix)
        return call(self, states)

    monkeypatch.setattr(projections.JointProduct, "__call__", counted)
    projections._COPIES.clear()
    yield taken
    projections._COPIES.clear()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sizes", [(256, 300), (300, 256), (12, 20)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (FEW_ROWS // 4, 4), (FEW_ROWS + 1, 1)])
def test_products_in_other_words_are_the_same_products(
    shape: tuple[int, int], sizes: tuple[int, int], bias: bool
) -> None:
    torch.manual_seed(0)
    projection = nn.Linear(*sizes, bias=bias)
    states = torch.randn(*shape, sizes[0])
    with patch.object(torch, "bmm", wraps=torch.bmm) as halves:
        found = project(projection, states)
    assert halves.called == (sizes != (12, 20) and shape == (1, 1))
    assert (found.stride(-1) != 1) == (sizes == (256, 300) and 1 < shape[0] * shape[1] <= FEW_ROWS)
    assert_parity(found, projection(states))
    assert_parity(project(projection, states.transpose(0, 1)), projection(states.transpose(0, 1)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 3])
def test_products_in_half_precision_are_left_as_they_are(dtype: torch.dtype, rows: int) -> None:
    torch.manual_seed(0)
    projection = nn.Linear(256, 300, dtype=dtype)
    states = torch.randn(rows, 1, 256, dtype=dtype)
    found = project(projection, states)
    assert found.stride(-1) == 1
    assert torch.equal(found, projection(states))


def test_a_projection_whose_weight_is_no_plain_parameter_is_called() -> None:
    """As quantised weights are: tensors of another class, with products of their own."""

    class Doubled(torch.Tensor):
        """A weight that counts twice."""

        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = super().__torch_function__(func, types, args, kwargs or {})
            return 2 * result.as_subclass(torch.Tensor) if func is torch.nn.functional.linear else result

    projection = nn.Linear(256, 300, bias=False)
    plain = projection.weight.detach().clone()
    projection.weight = nn.Parameter(plain.as_subclass(Doubled))
    states = torch.randn(2, 2, 256)
    assert_parity(project(projection, states), 2 * states @ plain.t())


def layers(*widths: int, **settings: Any) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(WIDTH, width, **settings) for width in widths]


def some_states(rows: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(rows, 1, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)


@needs_copies
@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("widths", [(256,), (256, 256, 300), (301,)])
@pytest.mark.parametrize("rows", [3, 12, 13, 64, 70, 128, 333])
def test_products_with_copies_are_the_same_products(
    rows: int, widths: tuple[int, ...], bias: bool, dtype: torch.dtype, copied: list[Any]
) -> None:
    if not copies_run_here(dtype):
        pytest.skip("this processor does not multiply bfloat16")
    chosen, states = layers(*widths, bias=bias, dtype=dtype), some_states(rows, dtype)
    found = Projections(STEPS_WORTH_A_COPY)(states, *chosen)
    assert len(copied) == 1
    assert [one.shape for one in found] == [(rows, 1, width) for width in widths]
    for one, layer in zip(found, chosen, strict=True):
        assert one.dtype == dtype
        if dtype == torch.float32:
            assert_parity(one, layer(states))
        else:  # sums in another order, rounded to eight bits
            torch.testing.assert_close(one, layer(states), rtol=2**-7, atol=2**-7)


@needs_copies
@torch.no_grad()
@pytest.mark.parametrize(
    ("rows", "steps", "width", "settings"),
    [
        (2, STEPS_WORTH_A_COPY, 256, {}),
        (3, STEPS_WORTH_A_COPY - 1, 256, {}),
        (3, STEPS_WORTH_A_COPY, MANY_ENTRIES // WIDTH, {}),
        (3, STEPS_WORTH_A_COPY, 256, {"dtype": torch.float64}),
    ],
)
def test_no_copy_is_made_where_it_is_not_worth_it(
    rows: int, steps: int, width: int, settings: dict[str, Any], copied: list[Any]
) -> None:
    chosen, states = layers(width, **settings), some_states(rows, settings.get("dtype", torch.float32))
    (found,) = Projections(steps)(states, *chosen)
    assert not copied and not projections._COPIES
    assert_parity(found, chosen[0](states))


@needs_copies
@torch.no_grad()
def test_layers_that_cannot_be_joined_are_taken_one_by_one(copied: list[Any]) -> None:
    plain, other = layers(256, 256)
    other.register_parameter("bias", None)
    watched = layers(256)[0]
    watched.register_forward_hook(lambda module, inputs, output: 2 * output)
    states = some_states(4)
    for pair in ((plain, other), (plain, watched)):
        found = Projections(STEPS_WORTH_A_COPY)(states, *pair)
        assert not copied
        for one, layer in zip(found, pair, strict=True):
            assert_parity(one, layer(states))


@needs_copies
@torch.no_grad()
def test_under_autocast_layers_are_called(copied: list[Any]) -> None:
    chosen, states = layers(256), some_states(4)
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = Projections(STEPS_WORTH_A_COPY)(states, *chosen)
        assert found.dtype == torch.bfloat16
    assert not copied


@needs_copies
@torch.no_grad()
def test_a_copy_serves_all_searches_until_its_matrix_changes(copied: list[Any]) -> None:
    chosen, states = layers(256, 256), some_states(5)
    first, second = chosen

    def swap_two_rows() -> None:
        second.weight.data[[0, 1]] = second.weight.data[[1, 0]]

    changes = [
        lambda: None,
        lambda: first.bias.data.add_(1),  # of which there is no copy
        lambda: second.weight.data.mul_(1.5),  # as adapters are merged: PyTorch counts no change
        swap_two_rows,
        lambda: first.load_state_dict({name: -value for name, value in first.state_dict().items()}),
    ]
    for change in changes:
        change()
        for one, layer in zip(Projections(9)(states, *chosen), chosen, strict=True):
            assert_parity(one, layer(states))
    assert [one is other for one, other in zip(copied, copied[1:], strict=False)] == [
        True,
        False,
        False,
        False,
    ]


@needs_copies
@torch.no_grad()
@pytest.mark.parametrize("column", [0, 17, WIDTH - 1])
def test_a_column_that_hardly_changes_is_noticed(column: int, copied: list[Any]) -> None:
    chosen, states = layers(256), some_states(4)
    Projections(9)(states, *chosen)
    chosen[0].weight.data[:, column] *= 1 + 1e-4
    Projections(9)(states, *chosen)
    assert copied[0] is not copied[1]


@needs_copies
@torch.no_grad()
def test_a_copy_goes_when_its_layer_is_no_longer_plain(copied: list[Any]) -> None:
    chosen, states = layers(256, 256), some_states(4)
    Projections(9)(states, *chosen)
    assert len(projections._COPIES) == 1
    chosen[1].register_forward_hook(lambda module, inputs, output: 2 * output)
    Projections(9)(states, *chosen)
    assert len(copied) == 1 and not projections._COPIES


@needs_copies
def test_a_model_in_training_keeps_no_copies_of_a_translation(
    copied: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections, "MANY_ENTRIES", 1)
    model, (ids, mask) = translating_model(dtype=torch.float32), pad(SOURCES)
    for training in (True, False):
        model.train(training)
        with evaluation_mode(model):
            model.generate(ids, attention_mask=mask, max_new_tokens=6)
        assert copied and bool(projections._COPIES) is not training
        copied.clear()


@needs_copies
@torch.no_grad()
@pytest.mark.parametrize("seed", range(20))
def test_a_row_of_bfloat16_that_hardly_changes_is_noticed(seed: int, copied: list[Any]) -> None:
    if not copies_run_here(torch.bfloat16):
        pytest.skip("this processor does not multiply bfloat16")
    chosen, states = layers(256, dtype=torch.bfloat16), some_states(4, torch.bfloat16)
    Projections(9)(states, *chosen)
    generator = torch.Generator().manual_seed(seed)
    changes = 0.02 * torch.randn(WIDTH, generator=generator).abs() + 1
    chosen[0].weight.data[seed] *= changes.bfloat16()
    Projections(9)(states, *chosen)
    assert copied[0] is not copied[1]


@needs_copies
@torch.no_grad()
def test_another_default_device_or_type_is_nothing_to_a_search(copied: list[Any]) -> None:
    chosen, states = layers(256), some_states(4)
    expected = chosen[0](states)
    for default in ("meta", "cpu"):
        copies_run_here.cache_clear()
        with torch.device(default):
            assert_parity(Projections(9)(states, *chosen)[0], expected)
    torch.set_default_dtype(torch.float64)
    try:
        Projections(9)(states, *chosen)
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(copied) == 3 and copied[0] is copied[1] is copied[2]


@needs_copies
@torch.no_grad()
def test_without_onednn_and_with_sparse_matrices_layers_are_called(copied: list[Any]) -> None:
    (plain,), states = layers(256, bias=False), some_states(12)
    with torch.backends.mkldnn.flags(enabled=False):
        assert_parity(Projections(9)(states, plain)[0], plain(states))
    expected = plain(states)
    plain.weight = nn.Parameter(plain.weight.to_sparse_csr())
    assert_parity(Projections(9)(states[:, 0], plain)[0], expected[:, 0])
    assert not copied


def test_few_numbers_of_rows_are_shown_to_onednn() -> None:
    """Of any number up to a thousand, all rows are in blocks, which are padded by seven rows at most."""
    for rows in range(1, 1000):
        blocks = row_blocks(rows)
        assert sum(blocks) == rows
        padded = [next(count for count in ROW_COUNTS if count >= block) for block in blocks]
        assert sum(padded) - rows < 8
    assert len(ROW_COUNTS) == 25


@needs_copies
def test_copies_are_no_part_of_the_model_and_end_with_it(
    copied: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections, "MANY_ENTRIES", 1)
    model = translating_model(dtype=torch.float32)
    names, size = list(model.state_dict()), len(pickle.dumps(model))
    ids, mask = pad(SOURCES)
    settings: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": 6}
    with torch.inference_mode():
        tokens = model.generate(ids, **settings)
    kept = len(projections._COPIES)
    assert copied and kept
    assert list(model.state_dict()) == names and len(pickle.dumps(model)) == size
    assert torch.equal(model.generate(ids, **settings), tokens)
    twin = copy.deepcopy(model)
    twin.lm_head.weight.data.neg_()
    assert torch.equal(twin.generate(ids, **settings), twin.generate(ids, **settings, fast=False))
    assert len(projections._COPIES) == 2 * kept
    del twin
    gc.collect()
    assert len(projections._COPIES) == kept
    model.train()
    assert not projections._COPIES
    assert torch.equal(model.eval().generate(ids, **settings), tokens)
    torch.nn.Module.to(model, torch.float32)
    assert not projections._COPIES
    model.generate(ids, **settings)
    forget_copies(model)
    assert not projections._COPIES
