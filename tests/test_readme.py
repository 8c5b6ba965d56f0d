"""The README's parameters are what the code counts, its commands exist, and the Chinese one says the same."""

import ast
import itertools
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from helpers import load_benchmark
from training_toy import toy_model
from transformers import PreTrainedModel

from vanilla_transformer import (
    PAPER_DECODING,
    VanillaTransformerForCausalLM,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerTokenizer,
    set_decoding,
)
from vanilla_transformer.configuration import PRESETS, VanillaTransformerConfig
from vanilla_transformer.scripts import open_demo
from vanilla_transformer.scripts.cli import COMMANDS
from vanilla_transformer.training import segmentation
from vanilla_transformer.training.checkpoints import CURVES_FILE, DATA_FILE, RECIPE_FILE, RESULTS_FILE
from vanilla_transformer.training.embedded_corpus import build_corpus
from vanilla_transformer.training.recipe import (
    ClassifierRecipe,
    LanguageModelRecipe,
    RunRecipe,
    TrainRecipe,
    load_recipe,
)
from vanilla_transformer.training.run import LOG_FOLDER
from vanilla_transformer.training.run_folder import FREE_KEYS
from vanilla_transformer.training.tasks import task_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
ROWS = re.findall(r"^\| `(\w+)` \|[^|]*\| (\d*) \| ([\d.]+) \| (.*) \|$", README, re.MULTILINE)


def test_every_row_of_table_3_is_in_the_readme() -> None:
    assert [row[0] for row in ROWS] == [name for name in PRESETS if name != "big_en_fr"]


@pytest.mark.parametrize("name, paper, ours, difference", ROWS)
def test_parameters_in_the_readme(name: str, paper: str, ours: str, difference: str) -> None:
    millions = VanillaTransformerConfig.from_preset(name).num_parameters / 1e6
    printed = PRESETS[name].paper_parameters
    assert ours == f"{millions:.1f}"
    assert paper == (str(printed) if printed else "")
    assert difference.strip() == (f"{100 * (millions / printed - 1):+.1f}%" if printed else "")


def test_commands_in_the_readme() -> None:
    shown = set(re.findall(r"vanilla-transformer ([a-z][a-z-]+)", README))
    assert shown <= set(COMMANDS), shown - set(COMMANDS)
    scripts = set(re.findall(r"scripts/(\w+\.py)", README))
    assert scripts and all((ROOT / "scripts" / name).is_file() for name in scripts)


