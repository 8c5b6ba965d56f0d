"""The fused loss against the plain one, and both against the formula of section 5.4."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from vanilla_transformer.modeling.loss_vanilla_transformer import (
    CPU_CHUNK,
    cross_entropy_loss,
    linear_cross_entropy_loss,
    sequence_loss,
)


def example(rows: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(2, rows, 12, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(37, 12, dtype=torch.float64).to(dtype).requires_grad_()
    labels = torch.randint(0, 37, (2, rows))
    labels[0, 3:] = -100
    return hidden, weight, labels


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_plain_loss_is_the_formula(epsilon: float) -> None:
    hidden, weight, labels = example(9, torch.float64)
    logits = hidden @ weight.t()
    log_probabilities = logits.log_softmax(-1)
    target = torch.nn.functional.one_hot(labels.clamp(min=0), 37).double() * (1 - epsilon) + epsilon / 37
    expected = -(target * log_probabilities).sum(-1)[labels != -100].mean()
    torch.testing.assert_close(
        cross_entropy_loss(logits, labels, None, epsilon), expected, rtol=1e-12, atol=0
    )
    counted = cross_entropy_loss(logits, labels, torch.tensor(24), epsilon)
    torch.testing.assert_close(counted, expected * (labels != -100).sum() / 24, rtol=1e-12, atol=0)


@pytest.mark.parametrize("num_items", [None, 0, torch.tensor(0)], ids=["counted", "int", "tensor"])
def test_an_update_that_predicts_nothing_changes_no_weight(num_items: Any) -> None:
    hidden, weight, labels = example(5, torch.float32)
    labels = torch.full_like(labels, -100)
    for loss in (
        linear_cross_entropy_loss(hidden, weight, labels, num_items, 0.1),
        cross_entropy_loss(hidden @ weight.t(), labels, num_items, 0.1),
    ):
        hidden.grad = weight.grad = None
        loss.backward()
        assert loss == 0
        assert hidden.grad is not None and not hidden.grad.any()
        assert weight.grad is not None and not weight.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_numbers_to_predict_are_not_rounded(dtype: torch.dtype) -> None:
    logits, labels = torch.tensor([[1984.0], [3.0]], dtype=dtype), torch.tensor([1987.0, 70_000.0])
    found = sequence_loss(logits, labels, "regression")
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx((3**2 + 69_997.0**2) / 2, rel=1e-6)


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("num_items", [None, 50])
@pytest.mark.parametrize("rows", [5, CPU_CHUNK, 2 * CPU_CHUNK + 1])
def test_fused_loss_and_gradients_equal_the_plain_ones(
    rows: int, num_items: int | None, epsilon: float
) -> None:
    results = []
    for fused in (False, True):
        hidden, weight, labels = example(rows, torch.float64)
        if fused:
            loss = linear_cross_entropy_loss(hidden, weight, labels, num_items, epsilon)
        else:
            loss = cross_entropy_loss(hidden @ weight.t(), labels, num_items, epsilon)
        (3 * loss).backward()
        results.append((loss.detach(), hidden.grad, weight.grad))
    for plain, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-15)


def test_fused_loss_and_gradients_take_a_bias() -> None:
    results = []
    for fused in (False, True):
        hidden, weight, labels = example(CPU_CHUNK + 3, torch.float64)
        bias = torch.linspace(-2, 2, 37, dtype=torch.float64).requires_grad_()
        if fused:
            loss = linear_cross_entropy_loss(hidden, weight, labels, None, 0.1, bias=bias)
        else:
            loss = cross_entropy_loss(hidden @ weight.t() + bias, labels, None, 0.1)
        loss.backward()
        results.append((loss.detach(), hidden.grad, weight.grad, bias.grad))
    for plain, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("hidden_type", [torch.float32, torch.bfloat16])
def test_fused_loss_under_autocast_is_as_exact_as_the_plain_one(hidden_type: torch.dtype) -> None:
    """A layer norm returns float32 under autocast; the products are in bfloat16 all the same."""
    exact = example(40, torch.float64)
    cross_entropy_loss(exact[0] @ exact[1].t(), exact[2], None, 0.1).backward()
    errors = []
    for fused in (False, True):
        hidden, weight, labels = example(40, torch.float32)
        products = ProductTypes()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = hidden.to(hidden_type)
            if fused:
                with products:
                    loss = linear_cross_entropy_loss(states, weight, labels, None, 0.1)
                assert products.found == {torch.bfloat16}
            else:
                loss = cross_entropy_loss(F.linear(states, weight), labels, None, 0.1)
        loss.backward()
        pairs = zip((hidden, weight), exact, strict=False)
        errors.append([relative_error(mine.grad, other.grad) for mine, other in pairs])
        assert weight.grad is not None and weight.grad.dtype == torch.float32
    assert all(fast < 1.3 * plain + 1e-3 for plain, fast in zip(*errors, strict=True)), errors


class ProductTypes(TorchDispatchMode):
    """Collects the types in which matrices are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_):
            self.found.add(args[-1].dtype)
        return func(*args, **(kwargs or {}))


