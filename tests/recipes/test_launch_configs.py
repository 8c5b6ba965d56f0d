"""The configurations of `accelerate launch`: what they ask for, and some steps on CPU processes with each."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from safetensors.torch import load_file
from training_toy import CHILD, processes_of, quiet_environment, step_losses, write_recipe

from vanilla_transformer.training.recipe import available_launch_configs, launch_config_text

FOLDER = Path(__file__).resolve().parents[2] / "recipes"
NAMES = list(available_launch_configs())
# Accelerate runs FSDP on accelerators only; this child tells it that the CPU is one.
FSDP_CHILD = Path(__file__).with_name("fsdp_on_cpu.py")


def settings(name: str) -> dict[str, Any]:
    return yaml.safe_load(launch_config_text(name))


@pytest.mark.parametrize("name", NAMES)
def test_accelerate_reads_the_file_and_its_header_launches_it(name: str) -> None:
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert config.mixed_precision == "no", "the recipe decides"
    assert config.num_processes == {"accelerate/one_gpu": 1, "accelerate/several_nodes": 16}.get(name, 8)
    header = [line.lstrip("# ") for line in launch_config_text(name).split("\n\n")[0].splitlines()]
    command = " ".join(header).replace("\\ ", "").partition("accelerate launch ")[2].split()
    arguments = launch_command_parser().parse_args(command)
    assert arguments.config_file == f"{name.partition('/')[2]}.yaml"
    assert (arguments.module, arguments.training_script) == (True, "vanilla_transformer.scripts.train")


def test_what_sets_them_apart() -> None:
    kinds = {name.partition("/")[2]: settings(name)["distributed_type"] for name in NAMES}
    assert kinds == {"fsdp": "FSDP", "one_gpu": "NO", "one_node": "MULTI_GPU", "several_nodes": "MULTI_GPU"}
    assert settings("accelerate/several_nodes")["num_machines"] == 2


def start(name: str, options: list[str], child: Path, recipe: Path) -> subprocess.Popen[str]:
    """Start training as a configuration says, but for what `options` replace."""
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(FOLDER / f"{name}.yaml"), *options, str(child), str(recipe)]
    # `--cpu` would start one process, whatever `--num_processes` says.
    return subprocess.Popen(
        command, env=quiet_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def wait_for(*launchers: subprocess.Popen[str]) -> None:
    for launcher in launchers:
        _, errors = launcher.communicate(timeout=300)
        assert launcher.returncode == 0, errors


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def recipe_of(folder: Path, name: str) -> Path:
    """A recipe of six steps without dropout, so that two processes compute what one does."""
    recipe = write_recipe(
        folder, name=name, max_steps=6, metric="bleu", generation={"num_beams": 1, "max_new_tokens": 3}
    )
    recipe.write_text(recipe.read_text().replace("dropout: 0.2", "dropout: 0.0"))
    return recipe


def on_two_processes() -> list[str]:
    return ["--num_processes", "2", "--main_process_port", free_port()]


@pytest.mark.slow
def test_each_configuration_trains_the_same_model_on_two_processes(tmp_path: Path) -> None:
    wait_for(start("accelerate/one_gpu", ["--cpu"], CHILD, recipe_of(tmp_path, "one_gpu")))
    wait_for(start("accelerate/one_node", on_two_processes(), CHILD, recipe_of(tmp_path, "one_node")))
    wait_for(start("accelerate/fsdp", on_two_processes(), FSDP_CHILD, recipe_of(tmp_path, "fsdp")))
    recipe = recipe_of(tmp_path, "several_nodes")
    nodes = [*on_two_processes(), "--num_machines", "2", "--main_process_ip", "127.0.0.1"]
    ranks = [[*nodes, "--machine_rank", str(rank)] for rank in range(2)]
    wait_for(*[start("accelerate/several_nodes", rank, CHILD, recipe) for rank in ranks])
    wanted = load_file(tmp_path / "one_gpu" / "model.safetensors")
    for name in ("one_node", "several_nodes", "fsdp"):
        assert processes_of(tmp_path / name) == 2, name
        for (_, ours), (_, theirs) in zip(
            step_losses(tmp_path / name), step_losses(tmp_path / "one_gpu"), strict=True
        ):
            assert ours == pytest.approx(theirs, rel=1e-5), name
        found = load_file(tmp_path / name / "model.safetensors")
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert (found[key] - value).abs().max() <= 1e-4 * value.abs().max(), (name, key)
