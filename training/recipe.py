"""Recipes: everything that one training run needs, as one flat YAML file and one typed dataclass.

`TrainRecipe` is the only place where a key, its meaning, its choices and its default are written; the help of
`vanilla-transformer train`, the comments of the packaged recipes and the validation all come from it.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import math
import re
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError

_PACKAGE = "vanilla_transformer.recipes"
_LAUNCH_FOLDER = "accelerate"


def _key(
    default: Any,
    meaning: str,
    *,
    section: str = "",
    choices: Sequence[str] = (),
    minimum: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field whose metadata hold what help, comments and validation are made of."""
    metadata = {
        "help": meaning,
        "section": section,
        "choices": tuple(choices),
        "minimum": minimum,
        "below": below,
    }
    if isinstance(default, dict | list):
        return field(default_factory=lambda: copy.copy(default), metadata=metadata | {"default": default})
    return field(default=default, metadata=metadata | {"default": default})


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """The settings of one training run; each field's metadata say its meaning, choices and limits.

    Paths are relative to the working directory. Lengths count tokens, sizes of batches count padded tokens.
    `fields()` lists what the metadata hold.

    Raises:
        InputError: a value of the wrong type or outside its limits, or keys that contradict each other.
    """

    train_source: str | None = _key(
        None,
        "Training text, source side: plain text (or .gz), UTF-8, one sentence a line.",
        section="Training data: train_source with train_target, or train_file, or dataset",
    )
    train_target: str | None = _key(
        None, "Training text, target side; line n translates line n of train_source."
    )
    train_file: str | None = _key(
        None, "Training pairs in one file with named columns: .tsv, .csv, .jsonl or .parquet."
    )
    dataset: str | None = _key(
        None, "Name (or folder) of a `datasets` data set, instead of files of your own."
    )
    dataset_config: str | None = _key(None, "Configuration of that data set, for example a language pair.")
    train_split: str = _key("train", "Split of that data set to train on.")
    source_column: str = _key(
        "source", "Column of the source sentence; for a data set of translations, the language code."
    )
    target_column: str = _key("target", "Column of the target sentence, or its language code.")
    streaming: bool = _key(
        False, "Read the training data as a stream, for a corpus larger than memory; needs max_steps."
    )
    streaming_window: int = _key(
        100_000, "Pairs that a stream holds at once to shuffle and to sort by length.", minimum=1
    )
    source_lang: str | None = _key(None, "Source language as a BCP-47 code such as en, de or zh.")
    target_lang: str | None = _key(
        None, "Target language; decides how BLEU splits words (zh, ja and ko have none)."
    )

    valid_source: str | None = _key(
        None,
        "Validation text, source side.",
        section="Validation data, given in the same way; the best checkpoint is chosen on it",
    )
    valid_target: str | None = _key(None, "Validation text, target side.")
    valid_file: str | None = _key(None, "Validation pairs in one file with named columns.")
    valid_split: str | None = _key(None, "Split of `dataset` to validate on.")

    max_source_length: int = _key(
        256, "Longest source in tokens, </s> counted.", section="Filters", minimum=1
    )
    max_target_length: int = _key(256, "Longest target in tokens, </s> counted.", minimum=1)
    long_sentences: str = _key(
        "drop",
        "What becomes of a pair that is longer; it is counted in each case.",
        choices=("drop", "cut", "keep"),
    )
    max_length_ratio: float | None = _key(
        None, "Drop pairs whose longer side has more than this many times the tokens of the other.", minimum=1
    )

    tokenizer: str | None = _key(
        None, "Folder or Hub name of a tokenizer; null trains one on the training data.", section="Tokenizer"
    )
    vocab_size: int = _key(
        37_000, "Entries of the vocabulary that source and target share (paper, 5.1).", minimum=1
    )
    tokenizer_sentences: int | None = _key(
        None, "Pairs that the tokenizer is trained on; null takes all.", minimum=1
    )
    bpe_dropout: float = _key(
        0.0, "Share of byte-pair merges left out at random in training; 0 turns it off.", minimum=0, below=1
    )

    preset: str = _key(
        "base",
        "Shape of the model: base, big or another row of Table 3 (VanillaTransformerConfig.from_preset).",
        section="Model",
    )
    model: dict[str, Any] = _key({}, "Fields of VanillaTransformerConfig that replace those of the preset.")
    init_from: str | None = _key(
        None, "Folder or Hub name of a model whose weights training starts from; null starts anew."
    )
    word_vectors: str | None = _key(
        None,
        "File of word vectors that the embeddings start from: word2vec, text or binary, or GloVe (needs the"
        " extra `vectors`); freeze: [embeddings] keeps them.",
    )
    freeze: list[str] = _key(
        [],
        "Parts of the model that are not trained: embeddings, encoder, decoder.layers.0-2 (its first three"
        " layers), or any other module by its path.",
    )
    attn_implementation: str = _key(
        "sdpa", "Attention kernel.", choices=("eager", "sdpa", "flash_attention_2", "flex_attention")
    )

    tokens_per_update: int = _key(
        25_000,
        "Most source tokens, and most target tokens, of one optimizer step over all devices (paper, 5.1).",
        section="Batches",
        minimum=1,
    )
    tokens_per_device: int = _key(
        4096,
        "Most source or target tokens of one forward pass on one device; accumulation follows.",
        minimum=1,
    )
    dataloader_workers: int = _key(0, "Processes that prepare batches ahead.", minimum=0)

    max_steps: int | None = _key(
        None,
        "Optimizer steps to train; either this or num_train_epochs is null.",
        section="Optimisation",
        minimum=1,
    )
    num_train_epochs: float | None = _key(
        None, "Passes over the training data; either this or max_steps is null.", minimum=0
    )
    warmup_steps: int = _key(4000, "Steps in which the learning rate rises (paper, 5.3).", minimum=1)
    learning_rate_scale: float = _key(
        1.0,
        "Factor on the paper's learning rate d_model^-0.5 * min(step^-0.5, step * warmup^-1.5).",
        minimum=0,
    )
    learning_rate_factors: dict[str, Any] = _key(
        {}, "Part of the model, named as in freeze: factor on the learning rate of its parameters."
    )
    label_smoothing: float = _key(
        0.1, "Probability that label smoothing spreads over the vocabulary (paper, 5.4).", minimum=0, below=1
    )
    adam_beta1: float = _key(0.9, "Adam's beta_1 (paper, 5.3).", minimum=0, below=1)
    adam_beta2: float = _key(0.98, "Adam's beta_2 (paper, 5.3).", minimum=0, below=1)
    adam_epsilon: float = _key(1e-9, "Adam's epsilon (paper, 5.3).", minimum=0)
    weight_decay: float = _key(0.0, "Decoupled weight decay; the paper has none.", minimum=0)
    max_grad_norm: float = _key(0.0, "Clip gradients to this norm; 0 never clips, as the paper.", minimum=0)
    precision: str = _key(
        "fp32",
        "Arithmetic of the forward and backward pass; weights stay in fp32.",
        choices=("fp32", "bf16", "fp16"),
    )
    torch_compile: bool = _key(False, "Compile the model with torch.compile.")
    gradient_checkpointing: bool = _key(
        False, "Compute activations again in the backward pass, to save memory."
    )
    seed: int = _key(1, "Seed of weights, dropout and the order of batches.", minimum=0)

    eval_steps: int | None = _key(
        None, "Validate every so many steps; null validates once per epoch.", section="Validation", minimum=1
    )
    eval_batch_size: int = _key(64, "Sentences of a validation batch per device.", minimum=1)
    eval_num_beams: int = _key(1, "Beams when validating; 1 is greedy and fast.", minimum=1)
    metric: str = _key(
        "bleu", "What the best checkpoint is best in, on validation data.", choices=("bleu", "chrf", "loss")
    )
    early_stopping_patience: int | None = _key(
        None, "Stop after so many validations without a better metric; null never stops early.", minimum=1
    )
    generation: dict[str, Any] = _key(
        {
            "num_beams": 4,
            "length_penalty": 0.6,
            "length_penalty_type": "gnmt",
            "max_length_beyond_source": 50,
            "early_stopping": "never",
        },
        "Decoding defaults saved with the model (fields of GenerationConfig; paper, 6.1), over those that it"
        " has; with one beam, length_penalty and early_stopping mean nothing and become null.",
    )

    save_steps: int | None = _key(
        None,
        "Save a checkpoint every so many steps; null saves with each validation.",
        section="Checkpoints",
        minimum=1,
    )
    keep_checkpoints: int = _key(
        5, "Latest checkpoints kept on disk; those that final_model needs are kept besides.", minimum=1
    )
    final_model: str = _key(
        "best",
        "What is saved in the end; without validation data the last ones stand for the best.",
        choices=("best", "average_best", "average_last", "last"),
    )
    average_checkpoints: int = _key(
        5, "Checkpoints that average_best and average_last average (paper, 6.1: base 5, big 20).", minimum=1
    )

    output_dir: str = _key(
        "runs/transformer", "Folder of the finished model and its checkpoints.", section="Output"
    )
    logging_steps: int = _key(100, "Log every so many steps.", minimum=1)
    tensorboard: bool = _key(True, "Write TensorBoard logs to output_dir/logs.")

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = _checked(item, _TYPES[item.name], getattr(self, item.name))
            object.__setattr__(self, item.name, value)
        self._check_data()
        self._check_schedule()
        self._check_model()
        self._check_generation()

    def _check_data(self) -> None:
        _check_pair(self, "train_source", "train_target")
        _check_pair(self, "valid_source", "valid_target")
        _check_at_most_one(self, ("train_source", "train_file", "dataset"))
        _check_at_most_one(self, ("valid_source", "valid_file", "valid_split"))
        if self.valid_split is not None and self.dataset is None:
            raise InputError("`valid_split` names a split of `dataset`, but `dataset` is null.")

    def _check_schedule(self) -> None:
        if self.max_steps is not None and self.num_train_epochs is not None:
            raise InputError("`max_steps` and `num_train_epochs` must not both be given: set one to null.")
        if self.num_train_epochs == 0:
            raise InputError("`num_train_epochs` must be positive, but is 0 instead.")
        if self.streaming and self.max_steps is None:
            raise InputError("`streaming` needs `max_steps`: the length of a stream is not known ahead.")
        needs_metric = self.effective_final_model in ("best", "average_best")
        if needs_metric and self.save_steps and (not self.eval_steps or self.save_steps % self.eval_steps):
            raise InputError(
                f"`save_steps` must be null or a multiple of `eval_steps` ({_as_yaml(self.eval_steps)}) when"
                f" `final_model` is {self.final_model}, but is {self.save_steps} instead."
            )

    def _check_model(self) -> None:
        from ..configuration import PRESETS, VanillaTransformerConfig
        from .parts import check_learning_rate_factors

        if self.preset not in PRESETS:
            raise InputError(f"`preset` must be one of {', '.join(PRESETS)}, but is {self.preset!r} instead.")
        if "vocab_size" in self.model:
            raise InputError("`model.vocab_size` follows from the tokenizer: set `vocab_size` instead.")
        known = {item.name for item in dataclasses.fields(VanillaTransformerConfig)}
        _check_known(self.model, prefix="model.", known=known)
        check_learning_rate_factors(self.learning_rate_factors)
        _check_at_most_one(self, ("init_from", "word_vectors"))
        if self.init_from is None:
            with _one_line_errors():
                VanillaTransformerConfig.from_preset(
                    self.preset, **{"vocab_size": self.vocab_size, **self.model}
                )

    def _check_generation(self) -> None:
        from transformers import GenerationConfig

        from ..modeling.generation_vanilla_transformer import OWN_FIELDS, check_own_fields

        beams = self.generation.get("num_beams")
        if beams is not None and (not isinstance(beams, int) or beams < 1):
            raise InputError(f"`generation.num_beams` must be positive, but is {_as_yaml(beams)} instead.")
        if beams == 1:
            # transformers refuses to save what only a beam search uses.
            object.__setattr__(
                self, "generation", self.generation | {"length_penalty": None, "early_stopping": None}
            )
        _check_known(
            self.generation, prefix="generation.", known={**GenerationConfig().to_dict(), **OWN_FIELDS}
        )
        with _one_line_errors():
            config = GenerationConfig(**(_default("generation") | self.generation))
            config.validate(strict=True)
            check_own_fields(config)

    @property
    def has_validation(self) -> bool:
        """Whether validation data are given."""
        return any(value is not None for value in (self.valid_source, self.valid_file, self.valid_split))

    @property
    def effective_final_model(self) -> str:
        """`final_model`, where the last checkpoints stand for the best if there are no validation data."""
        if self.has_validation:
            return self.final_model
        return {"best": "last", "average_best": "average_last"}.get(self.final_model, self.final_model)

    def require_trainable(self) -> None:
        """Refuse a recipe that is valid but lacks what a run cannot do without.

        Raises:
            InputError: no training data, no length of training, or early stopping without validation data.
        """
        if self.train_source is None and self.train_file is None and self.dataset is None:
            raise InputError(
                "no training data: give `train_source` and `train_target`, or `train_file`, or `dataset`."
            )
        if self.max_steps is None and self.num_train_epochs is None:
            raise InputError("one of `max_steps` and `num_train_epochs` must be given, but both are null.")
        if self.early_stopping_patience is not None and not self.has_validation:
            raise InputError(
                "`early_stopping_patience` needs validation data: give `valid_source` and `valid_target`,"
                " or `valid_file`, or `valid_split`."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainRecipe:
        """A recipe from plain values; keys that are absent have their defaults.

        Raises:
            InputError: an unknown key (the closest known one is named) or a value that cannot be used.
        """
        _check_known(values, prefix="", known=_TYPES)
        return cls(**dict(values))

    def to_dict(self) -> dict[str, Any]:
        """All keys with their values, in the order of the file."""
        return dataclasses.asdict(self)

    def to_yaml(self, *, comments: bool = False) -> str:
        """The recipe as YAML that `load_recipe` reads back to an equal one.

        Args:
            comments: write meaning, choices and default above each key, and a title above each section.
        """
        if not comments:
            return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)
        return "".join(self._commented_keys()).lstrip("\n")

    def _commented_keys(self) -> Iterable[str]:
        for item in dataclasses.fields(self):
            if item.metadata["section"]:
                yield f"\n\n## {item.metadata['section']}"
            dumped = yaml.safe_dump(
                {item.name: getattr(self, item.name)}, sort_keys=False, allow_unicode=True
            )
            yield "\n" + "\n".join(comment_lines(item.name)) + "\n" + dumped

    def differences(self, other: TrainRecipe) -> list[str]:
        """Names of the keys in which two recipes differ, in the order of the file."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [name for name in mine if mine[name] != theirs[name]]


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> TrainRecipe:
    """Read a recipe and replace keys of it.

    Args:
        name_or_path: the name of a packaged recipe (`available_recipes`), or a file, if it has a path
            separator or ends in .yaml or .yml.
        overrides: command-line words: `--key value`, `--key=value`, `--model.d_model 256`. Values are read as
            YAML. Giving one of `max_steps` and `num_train_epochs` sets the other to null.

    Raises:
        InputError: no such recipe, malformed YAML, an unknown key or a value that cannot be used.
    """
    source, text = str(name_or_path), recipe_text(name_or_path)
    values = _parse_mapping(text, source)
    _apply_overrides(values, parse_overrides(overrides))
    try:
        return TrainRecipe.from_dict(values)
    except InputError as error:
        raise InputError(f"recipe {source}: {error}") from None


def available_recipes() -> dict[str, str]:
    """The packaged recipes: name -> what its first comment line says."""
    return _first_lines(resources.files(_PACKAGE))


def available_launch_configs() -> dict[str, str]:
    """The packaged configurations of `accelerate launch`: "accelerate/fsdp" -> its first comment line."""
    folder = resources.files(_PACKAGE).joinpath(_LAUNCH_FOLDER)
    return {f"{_LAUNCH_FOLDER}/{name}": line for name, line in _first_lines(folder).items()}


def _first_lines(folder: Traversable) -> dict[str, str]:
    """What the first comment line of each YAML file in `folder` says, by the file's name."""
    files = sorted(
        (item for item in folder.iterdir() if item.name.endswith(".yaml")), key=lambda item: item.name
    )
    return {
        item.name.removesuffix(".yaml"): item.read_text("utf-8").partition("\n")[0].lstrip("# ")
        for item in files
    }


