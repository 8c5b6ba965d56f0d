"""A toy problem for the trainer's tests: sequences of numbers, to be copied, and a model that learns it."""

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from helpers import write_parallel_files

from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration
from vanilla_transformer.training import VanillaTransformerTrainingArguments, last_checkpoint
from vanilla_transformer.training.checkpoints import read_state

VOCABULARY = 40


def copy_pairs(n: int, *, seed: int = 0, longest: int = 9) -> Any:
    """Return `n` pairs of 2 to `longest` tokens, </s> (2) counted; target and source differ in one token."""
    draw = random.Random(seed)
    rows = [[draw.randrange(5, VOCABULARY) for _ in range(draw.randint(1, longest - 1))] for _ in range(n)]
    return [{"input_ids": [*row, 2], "labels": [*row[:-1], row[0], 2]} for row in rows]


def copy_dataset(n: int, **kwargs: Any) -> Dataset:
    """Return `copy_pairs` as a data set with its length columns, as `prepare_pairs` gives it."""
    pairs = copy_pairs(n, **kwargs)
    columns: dict[str, list[Any]] = {name: [pair[name] for pair in pairs] for name in ("input_ids", "labels")}
    columns["source_length"] = [len(row) for row in columns["input_ids"]]
    columns["target_length"] = [len(row) for row in columns["labels"]]
    return Dataset.from_dict(columns)


def toy_model(**changes: Any) -> VanillaTransformerForConditionalGeneration:
    """Return the same small model each time; attention weights large enough for errors to show."""
    fields: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "dropout": 0.0,
    }
    torch.manual_seed(0)
    return VanillaTransformerForConditionalGeneration(VanillaTransformerConfig(**(fields | changes)))


def toy_arguments(folder: Path, **changes: Any) -> VanillaTransformerTrainingArguments:
    """Return arguments for a few quick and quiet steps."""
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "tokens_per_update": 80,
        "tokens_per_device": 40,
        "warmup_steps": 10,
        "max_steps": 4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "predict_with_generate": False,
    }
    return VanillaTransformerTrainingArguments(**(settings | changes))


def collate(pairs: Sequence[Any]) -> dict[str, torch.Tensor]:
    """Pad pairs by hand, as an independent check of the collator."""

    def pad(rows: list[list[int]], value: int) -> torch.Tensor:
        width = max(map(len, rows))
        return torch.tensor([row + [value] * (width - len(row)) for row in rows])

    labels = [list(pair["labels"]) for pair in pairs]
    sources = [list(pair["input_ids"]) for pair in pairs]
    return {
        "input_ids": pad(sources, 0),
        "attention_mask": pad([[1] * len(row) for row in sources], 0),
        "labels": pad(labels, -100),
        "decoder_input_ids": pad([[1, *row[:-1]] for row in labels], 0),
    }


CHILD = Path(__file__).parent / "training" / "child_run.py"


def write_recipe(folder: Path, *, name: str = "run", **changes: Any) -> Path:
    """Write a small corpus and a recipe into `folder`; its run goes to `folder / name`. Return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    source, target = write_parallel_files(folder, 40)
    valid_source, valid_target = write_parallel_files(folder, 6, seed=1)
    values: dict[str, Any] = {
        "train_source": str(source),
        "train_target": str(target),
        "valid_source": str(valid_source),
        "valid_target": str(valid_target),
        "vocab_size": 300,
        "model": {
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "dropout": 0.2,
        },
        "tokens_per_update": 260,
        "tokens_per_device": 130,
        "max_steps": 9,
        "warmup_steps": 10,
        "save_steps": 3,
        "eval_steps": 3,
        "metric": "loss",
        "logging_steps": 1,
        "tensorboard": False,
        "output_dir": str(folder / name),
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values | changes), encoding="utf-8")
    return path


def of_one_stack(model: dict[str, Any], *, masked: bool) -> dict[str, Any]:
    """Return the fields of a recipe's model without those of the stack that a text model does not have."""
    absent = "decoder_" if masked else "encoder_"
    return {name: value for name, value in model.items() if not name.startswith(absent)}


def quiet_environment() -> dict[str, str]:
    """Return the environment of a training process: on the CPU, with one thread."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TOKENIZERS_PARALLELISM": "false",
    }


def processes_of(run_dir: Path) -> int:
    """Return how many processes trained a finished run together."""
    results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    return int(results["hardware"].partition(" ")[0])


class ProcessRunner:
    """Runs recipes in forked processes of one server, see `child_run.py`."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(CHILD)],
            env=quiet_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, recipe: Path, *, processes: int = 1, **kill: int) -> list[int]:
        """Train, and return the exit status of each process; on a failure its output is in the message.

        Args:
            processes: how many train together.
            kill: `kill_after_step` or `kill_while_saving`.
        """
        log = recipe.with_suffix(f".{time.monotonic_ns()}.log")
        job = {"recipe": str(recipe), "log": str(log), "processes": _environments(processes)} | kill
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        statuses = json.loads(self._server.stdout.readline())
        assert kill or not any(statuses), log.read_text()
        return statuses

    def close(self) -> None:
        """End the server."""
        self._server.communicate()


def _environments(processes: int) -> list[dict[str, str]]:
    """What a launcher tells each of its processes on a CPU."""
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes),
    }  # fmt: skip
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def step_losses(run_dir: Path) -> list[tuple[int, float]]:
    """Return step and loss of every training log of a run, from its last checkpoint."""
    last = last_checkpoint(run_dir)
    assert last is not None
    return [(entry["step"], entry["loss"]) for entry in read_state(last)["log_history"] if "loss" in entry]
