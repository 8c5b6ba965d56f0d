"""The fast dropout against the plain one's contract."""

import pytest
import torch

from vanilla_transformer.modeling.dropout_vanilla_transformer import dropout


def test_off_outside_training_and_at_zero() -> None:
    inputs = torch.randn(3, 5)
    assert dropout(inputs, 0.5, training=False) is inputs
    assert dropout(inputs, 0.0, training=True) is inputs


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5])
def test_share_and_scale(probability: float) -> None:
    torch.manual_seed(0)
    inputs = torch.ones(1001, 333)
    output = dropout(inputs, probability, training=True)
    kept = output != 0
    deviation = (probability * (1 - probability) / kept.numel()) ** 0.5
    assert abs(kept.float().mean().item() - (1 - probability)) < 5 * deviation + 2**-17
    assert output[kept].unique().item() == pytest.approx(1 / (1 - probability), rel=1e-4)


def test_neighbours_are_independent() -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(400_000), 0.5, training=True) != 0).float() - 0.5
    for distance in (1, 2, 3, 4):
        correlation = (kept[:-distance] * kept[distance:]).mean().item() * 4
        assert abs(correlation) < 5 / 400_000**0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_gradient_passes_where_the_output_does(dtype: torch.dtype) -> None:
    inputs = torch.rand(7, 9).to(dtype).add(1).requires_grad_()
    output = dropout(inputs, 0.3, training=True)
    output.sum().backward()
    assert output.dtype == dtype and inputs.grad is not None
    torch.testing.assert_close(inputs.grad * inputs, output)


def test_functional_transforms_go_through() -> None:
    """As for gradients of each sample by itself."""
    inputs = torch.rand(4, 50) + 1

    def total(sample: torch.Tensor) -> torch.Tensor:
        return dropout(sample, 0.3, training=True).sum()

    found = torch.func.vmap(torch.func.grad(total), randomness="different")(inputs)
    assert found.shape == inputs.shape
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.7])


def test_without_a_look_at_the_transforms_pytorch_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.rand(40, 50) + 1
    monkeypatch.delattr(torch._C._functorch, "peek_interpreter_stack")
    torch.manual_seed(1)
    found = dropout(inputs, 0.3, training=True)
    torch.manual_seed(1)
    torch.testing.assert_close(found, torch.nn.functional.dropout(inputs, 0.3), rtol=0, atol=0)


def test_seeded_and_saved_with_the_generator_state() -> None:
    inputs = torch.ones(50)
    torch.manual_seed(3)
    first = dropout(inputs, 0.4, training=True)
    state = torch.get_rng_state()
    second = dropout(inputs, 0.4, training=True)
    torch.set_rng_state(state)
    assert torch.equal(second, dropout(inputs, 0.4, training=True)) and not torch.equal(first, second)
