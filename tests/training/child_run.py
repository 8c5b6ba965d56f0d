"""Trains in processes of its own that can be killed, with the slow imports done only once.

As a script with a recipe (`child_run.py RECIPE`, also under `accelerate launch`) it trains. Without, it reads
jobs from standard input, one JSON object a line, trains in a forked process for each of the job's `processes`
(environment variables), and answers with a line of their exit statuses, negative for a signal.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import matplotlib.backends.backend_agg  # noqa: F401  what `train` imports late, imported before the fork
import torch

import vanilla_transformer.training.metrics  # noqa: F401
from vanilla_transformer.training import load_recipe, train
from vanilla_transformer.training.callbacks import TrainingHooks

# A process that waits in vain for another one ends all the same.
TIME_LIMIT = 300


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_after_step(step: int) -> None:
    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == step:
            die()

    TrainingHooks.on_step_end = on_step_end  # type: ignore[method-assign]


def kill_while_saving(step: int) -> None:
    """Die in the middle of the optimizer's file, which is written after the weights."""
    save = torch.save

    def half_save(value: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        save(value, path, *args, **kwargs)
        if Path(path).name == "optimizer.pt" and Path(path).parent.name == f"checkpoint-{step}":
            with open(path, "r+b") as file:
                file.truncate(os.path.getsize(path) // 2)
            die()

    torch.save = half_save  # type: ignore[assignment]


def run_job(job: dict[str, Any], environment: dict[str, str]) -> int:
    """Train in this forked process; what it prints goes to the job's log."""
    signal.alarm(TIME_LIMIT)
    os.environ.update(environment)
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        if job.get("kill_after_step") is not None:
            kill_after_step(job["kill_after_step"])
        if job.get("kill_while_saving") is not None:
            kill_while_saving(job["kill_while_saving"])
        train(load_recipe(Path(job["recipe"])))
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def start(job: dict[str, Any], environment: dict[str, str]) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(run_job(job, environment))
    return pid


def serve() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        pids = [start(job, environment) for environment in job["processes"]]
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(load_recipe(Path(sys.argv[1])))
    else:
        serve()
