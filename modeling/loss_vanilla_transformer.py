"""Cross-entropy with label smoothing (section 5.4), from logits or fused with the projection to them."""

from typing import Any, Literal, TypeAlias

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .modules_vanilla_transformer import HALF_TYPES

ProblemType: TypeAlias = Literal["regression", "single_label_classification", "multi_label_classification"]

IGNORED = -100
# Rows of logits held at once: on a CPU few enough to stay in its caches, elsewhere enough to fill the device.
CPU_CHUNK, DEVICE_CHUNK = 256, 4096


def cross_entropy_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy in nats with label smoothing, over all labels that are not -100.

    Args:
        logits: (N, S, V).
        labels: (N, S).
        num_items_in_batch: divisor of the summed loss, the labels of the whole update under gradient
            accumulation; by default those of this batch.
        label_smoothing: epsilon_ls, the probability mass spread evenly over the vocabulary.
    """
    if logits.dtype in HALF_TYPES:
        logits = logits.float()
    labels = labels.to(logits.device)
    total = F.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), reduction="sum", label_smoothing=label_smoothing
    )
    return total / _divisor(labels, num_items_in_batch)


def linear_cross_entropy_loss(
    hidden_states: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
    *,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """`cross_entropy_loss(hidden_states @ weight.T + bias, ...)` without ever holding all logits.

    The gradient is computed chunk by chunk in the forward pass, while a chunk's logits are at hand. Under
    autocast to bfloat16 the products are in bfloat16; under that to float16 they stay in the type of the
    hidden states, as a gradient that the scaler has not yet scaled would vanish.

    Args:
        hidden_states: (N, S, E).
        weight: (V, E), the matrix of the pre-softmax projection.
        labels, num_items_in_batch, label_smoothing: as in `cross_entropy_loss`.
        bias: (V,), that of the projection, if it has one.
    """
    if bias is not None:
        # A bias is the weight of one more input, which is always 1.
        hidden_states = F.pad(hidden_states, (0, 1), value=1.0)
        weight = torch.cat((weight, bias[:, None]), dim=1)
    labels = labels.to(hidden_states.device)
    divisor = _divisor(labels, num_items_in_batch)
    hidden_states, labels = hidden_states.flatten(0, -2), labels.flatten()
    if hidden_states.device.type == "cpu":
        # Elsewhere choosing rows would wait for the device to count them.
        kept = labels != IGNORED
        hidden_states, labels = hidden_states[kept], labels[kept]
    total: torch.Tensor = _LinearCrossEntropy.apply(
        hidden_states, weight, labels, label_smoothing, torch.is_grad_enabled()
    )
    return total / divisor


def infer_problem_type(labels: torch.Tensor, num_labels: int) -> ProblemType:
    """What `labels` of sequences are, by transformers' rule: one of the values of `problem_type`."""
    if num_labels == 1:
        return "regression"
    if labels.is_floating_point():
        return "multi_label_classification"
    return "single_label_classification"


