"""Trains by the recipe it is given under `accelerate launch` with FSDP, on CPU processes that talk over gloo.

Accelerate splits models over accelerators only. Here it is told that this process has one; all that follows,
its FSDP code and the Trainer's, is what runs on GPUs.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType

from vanilla_transformer.training import load_recipe, train


def take_gloo(self: Any, *args: Any, **kwargs: Any) -> tuple[str, DistributedType]:
    return "gloo", DistributedType.MULTI_GPU


def take_cpu(self: Any) -> None:
    self.device = torch.device("cpu")


def claim_an_accelerator() -> None:
    PartialState._prepare_backend = take_gloo
    PartialState.set_device = take_cpu
    torch.accelerator.is_available = lambda: True


if __name__ == "__main__":
    claim_an_accelerator()
    train(load_recipe(Path(sys.argv[1])))