def launch_config_text(name: str) -> str:
    """The YAML text of a packaged configuration of `accelerate launch`, such as "accelerate/fsdp".

    Raises:
        InputError: no such configuration.
    """
    known = available_launch_configs()
    if name not in known:
        raise InputError(
            f"no configuration is named {name!r}{_closest(name, known)} There are {', '.join(known)}."
        )
    return resources.files(_PACKAGE).joinpath(f"{name}.yaml").read_text("utf-8")


def recipe_text(name_or_path: str | Path) -> str:
    """The YAML text of a packaged recipe, or of a file.

    Raises:
        InputError: no such recipe, or a file that cannot be read.
    """
    name, known = str(name_or_path), available_recipes()
    if isinstance(name_or_path, Path) or "/" in name or "\\" in name or name.endswith((".yaml", ".yml")):
        return _read_file(Path(name))
    if name not in known:
        raise InputError(
            f"no recipe is named {name!r}{_closest(name, known)} Recipes: {', '.join(known)}; a file of your"
            " own needs its .yaml suffix."
        )
    return resources.files(_PACKAGE).joinpath(f"{name}.yaml").read_text("utf-8")


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Command-line words to values: `["--seed", "3", "--model.d_model=256"]` -> `{"seed": 3, ...}`.

    A dash inside a key stands for an underscore. Values are YAML; those of string keys stay as typed, so that
    `--target_lang no` is Norwegian, and only `null` is nothing.

    Raises:
        InputError: a word that is no `--key`, a key without a value, or an unknown key.
    """
    values: dict[str, Any] = {}
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--") or word == "--":
            raise InputError(f"expected `--key value`, but found {word!r}.")
        key, equals, text = word[2:].partition("=")
        if not equals:
            if not remaining or remaining[0].startswith("--"):
                raise InputError(f"`--{key}` needs a value.")
            text = remaining.pop(0)
        key = key.replace("-", "_")
        _check_known([key.partition(".")[0]], prefix="", known=_TYPES)
        values[key] = _override_value(key, text)
    return values


def comment_lines(name: str) -> list[str]:
    """The comment above key `name` in a recipe: meaning, choices and default, wrapped, each with `# `."""
    metadata = TrainRecipe.__dataclass_fields__[name].metadata
    choices = f" Choices: {', '.join(metadata['choices'])}." if metadata["choices"] else ""
    text = f"{metadata['help']}{choices} Default: {_as_yaml(metadata['default'])}."
    return textwrap.wrap(
        text,
        width=108,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


_KIND_NAMES = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of strings",
    dict: "a mapping of keys to values",
}


class _RecipeLoader(yaml.SafeLoader):
    """YAML that reads 1e-9 as a number, as YAML 1.2 does, and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                line = key_node.start_mark.line + 1
                raise InputError(f"line {line}: `{key_node.value}` is given twice.")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


_RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _read_file(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"recipe {path} is not UTF-8: {error.reason} at byte {error.start}.") from None
    except OSError as error:
        raise InputError(f"recipe {path} cannot be read: {error.strerror}.") from None


def _parse_mapping(text: str, source: str) -> dict[str, Any]:
    try:
        values = yaml.load(text, Loader=_RecipeLoader)
    except InputError as error:
        raise InputError(f"recipe {source}, {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"recipe {source}{_yaml_problem(error)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"recipe {source} must be a YAML mapping of keys to values.")
    return values


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}" if mark is not None else ""
    return f"{where} is not YAML: {getattr(error, 'problem', None) or 'unreadable characters'}."


def _apply_overrides(values: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    for one, other in (("max_steps", "num_train_epochs"), ("num_train_epochs", "max_steps")):
        if overrides.get(one) is not None and other not in overrides:
            values[other] = None
    for key, value in overrides.items():
        name, dot, inner = key.partition(".")
        if not dot:
            values[name] = value
        elif not isinstance(values.setdefault(name, dict(_default(name))), dict):
            raise InputError(f"`{name}` must be a mapping, but is {values[name]!r} instead.")
        else:
            values[name] = values[name] | {inner: value}


def _override_value(key: str, text: str) -> Any:
    name, dot, inner = key.partition(".")
    if dot and (_plain_type(_TYPES[name]) is not dict or not inner):
        raise InputError(f"`{name}` has no keys of its own, so `--{key}` cannot be set.")
    if not dot and _plain_type(_TYPES[name]) is str:
        return None if text in ("null", "~") else text
    try:
        return yaml.load(text, Loader=_RecipeLoader)
    except yaml.YAMLError:
        raise InputError(f"`--{key}` has the value {text!r}, which is not YAML.") from None


def _checked(item: dataclasses.Field[Any], annotation: Any, value: Any) -> Any:
    """`value`, converted to the field's type; an `InputError` if it does not fit."""
    if value is None and _is_optional(annotation):
        return None
    value = _converted(item.name, _plain_type(annotation), value)
    choices = item.metadata["choices"]
    if choices and value not in choices:
        raise InputError(f"`{item.name}` must be one of {', '.join(choices)}, but is {value!r} instead.")
    _check_limits(item, value)
    return value


def _converted(name: str, kind: type, value: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is dict and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return dict(value)
    if kind is list and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return list(value)
    if kind is not list and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    hint = " (put it in quotes)" if kind is str and not isinstance(value, Mapping) else ""
    raise InputError(f"`{name}` must be {_KIND_NAMES[kind]}{hint}, but is {_as_yaml(value)} instead.")


def _check_limits(item: dataclasses.Field[Any], value: Any) -> None:
    minimum, below = item.metadata["minimum"], item.metadata["below"]
    if minimum is None:
        return
    if math.isfinite(value) and value >= minimum and (below is None or value < below):
        return
    if below is not None:
        rule = f"at least {minimum} and below {below}"
    elif minimum == 1 and isinstance(value, int):
        rule = "positive"
    else:
        rule = "finite and not negative" if minimum == 0 else f"finite and at least {minimum}"
    raise InputError(f"`{item.name}` must be {rule}, but is {value} instead.")


def _check_pair(recipe: TrainRecipe, first: str, second: str) -> None:
    for given, missing in ((first, second), (second, first)):
        if getattr(recipe, given) is not None and getattr(recipe, missing) is None:
            raise InputError(f"`{given}` is given without `{missing}`.")


def _check_at_most_one(recipe: TrainRecipe, names: Sequence[str]) -> None:
    given = [name for name in names if getattr(recipe, name) is not None]
    if len(given) > 1:
        raise InputError(f"`{given[0]}` and `{given[1]}` must not both be given: set one to null.")


def _check_known(keys: Iterable[str], *, prefix: str, known: Iterable[str]) -> None:
    names = set(known)
    for key in keys:
        if key not in names:
            raise InputError(f"unknown key `{prefix}{key}`{_closest(key, names, prefix)}")


def _closest(word: str, known: Iterable[str], prefix: str = "") -> str:
    matches = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean `{prefix}{matches[0]}`?" if matches else "."


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn what a library says of a wrong value into an `InputError` of one line."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (ValueError, StrictDataclassError) as error:
        raise InputError(" ".join(str(error).split())) from None


def _default(name: str) -> Any:
    return TrainRecipe.__dataclass_fields__[name].metadata["default"]


def _as_yaml(value: Any) -> str:
    dumped = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf)
    return dumped.removesuffix("\n").removesuffix("\n...")


def _is_optional(annotation: Any) -> bool:
    return isinstance(annotation, types.UnionType) and type(None) in typing.get_args(annotation)


def _plain_type(annotation: Any) -> type:
    """`str | None` -> str, `dict[str, Any]` -> dict."""
    inner = typing.get_args(annotation)[0] if _is_optional(annotation) else annotation
    return typing.get_origin(inner) or inner


_TYPES: dict[str, Any] = typing.get_type_hints(TrainRecipe)
