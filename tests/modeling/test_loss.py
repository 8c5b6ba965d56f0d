"""The fused loss against the plain one, and both against the formula of section 5.4."""

from typing import Any

import pytest
import torch

from vanilla_transformer.modeling.loss_vanilla_transformer import (
    CPU_CHUNK,
    cross_entropy_loss,
    linear_cross_entropy_loss,
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


def test_fused_loss_under_autocast_is_as_exact_as_the_plain_one() -> None:
    exact_hidden, exact_weight, labels = example(40, torch.float64)
    cross_entropy_loss(exact_hidden @ exact_weight.t(), labels, None, 0.1).backward()
    hidden, weight, _ = example(40, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        linear_cross_entropy_loss(hidden.bfloat16(), weight, labels, None, 0.1).backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32
    assert exact_weight.grad is not None
    error = (weight.grad - exact_weight.grad).abs().max() / exact_weight.grad.abs().max()
    assert error < 0.02


def test_nothing_but_padding_gives_zero() -> None:
    hidden, weight, labels = example(4, torch.float32)
    loss = linear_cross_entropy_loss(hidden, weight, torch.full_like(labels, -100))
    loss.backward()
    assert loss.item() == 0 and hidden.grad is not None and not hidden.grad.any()


def test_a_projection_with_a_hook_is_called_and_not_fused(tiny_model: Any) -> None:
    ids = torch.randint(5, 64, (2, 6))
    inputs = {"input_ids": ids, "labels": ids.flip(1), "return_logits": False}
    with torch.no_grad():
        fused = tiny_model(**inputs).loss
        tiny_model.lm_head.register_forward_hook(lambda module, given, output: 2 * output)
        hooked = tiny_model(**inputs).loss
        plain = tiny_model(**inputs | {"return_logits": True}).loss
    assert not torch.allclose(fused, hooked)
    torch.testing.assert_close(hooked, plain)
