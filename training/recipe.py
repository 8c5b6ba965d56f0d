"""Recipes: everything that one training run needs, as one flat YAML file and one typed dataclass.

`TrainRecipe` (translation), `LanguageModelRecipe` and `ClassifierRecipe` are the only places where a key, its
meaning, its choices and its default are written; the help of `vanilla-transformer train`, `train-lm` and
`train-classifier`, the comments of the packaged recipes and the validation all come from them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, ClassVar, TypeVar, overload

from ..errors import InputError, first_line
from .checkpoints import RECIPE_FILE, list_checkpoints
from .recipe_values import (
    Recipe,
    apply_overrides,
    as_yaml,
    check_at_most_one,
    check_known,
    check_pair,
    closest,
    converted,
    default_of,
    key_types,
    one_line_errors,
    parse_mapping,
    parse_overrides,
    read_recipe_file,
    recipe_key,
)

_PACKAGE = "vanilla_transformer.recipes"
_LAUNCH_FOLDER = "accelerate"
# Types that GenerationConfig does not check: a wrong one would fail only in `generate()`.
_GENERATION_TYPES: dict[str, type] = {
    **dict.fromkeys(("num_beams", "num_return_sequences", "top_k", "max_length", "max_new_tokens"), int),
    **dict.fromkeys(("min_length", "min_new_tokens", "max_length_beyond_source"), int),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size"), int),
    **dict.fromkeys(("max_time", "length_penalty", "temperature", "top_p", "min_p", "typical_p"), float),
    **dict.fromkeys(("repetition_penalty", "encoder_repetition_penalty", "patience"), float),
    **dict.fromkeys(("do_sample", "use_cache", "return_dict_in_generate", "output_scores"), bool),
    **dict.fromkeys(("output_logits", "output_attentions", "output_hidden_states"), bool),
    **dict.fromkeys(("renormalize_logits", "remove_invalid_values"), bool),
}
# transformers 5 has these as code on the Hub, which is run only for who trusts it.
_SEARCHES_ON_THE_HUB = ("num_beam_groups", "penalty_alpha", "dola_layers", "constraints", "force_words_ids")
# More entries than tokenizers have.
_ANY_VOCABULARY = 2_000_000
# What each stack has a field of its own for.
_STACK_SIZES = ("layers", "attention_heads", "ffn_dim")
_METRIC = "What the best checkpoint is best in, on validation data."


@dataclass(frozen=True, kw_only=True)
class RunRecipe(Recipe):
    """The settings that every training run has, whatever it trains.

    Paths are relative to the working directory. Lengths count tokens, sizes of batches count padded tokens.
    """

    # The sub-command that runs it, and the keys of which one gives the data to train on, or to validate on.
    command: ClassVar[str]
    training_keys: ClassVar[tuple[str, ...]]
    validation_keys: ClassVar[tuple[str, ...]]

    tokenizer: str | None = recipe_key(
        None, "Folder or Hub name of a tokenizer; null trains one on the training data.", section="Tokenizer"
    )
    vocab_size: int = recipe_key(
        37_000, "Entries of the vocabulary; source and target share one (paper, 5.1).", minimum=1
    )
    lowercase: bool = recipe_key(
        False,
        "Let the trained tokenizer lower-case all text, so that the model reads and writes no capitals.",
    )
    tokenizer_sentences: int | None = recipe_key(
        None, "Pairs or texts that the tokenizer is trained on; null takes all.", minimum=1
    )
    preset: str = recipe_key(
        "base",
        "Shape of the model: base, big or another row of Table 3 (VanillaTransformerConfig.from_preset); the"
        " label smoothing of rows D3 and D4 is a key of its own.",
        section="Model",
    )
    model: dict[str, Any] = recipe_key(
        {}, "Fields of VanillaTransformerConfig that replace those of the preset."
    )
    init_from: str | None = recipe_key(
        None, "Folder or Hub name of a model whose weights training starts from; null starts anew."
    )
    word_vectors: str | None = recipe_key(
        None,
        "File of word vectors that the embeddings start from: word2vec, text or binary, or GloVe (needs the"
        " extra `vectors`); freeze: [embeddings] keeps them.",
    )
    freeze: list[str] = recipe_key(
        [],
        "Parts of the model that are not trained: embeddings, encoder, decoder.layers.0-2 (its first three"
        " layers), or any other module by its path.",
    )
    attn_implementation: str = recipe_key(
        "sdpa", "Attention kernel.", choices=("eager", "sdpa", "flash_attention_2", "flex_attention")
    )
    tokens_per_update: int = recipe_key(
        25_000,
        "Most source tokens, and most target tokens, of one optimizer step over all devices (paper, 5.1).",
        section="Batches",
        minimum=1,
    )
    tokens_per_device: int | None = recipe_key(
        None,
        "Most source or target tokens of one forward pass on one device; accumulation follows. null is 1024"
        " on a CPU and 4096 elsewhere.",
        minimum=1,
    )
    dataloader_workers: int = recipe_key(0, "Processes that prepare batches ahead.", minimum=0)
    max_steps: int | None = recipe_key(
        None,
        "Optimizer steps to train; either this or num_train_epochs is null.",
        section="Optimisation",
        minimum=1,
    )
    num_train_epochs: float | None = recipe_key(
        None, "Passes over the training data; either this or max_steps is null.", minimum=0
    )
    warmup_steps: int = recipe_key(4000, "Steps in which the learning rate rises (paper, 5.3).", minimum=1)
    learning_rate_scale: float = recipe_key(
        1.0,
        "Factor on the paper's learning rate d_model^-0.5 * min(step^-0.5, step * warmup^-1.5).",
        minimum=0,
    )
    learning_rate_factors: dict[str, Any] = recipe_key(
        {}, "Part of the model, named as in freeze: factor on the learning rate of its parameters."
    )
    label_smoothing: float = recipe_key(
        0.1, "Probability that label smoothing spreads over the vocabulary (paper, 5.4).", minimum=0, below=1
    )
    adam_beta1: float = recipe_key(0.9, "Adam's beta_1 (paper, 5.3).", minimum=0, below=1)
    adam_beta2: float = recipe_key(0.98, "Adam's beta_2 (paper, 5.3).", minimum=0, below=1)
    adam_epsilon: float = recipe_key(1e-9, "Adam's epsilon (paper, 5.3).", minimum=0)
    weight_decay: float = recipe_key(0.0, "Decoupled weight decay; the paper has none.", minimum=0)
    max_grad_norm: float = recipe_key(
        0.0, "Clip gradients to this norm; 0 never clips, as the paper.", minimum=0
    )
    precision: str = recipe_key(
        "fp32",
        "Arithmetic of the forward and backward pass; weights stay in fp32. bf16 is for GPUs, and for CPUs"
        " that multiply it (AVX512-BF16, AMX).",
        choices=("fp32", "bf16", "fp16"),
    )
    torch_compile: bool = recipe_key(False, "Compile the model with torch.compile.")
    gradient_checkpointing: bool = recipe_key(
        False, "Compute activations again in the backward pass, to save memory."
    )
    # NumPy takes no larger seed.
    seed: int = recipe_key(1, "Seed of weights, dropout and the order of batches.", minimum=0, below=2**32)
    eval_steps: int | None = recipe_key(
        None,
        "Validate every so many steps; null validates once per epoch, and every 1,000 steps of a stream.",
        section="Validation",
        minimum=1,
    )
    eval_batch_size: int = recipe_key(64, "Sentences of a validation batch per device.", minimum=1)
    metric: str = recipe_key("loss", _METRIC, choices=("loss",))
    early_stopping_patience: int | None = recipe_key(
        None, "Stop after so many validations without a better metric; null never stops early.", minimum=1
    )
    save_steps: int | None = recipe_key(
        None,
        "Save a checkpoint every so many steps; null saves with each validation.",
        section="Checkpoints",
        minimum=1,
    )
    keep_checkpoints: int = recipe_key(
        5, "Latest checkpoints kept on disk; those that final_model needs are kept besides.", minimum=1
    )
    final_model: str = recipe_key(
        "best",
        "What is saved in the end; without validation data the last ones stand for the best.",
        choices=("best", "average_best", "average_last", "last"),
    )
    average_checkpoints: int = recipe_key(
        5, "Checkpoints that average_best and average_last average (paper, 6.1: base 5, big 20).", minimum=1
    )
    output_dir: str = recipe_key(
        "runs/transformer", "Folder of the finished model and its checkpoints.", section="Output"
    )
    logging_steps: int = recipe_key(100, "Log every so many steps.", minimum=1)
    tensorboard: bool = recipe_key(True, "Write TensorBoard logs to output_dir/logs.")
    report_to: list[str] = recipe_key(
        [], "Other trackers that the log goes to, as transformers names them: wandb, mlflow, trackio, ..."
    )

    def check(self) -> None:
        """Check what concerns several keys."""
        if self.output_dir.startswith("~"):  # the Trainer would replace it, and nothing else would
            raise InputError(
                "`output_dir` must be written out, but begins with `~`, which nothing has replaced."
            )
        self._check_data()
        self._check_tokenizer()
        self._check_schedule()
        self._check_model()

    def _check_data(self) -> None:
        check_at_most_one(self, self.training_keys)
        check_at_most_one(self, self.validation_keys)

    def _check_tokenizer(self) -> None:
        from ..tokenization.tokenization_vanilla_transformer import SMALLEST_VOCABULARY

        for key in ("tokenizer", "init_from"):
            if self.lowercase and getattr(self, key):
                raise InputError(f"`lowercase` is for a tokenizer that is trained, but `{key}` gives one.")
        trained = self.tokenizer is None and self.init_from is None
        if trained and self.vocab_size < SMALLEST_VOCABULARY:
            raise InputError(
                f"`vocab_size` must be at least {SMALLEST_VOCABULARY}, but is {self.vocab_size} instead."
            )

    def _check_schedule(self) -> None:
        if self.max_steps is not None and self.num_train_epochs is not None:
            raise InputError("`max_steps` and `num_train_epochs` must not both be given: set one to null.")
        if self.num_train_epochs == 0:
            raise InputError("`num_train_epochs` must be positive, but is 0 instead.")
        needs_metric = self.effective_final_model in ("best", "average_best")
        if needs_metric and self.save_steps and (not self.eval_steps or self.save_steps % self.eval_steps):
            raise InputError(
                f"`save_steps` must be null or a multiple of `eval_steps` ({as_yaml(self.eval_steps)}) when"
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
        check_known(self.model, prefix="model.", known=known)
        check_learning_rate_factors(self.learning_rate_factors)
        check_at_most_one(self, ("init_from", "word_vectors"))
        if self.init_from is None:
            with one_line_errors():
                VanillaTransformerConfig.from_preset(
                    self.preset, **{"vocab_size": self.vocab_size, **self.model_fields}
                )

    def _settle_generation(self, generation: dict[str, Any]) -> None:
        """Check `generation`; with one beam, what only a beam search uses becomes null in it."""
        from transformers import GenerationConfig

        from ..modeling.generation_vanilla_transformer import OWN_FIELDS, check_own_fields

        for key, kind in _GENERATION_TYPES.items():
            if generation.get(key) is not None:
                converted(f"generation.{key}", kind, generation[key])
        for key in _SEARCHES_ON_THE_HUB:
            if generation.get(key) is not None:
                raise InputError(
                    f"`generation.{key}` asks for a search that transformers no longer includes."
                )
        beams = generation.get("num_beams")
        if beams is not None and beams < 1:
            raise InputError(f"`generation.num_beams` must be positive, but is {as_yaml(beams)} instead.")
        if beams == 1:
            # transformers refuses to save what only a beam search uses.
            generation = generation | {"length_penalty": None, "early_stopping": None}
            object.__setattr__(self, "generation", generation)
        check_known(generation, prefix="generation.", known={**GenerationConfig().to_dict(), **OWN_FIELDS})
        # A model to start from brings settings of its own, which only the run will see.
        beside = {} if self.init_from is None else default_of("generation", type(self))
        with one_line_errors():
            config = GenerationConfig(**(OWN_FIELDS | beside | generation))
            config.validate(strict=True)
            check_own_fields(config)

    @property
    def absent_stack(self) -> str | None:
        """The half of the Transformer that the model does not have: encoder, decoder, or neither."""
        return None

    @property
    def model_fields(self) -> dict[str, Any]:
        """`model`, and what it gives as sizes of the only stack for the absent one too.

        A configuration always has both, and `d_model` must suit the heads of each.
        """
        absent = self.absent_stack
        if absent is None:
            return self.model
        present = "decoder" if absent == "encoder" else "encoder"
        sizes = {size: self.model.get(f"{present}_{size}") for size in _STACK_SIZES}
        return {f"{absent}_{size}": value for size, value in sizes.items() if value is not None} | self.model

    @property
    def has_validation(self) -> bool:
        """Whether validation data are given."""
        return any(getattr(self, key) is not None for key in self.validation_keys)

    @property
    def effective_final_model(self) -> str:
        """`final_model`, where the last checkpoints stand for the best if there are no validation data."""
        if self.has_validation:
            return self.final_model
        return {"best": "last", "average_best": "average_last"}.get(self.final_model, self.final_model)

    def require_trainable(self) -> None:
        """Refuse a recipe that is valid but lacks what a run cannot do without.

        Raises:
            InputError: no training data, no length of training, early stopping without validation data, or
                fields of a stack that the model does not have.
        """
        if all(getattr(self, key) is None for key in self.training_keys):
            raise InputError(f"no training data: give {self._one_of(self.training_keys)}.")
        if self.max_steps is None and self.num_train_epochs is None:
            raise InputError("one of `max_steps` and `num_train_epochs` must be given, but both are null.")
        if self.early_stopping_patience is not None and not self.has_validation:
            raise InputError(
                f"`early_stopping_patience` needs validation data: give {self._one_of(self.validation_keys)}."
            )
        for key in self.model:
            if self.absent_stack is not None and key.startswith(f"{self.absent_stack}_"):
                raise InputError(f"`model.{key}` has no effect: this model has no {self.absent_stack}.")
        generation = getattr(self, "generation", {})
        if self.absent_stack != "decoder" and generation != default_of("generation", type(self)):
            _try_search(generation, with_encoder=self.absent_stack is None)

    def _one_of(self, keys: Sequence[str]) -> str:
        """The keys as choices; a source comes with its target."""
        pairs = (
            f"`{key}` and `{key.replace('source', 'target')}`" if key.endswith("_source") else f"`{key}`"
            for key in keys
        )
        return ", or ".join(pairs)


@dataclass(frozen=True, kw_only=True)
class _TranslationData:
    # A base of its own, the last one, so that its keys stand first in a recipe.

    train_source: str | None = recipe_key(
        None,
        "Training text, source side: plain UTF-8, or packed (.gz, .bz2, .xz), one sentence a line.",
        section="Training data: train_source with train_target, or train_file, or dataset",
    )
    train_target: str | None = recipe_key(
        None, "Training text, target side; line n translates line n of train_source."
    )
    train_file: str | None = recipe_key(
        None, "Training pairs in one file with named columns: .tsv, .csv, .jsonl or .parquet."
    )
    dataset: str | None = recipe_key(
        None, "Name (or folder) of a `datasets` data set, instead of files of your own."
    )
    dataset_config: str | None = recipe_key(
        None, "Configuration of that data set, for example a language pair."
    )
    train_split: str = recipe_key("train", "Split of that data set to train on.")
    source_column: str = recipe_key(
        "source", "Column of the source sentence; for a data set of translations, the language code."
    )
    target_column: str = recipe_key("target", "Column of the target sentence, or its language code.")
    streaming: bool = recipe_key(
        False, "Read the training data as a stream, for a corpus larger than memory; needs max_steps."
    )
    streaming_window: int = recipe_key(
        100_000, "Pairs that a stream holds at once to shuffle and to sort by length.", minimum=1
    )
    source_lang: str | None = recipe_key(None, "Source language as a BCP-47 code such as en, de or zh.")
    target_lang: str | None = recipe_key(
        None, "Target language; decides how BLEU splits words (zh, ja and ko have none)."
    )
    valid_source: str | None = recipe_key(
        None,
        "Validation text, source side.",
        section="Validation data, given in the same way; the best checkpoint is chosen on it",
    )
    valid_target: str | None = recipe_key(None, "Validation text, target side.")
    valid_file: str | None = recipe_key(None, "Validation pairs in one file with named columns.")
    valid_split: str | None = recipe_key(None, "Split of `dataset` to validate on.")
    max_source_length: int = recipe_key(
        256, "Longest source in tokens, </s> counted.", section="Sentences", minimum=2
    )
    max_target_length: int = recipe_key(256, "Longest target in tokens, </s> counted.", minimum=2)
    long_sentences: str = recipe_key(
        "drop",
        "What is done with longer pairs; how many there were is printed.",
        choices=("drop", "cut", "keep"),
    )
    max_length_ratio: float | None = recipe_key(
        None, "Drop pairs whose longer side has more than this many times the tokens of the other.", minimum=1
    )
    bpe_dropout: float = recipe_key(
        0.0, "Share of byte-pair merges left out at random in training; 0 turns it off.", minimum=0, below=1
    )


@dataclass(frozen=True, kw_only=True)
class TrainRecipe(RunRecipe, _TranslationData):
    """The settings of one training run for translation; each field's metadata say its meaning and limits.

    Paths are relative to the working directory. Lengths count tokens, sizes of batches count padded tokens.
    `dataclasses.fields` lists what the metadata hold.

    Raises:
        InputError: a value of the wrong type or outside its limits, or keys that contradict each other.
    """

    command: ClassVar[str] = "train"
    training_keys: ClassVar[tuple[str, ...]] = ("train_source", "train_file", "dataset")
    validation_keys: ClassVar[tuple[str, ...]] = ("valid_source", "valid_file", "valid_split")

    metric: str = recipe_key("bleu", _METRIC, choices=("bleu", "chrf", "loss"))
    generation: dict[str, Any] = recipe_key(
        {
            "num_beams": 4,
            "length_penalty": 0.6,
            "length_penalty_type": "gnmt",
            "max_length_beyond_source": 50,
            "early_stopping": "never",
        },
        "Decoding defaults saved with the model (fields of GenerationConfig; paper, 6.1); they replace those"
        " of a model to start from. With one beam, length_penalty and early_stopping become null.",
        section="Decoding",
    )
    eval_num_beams: int = recipe_key(1, "Beams when validating; 1 is greedy and fast.", minimum=1)
    samples: int = recipe_key(
        3, "Validation pairs whose translations are printed with each validation.", minimum=0
    )

    def check(self) -> None:
        """Check what concerns several keys."""
        super().check()
        if self.streaming and self.max_steps is None:
            raise InputError("`streaming` needs `max_steps`: the length of a stream is not known ahead.")
        if self.streaming and self.bpe_dropout:
            raise InputError("`bpe_dropout` must be 0 for a stream: set it so, or `streaming` to false.")
        self._settle_generation(self.generation)

    def _check_data(self) -> None:
        check_pair(self, "train_source", "train_target")
        check_pair(self, "valid_source", "valid_target")
        if self.valid_split is None:
            super()._check_data()
            return
        if self.dataset is None:
            raise InputError("`valid_split` names a split of `dataset`, but `dataset` is null.")
        # Beside training files, `dataset` is there for its `valid_split` alone.
        files = ("train_source", "train_file")
        check_at_most_one(self, files)
        check_at_most_one(self, self.validation_keys)
        given = [key for key in files if getattr(self, key) is not None]
        default = default_of("train_split", type(self))
        if given and self.train_split != default:
            raise InputError(
                f"`{given[0]}` and `train_split` must not both say what to train on: set `{given[0]}` to"
                f" null, or `train_split` to {default}."
            )


@dataclass(frozen=True, kw_only=True)
class _LanguageModelData:
    objective: str = recipe_key(
        "causal",
        "causal: a decoder that predicts each next token; masked: an encoder that predicts hidden ones.",
        section="Task",
        choices=("causal", "masked"),
    )
    mask_probability: float = recipe_key(
        0.15,
        "Share of tokens that a masked language model predicts; of these 80% are masked, 10% replaced by"
        " another token and 10% left (Devlin et al., 2019, 3.1).",
        minimum=0,
        below=1,
    )
    train_text: str | None = recipe_key(
        None, "Training text: plain UTF-8, or packed (.gz, .bz2, .xz), one text a line.", section="Data"
    )
    valid_text: str | None = recipe_key(None, "Validation text; the best checkpoint is chosen on it.")
    max_length: int = recipe_key(
        256,
        "Longest piece of text in tokens, <s> and </s> counted; a longer line becomes several pieces.",
        minimum=3,
    )
    join_lines: bool = recipe_key(
        False, "Fill pieces of max_length with one line after the other, as for running text."
    )


@dataclass(frozen=True, kw_only=True)
class LanguageModelRecipe(RunRecipe, _LanguageModelData):
    """The settings of one training run for a language model, causal (decoder) or masked (encoder).

    Raises:
        InputError: a value of the wrong type or outside its limits, or keys that contradict each other.
    """

    command: ClassVar[str] = "train-lm"
    training_keys: ClassVar[tuple[str, ...]] = ("train_text",)
    validation_keys: ClassVar[tuple[str, ...]] = ("valid_text",)

    samples: int = recipe_key(
        3,
        "Samples printed with each validation: texts that go on from a prompt, or masks that are filled.",
        section="Samples",
        minimum=0,
    )
    prompts: list[str] = recipe_key(
        [], "Beginnings that the samples of a causal model continue in turn; none lets it begin by itself."
    )
    generation: dict[str, Any] = recipe_key(
        {"do_sample": True, "top_k": 50, "max_new_tokens": 40},
        "Decoding defaults saved with a causal model, and of its samples (fields of GenerationConfig).",
    )

    def check(self) -> None:
        """Check what concerns several keys."""
        super().check()
        if self.objective == "masked" and not self.mask_probability:
            raise InputError("`mask_probability` must be positive, but is 0.0 instead.")
        self._settle_generation(self.generation)

    @property
    def absent_stack(self) -> str:
        """A causal model is a decoder, a masked one an encoder."""
        return "decoder" if self.objective == "masked" else "encoder"


@dataclass(frozen=True, kw_only=True)
class _ClassifierData:
    train_file: str | None = recipe_key(
        None,
        "Training texts with their labels in named columns: .csv, .tsv, .jsonl or .parquet.",
        section="Data",
    )
    valid_file: str | None = recipe_key(
        None, "Validation texts with labels; the best checkpoint is chosen on them."
    )
    text_column: str = recipe_key("text", "Column of the text.")
    label_column: str = recipe_key(
        "label", "Column of the label, a word or a number; the labels of the training data are the classes."
    )
    max_length: int = recipe_key(256, "Longest text in tokens, </s> counted.", minimum=2)
    long_texts: str = recipe_key(
        "cut",
        "What is done with longer texts; how many there were is printed.",
        choices=("drop", "cut", "keep"),
    )


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe(RunRecipe, _ClassifierData):
    """The settings of one training run for a classifier of texts.

    Raises:
        InputError: a value of the wrong type or outside its limits, or keys that contradict each other.
    """

    command: ClassVar[str] = "train-classifier"
    training_keys: ClassVar[tuple[str, ...]] = ("train_file",)
    validation_keys: ClassVar[tuple[str, ...]] = ("valid_file",)

    metric: str = recipe_key("accuracy", _METRIC, choices=("accuracy", "f1", "loss"))

    @property
    def absent_stack(self) -> str:
        """A classifier is an encoder."""
        return "decoder"


def _try_search(generation: dict[str, Any], *, with_encoder: bool) -> None:
    """Take one step of a search with a tiny model, as some values are looked at by `generate()` alone.

    Raises:
        InputError: what `generate()` says of the settings.
    """
    import torch

    from .. import modeling
    from ..configuration import VanillaTransformerConfig
    from ..modeling.generation_vanilla_transformer import set_decoding

    sizes: dict[str, Any] = {
        f"{stack}_{size}": 1 for stack in ("encoder", "decoder") for size in _STACK_SIZES
    }
    config = VanillaTransformerConfig(vocab_size=_ANY_VOCABULARY, d_model=2, **sizes)
    kind = "VanillaTransformerForConditionalGeneration" if with_encoder else "VanillaTransformerForCausalLM"
    with torch.random.fork_rng(devices=[]):
        model = getattr(modeling, kind)(config).eval()
        try:
            set_decoding(model.generation_config, **generation)
            ids = torch.tensor([[config.bos_token_id]])
            model.generate(
                ids, stopping_criteria=[lambda found, scores: torch.ones(len(found), dtype=torch.bool)]
            )
        except (ImportError, ValueError, TypeError, AttributeError, LookupError, RuntimeError) as error:
            raise InputError(f"`generation` cannot be used: {first_line(error)}") from None


RECIPES: tuple[type[RunRecipe], ...] = (TrainRecipe, LanguageModelRecipe, ClassifierRecipe)
R = TypeVar("R", bound=RunRecipe)


@overload
def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> TrainRecipe: ...


@overload
def load_recipe(name_or_path: str | Path, overrides: Sequence[str], kind: type[R]) -> R: ...


def load_recipe(
    name_or_path: str | Path, overrides: Sequence[str] = (), kind: type[Any] = TrainRecipe
) -> Any:
    """Read a recipe and replace keys of it.

    Args:
        name_or_path: the name of a packaged recipe (`available_recipes`), or a file, if it has a path
            separator or ends in .yaml or .yml.
        overrides: command-line words: `--key value`, `--key=value`, `--model.d_model 256`. Values are read as
            YAML. Giving one of `max_steps` and `num_train_epochs` sets the other to null, as `train_file` and
            `valid_file` do with the two files that a recipe names instead, and these with it.
        kind: what the recipe trains: `TrainRecipe`, `LanguageModelRecipe` or `ClassifierRecipe`.

    Raises:
        InputError: no such recipe, one of another kind, malformed YAML, an unknown key, a value that cannot
            be used, or another preset under fields of the recipe that would hide it.
    """
    source, text = str(name_or_path), recipe_text(name_or_path)
    values = parse_mapping(text, source)
    _check_kind(values, source, kind)
    given = parse_overrides(overrides, kind)
    _check_preset(given, values)
    apply_overrides(values, given, kind)
    try:
        return kind.from_dict(values)
    except InputError as error:
        raise InputError(f"recipe {source}: {error}") from None


def _check_preset(given: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Refuse a preset that the recipe's own fields of the model would replace."""
    from ..configuration import PRESETS

    asked, before = given.get("preset"), values.get("preset") or "base"
    kept = values.get("model")
    if asked not in PRESETS or asked == before or "model" in given or not isinstance(kept, dict):
        return
    chosen = PRESETS[asked].fields.keys() | (PRESETS[before].fields.keys() if before in PRESETS else set())
    hidden = [name for name in kept if name in chosen and f"model.{name}" not in given]
    if hidden:
        raise InputError(
            f"`--preset {asked}` would be hidden by what the recipe says under `model` ({', '.join(hidden)}):"
            ' add `--model "{}"`.'
        )