def sequence_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    problem_type: ProblemType,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Loss of predictions for whole sequences: cross-entropy, that of each class, or the squared error.

    Args:
        logits: (N, C).
        labels: (N,) classes for `"single_label_classification"`; (N, C) zeros and ones for
            `"multi_label_classification"`; (N, C), or (N,) where C is 1, for `"regression"`.
        num_items_in_batch: divisor of the summed loss; by default the number of labels, of classes those that
            are not -100.
        label_smoothing: as in `cross_entropy_loss`; of `"single_label_classification"` alone.
    """
    if problem_type == "single_label_classification":
        return cross_entropy_loss(logits, labels.flatten(), num_items_in_batch, label_smoothing)
    if problem_type == "regression" and logits.shape[-1] == 1:
        logits = logits.squeeze(-1)
        labels = labels.reshape(logits.shape)
    logits = logits.float() if logits.dtype in HALF_TYPES else logits  # or the labels would be rounded, too
    loss = F.mse_loss if problem_type == "regression" else F.binary_cross_entropy_with_logits
    total = loss(logits, labels.to(logits), reduction="sum")
    return total / _divisor(labels, labels.numel() if num_items_in_batch is None else num_items_in_batch)


def _divisor(labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None) -> torch.Tensor | int:
    if num_items_in_batch is None:
        return labels.ne(IGNORED).sum().clamp(min=1)
    # An update of which nothing is to be predicted has no loss, and not one that is nan.
    if isinstance(num_items_in_batch, torch.Tensor):
        return num_items_in_batch.to(labels.device).clamp(min=1)
    return max(num_items_in_batch, 1)


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum over rows of -sum_v q(v) log softmax(x W^T)_v, with q = (1 - epsilon) onehot + epsilon / V.

    With p the softmax, the gradient by the logits is p - q: the chunk's logits are overwritten by it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_states: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        epsilon: float,
        differentiated: bool,
    ) -> torch.Tensor:
        chunk = CPU_CHUNK if hidden_states.device.type == "cpu" else DEVICE_CHUNK
        precise = torch.promote_types(hidden_states.dtype, torch.float32)
        total = torch.zeros((), dtype=precise, device=hidden_states.device)
        # What is frozen needs no gradient.
        for_hidden, for_weight = (differentiated and needed for needed in ctx.needs_input_grad[:2])
        hidden_gradient = torch.empty_like(hidden_states) if for_hidden else None
        weight_gradient = torch.zeros_like(weight, dtype=precise) if for_weight else None
        product_type = _product_type(hidden_states)
        with torch.autocast(hidden_states.device.type, enabled=False):
            cast_weight = weight.to(product_type)
            for start in range(0, len(labels), chunk):
                part = slice(start, start + chunk)
                inputs = hidden_states[part].to(product_type)
                logits = (inputs @ cast_weight.t()).to(precise)  # (chunk, V)
                if not (for_hidden or for_weight):
                    total += F.cross_entropy(logits, labels[part], reduction="sum", label_smoothing=epsilon)
                    continue
                total += _replace_by_gradient(logits, labels[part], epsilon)
                gradient = logits.to(product_type)
                if hidden_gradient is not None:
                    _write_product(hidden_gradient[part], gradient, cast_weight)
                if weight_gradient is not None:
                    _add_product(weight_gradient, gradient.t(), inputs)
        weight_gradient = None if weight_gradient is None else weight_gradient.to(weight.dtype)
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scaled = (
            None if saved is None else saved * gradients[0].to(saved.dtype) for saved in ctx.saved_tensors
        )
        return (*scaled, None, None, None)


def _product_type(hidden_states: torch.Tensor) -> torch.dtype:
    """The type to multiply in: autocast leaves what a layer norm returns in float32."""
    device = hidden_states.device.type
    if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16:
        return torch.bfloat16
    return hidden_states.dtype


def _write_product(target: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """`target = left @ right` in place, without a product of its own where the types allow."""
    if target.dtype == left.dtype:
        torch.mm(left, right, out=target)
    else:
        target.copy_(left @ right)


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """`total += left @ right`, without a product of its own where the types allow."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _replace_by_gradient(logits: torch.Tensor, labels: torch.Tensor, epsilon: float) -> torch.Tensor:
    """The summed loss of (n, V) logits, which become the gradient of that sum."""
    counted = (labels != IGNORED).unsqueeze(1)  # (n, 1)
    targets = labels.masked_fill(labels == IGNORED, 0).unsqueeze(1)
    spread = epsilon / logits.shape[1]
    losses = -(1 - epsilon) * logits.gather(1, targets)
    if epsilon:
        losses -= spread * logits.sum(dim=1, keepdim=True)
    highest = logits.amax(dim=1, keepdim=True)
    # Each exponential is computed once, for the loss and for the softmax.
    scale = logits.sub_(highest).exp_().sum(dim=1, keepdim=True)
    losses += scale.log() + highest
    logits.div_(scale)
    if epsilon:
        logits.sub_(spread)
    logits.scatter_add_(1, targets, logits.new_full(targets.shape, epsilon - 1))
    logits.mul_(counted)
    return (losses * counted).sum()