def relative_error(found: torch.Tensor | None, exact: torch.Tensor | None) -> float:
    assert found is not None and exact is not None
    return float((found - exact).abs().max() / exact.abs().max())


def test_without_gradients_the_fused_loss_computes_none() -> None:
    hidden, weight, labels = example(CPU_CHUNK + 3, torch.float32)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        alone = linear_cross_entropy_loss(hidden, weight, labels, None, 0.1)
    counted = int((labels != -100).sum())
    assert counter.get_total_flops() == 2 * counted * weight.numel(), "one product, that of the logits"
    torch.testing.assert_close(alone, linear_cross_entropy_loss(hidden, weight, labels, None, 0.1))


def test_a_label_that_is_no_token_is_refused() -> None:
    hidden, weight, labels = example(4, torch.float32)
    labels[0, 0] = -1
    with pytest.raises(RuntimeError, match="out of bounds"):
        linear_cross_entropy_loss(hidden, weight, labels)


def test_second_derivatives_are_refused() -> None:
    hidden, weight, labels = example(4, torch.float64)
    loss = linear_cross_entropy_loss(hidden, weight, labels)
    (first,) = torch.autograd.grad(loss, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        first.sum().backward()


def test_nothing_but_padding_gives_zero() -> None:
    hidden, weight, labels = example(4, torch.float32)
    loss = linear_cross_entropy_loss(hidden, weight, torch.full_like(labels, -100))
    loss.backward()
    assert loss.item() == 0 and hidden.grad is not None and not hidden.grad.any()


Hook = Callable[[torch.nn.Module], Any]


@pytest.mark.parametrize(
    "attach",
    [
        lambda projection: projection.register_forward_hook(lambda module, given, output: 2 * output),
        lambda projection: register_module_forward_hook(
            lambda module, given, output: 2 * output if module is projection else output
        ),
    ],
    ids=["own", "of all modules"],
)
def test_a_projection_with_a_hook_is_called_and_not_fused(tiny_model: Any, attach: Hook) -> None:
    ids = torch.randint(5, 64, (2, 6))
    inputs = {"input_ids": ids, "labels": ids.flip(1), "return_logits": False}
    with torch.no_grad():
        fused = tiny_model(**inputs).loss
        handle = attach(tiny_model.lm_head)
        hooked = tiny_model(**inputs).loss
        plain = tiny_model(**inputs | {"return_logits": True}).loss
        handle.remove()
    assert not torch.allclose(fused, hooked)
    torch.testing.assert_close(hooked, plain)


def test_a_backward_hook_of_the_projection_is_called(tiny_model: Any) -> None:
    ids, calls = torch.randint(5, 64, (2, 6)), []
    tiny_model.lm_head.register_full_backward_hook(lambda *given: calls.append(given))
    tiny_model(input_ids=ids, labels=ids, return_logits=False).loss.backward()
    assert len(calls) == 1


@pytest.mark.parametrize("kept", [2, torch.tensor([0, 3])])
def test_the_loss_of_kept_positions_is_the_same_fused(tiny_model: Any, kept: Any) -> None:
    ids = torch.randint(5, 64, (2, 6))
    inputs = {"input_ids": ids, "labels": ids.flip(1), "logits_to_keep": kept}
    with torch.no_grad():
        whole = tiny_model(**inputs | {"logits_to_keep": 0}).loss
        plain, fused = (tiny_model(**inputs, return_logits=wanted).loss for wanted in (True, False))
    assert not torch.allclose(whole, plain)
    torch.testing.assert_close(fused, plain)