def saved_recipe(path: Path) -> RunRecipe | None:
    """The recipe in the file of a run, of whatever kind it is; `None` if there is no file."""
    if not path.is_file():
        return None
    kind = recipe_kind(parse_mapping(recipe_text(path), str(path))) or TrainRecipe
    return load_recipe(path, (), kind)


def recipe_of_checkpoints(paths: Sequence[str | Path]) -> RunRecipe | None:
    """The recipe of the run that all checkpoints lie in; `None` if there is no such run.

    Raises:
        InputError: the recipe is damaged.
    """
    folders = [Path(path).resolve() for path in paths]
    runs = {folder.parent for folder in folders}
    if len(runs) != 1 or not set(folders) <= set(list_checkpoints(folders[0].parent)):
        return None
    return saved_recipe(runs.pop() / RECIPE_FILE)


def recipe_of_model(folder: str | Path) -> RunRecipe | None:
    """The recipe in the folder of a run or an average, or that of the run which a checkpoint lies in.

    Raises:
        InputError: the recipe is damaged.
    """
    return saved_recipe(Path(folder, RECIPE_FILE)) or recipe_of_checkpoints([folder])


def recipe_kind(values: Mapping[str, Any]) -> type[RunRecipe] | None:
    """The first kind of recipe that knows all keys of `values`; `None` if none does."""
    return next((kind for kind in RECIPES if values.keys() <= key_types(kind).keys()), None)


def _check_kind(values: Mapping[str, Any], source: str, kind: type[RunRecipe]) -> None:
    """Refuse a recipe that another sub-command runs."""
    found = kind if values.keys() <= key_types(kind).keys() else recipe_kind(values)
    if found is not None and found is not kind:
        raise InputError(f"recipe {source} is for `vanilla-transformer {found.command}`.")


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
            f"no configuration is named {name!r}{closest(name, known)} There are {', '.join(known)}."
        )
    return resources.files(_PACKAGE).joinpath(f"{name}.yaml").read_text("utf-8")


def recipe_text(name_or_path: str | Path) -> str:
    """The YAML text of a packaged recipe, or of a file.

    Raises:
        InputError: no such recipe, or a file that cannot be read.
    """
    name, known = str(name_or_path), available_recipes()
    if isinstance(name_or_path, Path) or "/" in name or "\\" in name or name.endswith((".yaml", ".yml")):
        return read_recipe_file(Path(name))
    if name not in known:
        raise InputError(
            f"no recipe is named {name!r}{closest(name, known)} Recipes: {', '.join(known)}; a file of your"
            " own needs its .yaml suffix."
        )
    return resources.files(_PACKAGE).joinpath(f"{name}.yaml").read_text("utf-8")
