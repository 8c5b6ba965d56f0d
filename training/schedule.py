"""The learning rate of section 5.3: a linear rise over the warm-up steps, then the inverse square root."""

from __future__ import annotations

import torch
from torch.optim.lr_scheduler import LambdaLR


def paper_learning_rate(step: int, d_model: int, warmup: float = 4000, scale: float = 1.0) -> float:
    """Learning rate of update `step`, d_model^-0.5 * min(step^-0.5, step * warmup^-1.5) (equation 3).

    Args:
        step: number of the update, from 1; the first one has a learning rate above 0.
        d_model: width of the model.
        warmup: updates during which the rate rises.
        scale: factor on the whole.

    Raises:
        ValueError: an argument that is not positive.
    """
    for name, value in (("step", step), ("d_model", d_model), ("warmup", warmup)):
        if value <= 0:
            raise ValueError(f"`{name}` must be positive, but is {value} instead.")
    return scale * d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)


def get_paper_schedule(
    optimizer: torch.optim.Optimizer, *, d_model: int, warmup: float = 4000, scale: float = 1.0
) -> LambdaLR:
    """A scheduler that gives update n exactly `paper_learning_rate(n)`; the optimizer's own rate is not used.

    A group of parameters with a `learning_rate_factor` (see `scale_learning_rates`) gets that multiple of it.
    Call `scheduler.step()` after each `optimizer.step()`. The scheduler can be saved and loaded.
    """
    for group in optimizer.param_groups:
        # LambdaLR multiplies the initial rate; 1.0 makes the product exact.
        initial = group.get("learning_rate_factor", 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(initial)
            group["initial_lr"] = group["lr"].clone()
        else:
            # The second, as a scheduler of before may have left another.
            group["lr"] = group["initial_lr"] = initial
    return LambdaLR(optimizer, lambda updates: paper_learning_rate(updates + 1, d_model, warmup, scale))