def code_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def shown_commands() -> list[list[str]]:
    """The words of every `vanilla-transformer` command in a block of code, placeholders left out."""
    found = []
    for name in ("README.md", "docs/results.md", "docs/speed.md", "docs/tour.md"):
        for block in code_blocks((ROOT / name).read_text("utf-8"), "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"[|;>]", line):
                    # Other lines may be of a script, whose quotes end elsewhere.
                    words = shlex.split(part, comments=True) if "vanilla-transformer" in part else []
                    if "vanilla-transformer" in words:
                        found.append(words[words.index("vanilla-transformer") + 1 :])
    return [[word for word in words if word != "..." and not word.startswith("$")] for words in found]


@pytest.mark.parametrize("words", shown_commands(), ids=" ".join)
def test_shown_commands_have_options_that_exist(words: list[str]) -> None:
    command, *rest = words
    if "--help" in rest:
        return
    module = import_module(f"vanilla_transformer.scripts.{COMMANDS[command][0]}")
    recipes = {"train": TrainRecipe, "train-lm": LanguageModelRecipe, "train-classifier": ClassifierRecipe}
    defaults = {"train-lm": "lm_causal", "train-classifier": "classifier"}
    if command in recipes:
        recipe = rest.pop(0) if not rest[0].startswith("--") else defaults[command]
        load_recipe(recipe, rest, recipes[command])
    elif command == "distill":
        args, overrides = module.parser().parse_known_args(rest)
        load_recipe(args.recipe, overrides)
    elif command == "demo" and rest:
        open_demo.parser().parse_args(rest)
    else:
        module.parser().parse_args(rest)


def shown_benchmarks() -> list[list[str]]:
    """The words behind `python` of every benchmark's command in the pages and the Makefile."""
    found = []
    for name in ("README.md", "docs/results.md", "docs/speed.md", "Makefile"):
        text = (ROOT / name).read_text("utf-8").replace("\\\n", " ")
        for line in re.findall(r"python (benchmarks/\w+\.py[^`\n]*)", text):
            words = shlex.split(re.split("[|;>]", line)[0], comments=True)
            found.append([word for word in words if not word.startswith("$")])
    return found


@pytest.mark.parametrize("words", shown_benchmarks(), ids=" ".join)
def test_shown_benchmarks_have_options_that_exist(words: list[str]) -> None:
    program = load_benchmark(Path(words[0]).stem)
    if hasattr(program, "parse_arguments"):
        program.parse_arguments(words[1:])
        return
    args, overrides = program.parser().parse_known_args(words[1:])
    if overrides:
        load_recipe(args.recipe, overrides)


@pytest.mark.parametrize("block", code_blocks(README, "python"))
def test_shown_python_is_python_and_its_imports_exist(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            module = import_module(str(node.module))
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []
        elif isinstance(node, ast.Import):
            for name in node.names:
                import_module(name.name)


# Of the shown code: what stands for something else, what takes days, and where a test may train.
STAND_INS = {"me/zh-en": "runs/demo", "25000, max_steps=100000": "2500, max_steps=2, use_cpu=True"}


# What the README's Python reads beside the demo: the recipe, its kind, and the class of the model.
OTHER_RUNS: tuple[tuple[str, type[RunRecipe], type[PreTrainedModel]], ...] = (
    ("classifier", ClassifierRecipe, VanillaTransformerForSequenceClassification),
    ("lm_causal", LanguageModelRecipe, VanillaTransformerForCausalLM),
    ("lm_masked", LanguageModelRecipe, VanillaTransformerForMaskedLM),
)


def leave_what_is_read(folder: Path) -> None:
    """Write the runs and the corpus that the README's Python reads."""
    corpus = build_corpus(train_size=300, valid_size=10, test_size=10)
    lines = {
        "train.en": [pair.target for pair in corpus.train],
        "train.de": [pair.source for pair in corpus.train],
    }
    for name, texts in lines.items():
        (folder / name).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    tokenizer = VanillaTransformerTokenizer.train_from_iterator(
        itertools.chain(*lines.values()), vocab_size=600
    )
    tokenizer.save_pretrained(folder / "runs/demo")
    model = toy_model(vocab_size=len(tokenizer))
    set_decoding(model.generation_config, **PAPER_DECODING)  # as training leaves it
    model.save_pretrained(folder / "runs/demo")
    for name, kind, model_class in OTHER_RUNS:
        recipe = load_recipe(name, [], kind)
        head = model_class(model.config)
        head.save_pretrained(folder / recipe.output_dir)
        finished = VanillaTransformerTokenizer.from_pretrained(folder / "runs/demo")
        task_of(recipe).finish_tokenizer(finished)
        finished.save_pretrained(folder / recipe.output_dir)


def test_shown_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it from top to bottom, each block with what the ones before it have made."""
    leave_what_is_read(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in code_blocks(README, "python"):
        for shown, instead in STAND_INS.items():
            block = block.replace(shown, instead)
        exec(compile(block, "README.md", "exec"), names)
    assert Path("runs/mine/model.safetensors").is_file()


@pytest.mark.parametrize("name, shown", [("torch", "PyTorch"), ("transformers", "transformers")])
def test_the_oldest_versions_named_are_those_of_the_project(name: str, shown: str) -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    (oldest,) = (match[1] for one in dependencies if (match := re.match(rf"{name}>=([\d.]+)", one)))
    pages = ["README.md", "README.zh-CN.md"]
    if name == "transformers":
        pages += ["model_card.md", "modeling/hub_vanilla_transformer.py"]
    for page in pages:
        text = (ROOT / page).read_text("utf-8")
        assert set(re.findall(rf"{shown} (\d+\.\d+)", text)) == {oldest}, page


def test_the_keys_that_may_change_are_named() -> None:
    (said,) = re.findall(r"speed and reports may change:(.+?)\. A", README, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", said)) == FREE_KEYS


def test_the_readme_names_what_a_run_leaves() -> None:
    (said,) = re.findall(r"^The folder then holds (?:.+\n)+", README, re.MULTILINE)
    files = (RECIPE_FILE, RESULTS_FILE, CURVES_FILE, DATA_FILE)
    for name in (*files, f"{LOG_FOLDER}/", f"{segmentation.FOLDER}/"):
        assert f"`{name}`" in said, name


def facts(page: str) -> Iterator[tuple[int, str]]:
    """What both languages share, by lines of code and tables and by paragraphs: (line number, what it is)."""
    paragraph: list[str] = []
    fence, start = "", 1
    for number, line in enumerate([*page.splitlines(), ""], start=1):
        if line.startswith("```"):
            fence = "" if fence else line
            yield number, line
        elif fence:
            yield number, f"code: {re.sub('(^| +)#.*', '', line)}"
        elif line.startswith("|"):
            yield number, f"row of {line.count('|') - 1} cells: {_figures(line)}"
        elif line.strip():
            start = start if paragraph else number
            paragraph.append(line)
        elif paragraph:
            yield start, f"{re.match('#*', paragraph[0])[0]} {_figures(' '.join(paragraph))}"  # type: ignore[index]
            paragraph = []


def _figures(text: str) -> str:
    """Code and numbers in an order that does not depend on the language."""
    code = re.findall(r"`[^`]+`", text)
    numbers = re.findall(r"\d[\d,.]*\d|\d", re.sub(r"`[^`]+`", " ", text))
    return " ".join([*sorted(code), *sorted(numbers)])


def test_the_chinese_readme_says_the_same() -> None:
    """Code but for its comments, tables row by row, code and numbers in the prose."""
    chinese = (ROOT / "README.zh-CN.md").read_text("utf-8")
    end = (0, "the end")
    for (here, english), (there, other) in itertools.zip_longest(
        facts(README), facts(chinese), fillvalue=end
    ):
        assert english == other, (
            f"README.md, line {here}, has\n  {english}\nand README.zh-CN.md, line {there}, has\n  {other}"
        )
