"""List the packaged recipes, or print one, to read it or to make a file of your own from it.

    vanilla-transformer recipes
    vanilla-transformer recipes multi30k_en_de > mine.yaml
    vanilla-transformer recipes accelerate/one_node > one_node.yaml

Those named accelerate/... are no recipes but configurations of `accelerate launch --config_file`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.options import parser_of


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument("name", nargs="?", help="a recipe to print; without it, all are listed")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Print the list, or the recipe."""
    from vanilla_transformer.training import recipe

    if args.name:
        is_launch_config = args.name.startswith("accelerate/")
        print((recipe.launch_config_text if is_launch_config else recipe.recipe_text)(args.name), end="")
        return
    listed = recipe.available_recipes() | recipe.available_launch_configs()
    width = max(map(len, listed)) + 2
    for name, summary in listed.items():
        print(f"{name:<{width}}{summary}")


if __name__ == "__main__":
    raise SystemExit(main())
