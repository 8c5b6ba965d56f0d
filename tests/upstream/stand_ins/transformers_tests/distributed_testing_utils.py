"""Stands in for what starts the processes of transformers' distributed tests: here on the CPU, by forking."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed
from torch.multiprocessing.spawn import start_processes


def run_distributed(world_size: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make of `function(rank, ...)` one that runs it in `world_size` processes and raises what they raise."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        def run(*args: Any) -> None:
            with tempfile.TemporaryDirectory() as folder:
                store = Path(folder, "store").as_uri()
                _start_rank_processes(_run_rank, (world_size, store, function, args), world_size)

        return run

    return decorate


def _run_rank(
    rank: int, world_size: int, store: str, function: Callable[..., None], args: tuple[Any, ...]
) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
    try:
        function(rank, *args)
    finally:
        torch.distributed.destroy_process_group()


def _start_rank_processes(function: Callable[..., None], args: tuple[Any, ...], nprocs: int) -> None:
    start_processes(function, args, nprocs, start_method="fork")


def _get_distributed_backend() -> str:
    return "gloo"


def _get_distributed_device_type() -> str:
    return "cpu"


def _get_rank_device(rank: int) -> torch.device:
    return torch.device("cpu")


def _set_rank_device(rank: int) -> None:
    pass
