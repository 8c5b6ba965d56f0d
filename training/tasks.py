"""What a run trains: the parts that differ between translation, language models and classifiers."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

from datasets import IterableDataset
from transformers import AddedToken, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from ..configuration import VanillaTransformerConfig
from ..errors import InputError, first_line
from ..files import one_line
from ..modeling import (
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
)
from ..modeling.translation_vanilla_transformer import learned_positions, source_text
from .classification import ClassificationScores
from .corpus import Texts, held_in_memory, load_labelled_texts, load_pairs, load_texts
from .filtering import LongSentences, prepare_pairs
from .recipe import ClassifierRecipe, LanguageModelRecipe, RunRecipe, TrainRecipe
from .recipe_values import one_line_errors
from .samples import PrintTexts, PrintTranslations
from .scoring import TranslationScores
from .text_collators import ClassifierCollator, TextCollator
from .texts import (
    Masking,
    classes_of,
    mask_rows,
    prepare_causal_texts,
    prepare_labelled_texts,
    prepare_masked_texts,
    require_token,
)

R = TypeVar("R", bound=RunRecipe)


def load_validation_pairs(recipe: TrainRecipe) -> Any:
    """What a recipe validates on, from whatever file or data set it names.

    Raises:
        InputError: it cannot be read.
    """
    # A stored split would bring the others along, for which there may be no room.
    streamed = recipe.streaming and recipe.valid_split is not None and "[" not in recipe.valid_split
    pairs = load_pairs(
        source=recipe.valid_source,
        target=recipe.valid_target,
        file=recipe.valid_file,
        source_column=recipe.source_column,
        target_column=recipe.target_column,
        dataset=recipe.dataset if recipe.valid_split is not None else None,
        dataset_config=recipe.dataset_config,
        split=recipe.valid_split or "train",
        streaming=streamed,
    )
    if isinstance(pairs, IterableDataset):
        pairs = held_in_memory(pairs, f"Split `{recipe.valid_split}` of `{recipe.dataset}`")
    return pairs


class Task(ABC, Generic[R]):
    """The parts of a run that depend on what is trained; `run.train` has the others.

    Attributes:
        recipe: the settings.
        model_class: the class of the model.
        score_names: the scores of a validation that are kept, as far as there are any.
        text_columns: the columns of the training data that the tokenizer is trained on.
        length_keys: the keys of the recipe that limit the length of a row.
        streaming: whether the training data have no known length.
    """

    model_class: type[PreTrainedModel]
    score_names: tuple[str, ...] = ("loss", "perplexity")
    text_columns: tuple[str, ...] = ("text",)
    length_keys: tuple[str, ...] = ("max_length",)
    streaming = False

    def __init__(self, recipe: R):
        self.recipe = recipe

    @abstractmethod
    def training_data(self) -> Any:
        """The text to train on."""

    @abstractmethod
    def training_rows(self, data: Any, tokenizer: Any) -> tuple[Any, object]:
        """The rows to train on, and a report of what became of the text."""

    @abstractmethod
    def validation_rows(self, tokenizer: Any) -> tuple[Any, object]:
        """The rows to validate on, none left out for its length, and a report."""

    @abstractmethod
    def collator(self, tokenizer: Any) -> Any:
        """What makes batches of rows; `None` for the Trainer's own."""

    @cached_property
    def config(self) -> VanillaTransformerConfig:
        """The configuration of the model to train, but for what follows from tokenizer and data."""
        recipe = self.recipe
        with one_line_errors():
            if recipe.init_from is None:
                fields = {"vocab_size": recipe.vocab_size, **recipe.model_fields}
                return VanillaTransformerConfig.from_preset(recipe.preset, **fields)
            try:
                return VanillaTransformerConfig.from_pretrained(recipe.init_from, **recipe.model)
            except OSError as error:
                reason = first_line(error)
                raise InputError(f"model `{recipe.init_from}` cannot be loaded: {reason}") from None

    @cached_property
    def positions(self) -> int | None:
        """How many tokens the model can read at most: those of its learned positions; `None` for no limit."""
        return learned_positions(self.config)

    def check_lengths(self) -> None:
        """Refuse a limit of length above the learned positions, at which training would stop.

        Raises:
            InputError: names the key; or the model to start from cannot be loaded.
        """
        for key in self.length_keys:
            length = getattr(self.recipe, key)
            if self.positions is not None and length > self.positions:
                raise InputError(
                    f"`{key}` must be at most `max_position_embeddings` ({self.positions}) for learned"
                    f" positions, but is {length} instead."
                )

    def check_batches(self, tokens_per_batch: int) -> None:
        """Refuse batches of so many tokens that cannot hold what may come, where no plan would find it.

        Raises:
            InputError: names the key of the length that does not fit.
        """

    def texts(self, data: Any) -> Iterable[str]:
        """What the tokenizer is trained on."""
        return Texts(data, limit=self.recipe.tokenizer_sentences, columns=self.text_columns)

    def config_fields(self) -> dict[str, Any]:
        """Fields of the configuration that follow from the data."""
        return {}

    def arguments(self) -> dict[str, Any]:
        """The Trainer's arguments that only this task has."""
        return {"predict_with_generate": False, "generation_num_beams": None}

    def first_row(self, rows: Any, tokenizer: Any) -> str:
        """The first of the training rows as text, for the user to see; empty where that tells nothing."""
        return ""

    def finish_tokenizer(self, tokenizer: Any) -> None:
        """Set the tokenizer, once the data are prepared, to what a user of the model will want of it."""

    def scores(self, tokenizer: Any, eval_rows: Any) -> Any:
        """`compute_metrics` of the Trainer; `None` where the loss is all."""
        return None

    def callbacks(self, tokenizer: PreTrainedTokenizerBase, eval_rows: Any) -> list[TrainerCallback]:
        """Callbacks of the Trainer that only this task has."""
        return []

    @property
    def generation(self) -> dict[str, Any]:
        """Decoding defaults that are saved with the model."""
        return {}


class TranslationTask(Task[TrainRecipe]):
    """An encoder-decoder on sentence pairs."""

    model_class = VanillaTransformerForConditionalGeneration
    score_names = ("loss", "perplexity", "bleu", "chrf")
    text_columns = ("source", "target")
    length_keys = ("max_source_length", "max_target_length")

    def __init__(self, recipe: TrainRecipe):
        super().__init__(recipe)
        self.streaming = recipe.streaming

    def training_data(self) -> Any:
        """The pairs to train on."""
        recipe = self.recipe
        return load_pairs(
            source=recipe.train_source,
            target=recipe.train_target,
            file=recipe.train_file,
            source_column=recipe.source_column,
            target_column=recipe.target_column,
            dataset=recipe.dataset if recipe.train_source is None and recipe.train_file is None else None,
            dataset_config=recipe.dataset_config,
            split=recipe.train_split,
            streaming=recipe.streaming,
        )

    def training_rows(self, data: Any, tokenizer: Any) -> tuple[Any, object]:
        """The pairs as tokens."""
        return self._prepare(self._within_positions(self.recipe), data, tokenizer)

    def validation_rows(self, tokenizer: Any) -> tuple[Any, object]:
        """The validation pairs, none left out for its length, so that scores are those of the whole set.

        None is cut, but for the end that is beyond learned positions, which the model cannot read.
        """
        whole = dataclasses.replace(self.recipe, long_sentences="keep", max_length_ratio=None)
        pairs = load_validation_pairs(self.recipe)
        return self._prepare(self._within_positions(whole), pairs, tokenizer)

    def _within_positions(self, recipe: TrainRecipe) -> TrainRecipe:
        """The recipe, but pairs that it keeps at any length are cut at the learned positions."""
        if self.positions is None or recipe.long_sentences != "keep":
            return recipe
        limits = dict.fromkeys(self.length_keys, self.positions)
        return dataclasses.replace(recipe, long_sentences="cut", **cast(Any, limits))

    def check_batches(self, tokens_per_batch: int) -> None:
        """Refuse a stream that may hold a longer sentence than a batch: it would stop training at that one.

        Raises:
            InputError: names the key of the length that does not fit.
        """
        recipe = self._within_positions(self.recipe)
        if not self.streaming or recipe.long_sentences == "keep":
            return
        for key in self.length_keys:
            length = getattr(recipe, key)
            if length > tokens_per_batch:
                raise InputError(
                    f"`{key}` of a stream must be at most the tokens of a batch ({tokens_per_batch}), but is"
                    f" {length} instead: lower it, or raise `tokens_per_device` and `tokens_per_update`."
                )

    @staticmethod
    def _prepare(recipe: TrainRecipe, pairs: Any, tokenizer: Any) -> tuple[Any, object]:
        return prepare_pairs(
            pairs,
            tokenizer,
            max_source_length=recipe.max_source_length,
            max_target_length=recipe.max_target_length,
            long_sentences=cast(LongSentences, recipe.long_sentences),
            max_length_ratio=recipe.max_length_ratio,
        )

    def collator(self, tokenizer: Any) -> Any:
        """The Trainer's own."""
        return None

    def arguments(self) -> dict[str, Any]:
        """Streams, BPE-dropout, and how validation decodes."""
        recipe = self.recipe
        limited = recipe.long_sentences != "keep"
        return {
            "bpe_dropout": recipe.bpe_dropout,
            "bpe_dropout_max_source_length": recipe.max_source_length if limited else None,
            "bpe_dropout_max_target_length": recipe.max_target_length if limited else None,
            "streaming_window": recipe.streaming_window,
            "predict_with_generate": recipe.metric != "loss",
            "generation_num_beams": recipe.eval_num_beams,
        }

    def first_row(self, rows: Any, tokenizer: Any) -> str:
        """Source and target, by which files that were exchanged are noticed."""
        target = tokenizer.decode(rows[0]["labels"], skip_special_tokens=True)
        return one_line(f"{source_text(tokenizer, rows[0]['input_ids'])} → {target}")

    def scores(self, tokenizer: Any, eval_rows: Any) -> Any:
        """BLEU and chrF against the text of the validation data, unless only the loss is wanted."""
        if self.recipe.metric == "loss" or eval_rows is None:
            return None
        texts = zip(map(tuple, eval_rows["labels"]), eval_rows["target"], strict=True)
        return TranslationScores(tokenizer, language=self.recipe.target_lang, references=dict(texts))

    def callbacks(self, tokenizer: PreTrainedTokenizerBase, eval_rows: Any) -> list[TrainerCallback]:
        """Samples with each validation."""
        recipe = self.recipe
        if not (recipe.samples and recipe.has_validation):
            return []
        return [
            PrintTranslations(
                tokenizer, rows=eval_rows, count=recipe.samples, num_beams=recipe.eval_num_beams
            )
        ]

    @property
    def generation(self) -> dict[str, Any]:
        """As the recipe says."""
        return self.recipe.generation


class LanguageModelTask(Task[LanguageModelRecipe]):
    """A decoder that predicts each next token, or an encoder that predicts hidden ones."""

    def __init__(self, recipe: LanguageModelRecipe):
        super().__init__(recipe)
        self.masked = recipe.objective == "masked"
        self.model_class = VanillaTransformerForMaskedLM if self.masked else VanillaTransformerForCausalLM

    def training_data(self) -> Any:
        """The lines to train on."""
        return load_texts(cast(str, self.recipe.train_text))

    def training_rows(self, data: Any, tokenizer: Any) -> tuple[Any, object]:
        """The lines as pieces of tokens."""
        if self.masked:
            require_token(tokenizer, "mask_token", "a masked language model")
        prepare = prepare_masked_texts if self.masked else prepare_causal_texts
        recipe = self.recipe
        return prepare(data, tokenizer, max_length=recipe.max_length, join_lines=recipe.join_lines)

    def validation_rows(self, tokenizer: Any) -> tuple[Any, object]:
        """The validation lines; what is hidden in them is the same in each validation."""
        rows, report = self.training_rows(load_texts(cast(str, self.recipe.valid_text)), tokenizer)
        return (mask_rows(rows, self._masking(tokenizer)) if self.masked else rows), report

    def collator(self, tokenizer: Any) -> Any:
        """Pads, and hides tokens for a masked language model."""
        return TextCollator(tokenizer, self._masking(tokenizer) if self.masked else None)

    def finish_tokenizer(self, tokenizer: Any) -> None:
        """Let a prompt begin with `<s>` and not end, or `<mask>` in a text be the mask."""
        if self.masked:
            # Of a word it hides the space in front, too, as in training.
            mask = AddedToken(tokenizer.mask_token, lstrip=True, special=True)
            tokenizer.add_special_tokens({"mask_token": mask})
        else:
            tokenizer.add_bos_token, tokenizer.add_eos_token = True, False

    def callbacks(self, tokenizer: PreTrainedTokenizerBase, eval_rows: Any) -> list[TrainerCallback]:
        """Samples with each validation."""
        recipe = self.recipe
        if not recipe.samples:
            return []
        rows = eval_rows if self.masked else None
        samples = PrintTexts(
            tokenizer, count=recipe.samples, prompts=recipe.prompts, rows=rows, seed=recipe.seed
        )
        if not self.masked:
            samples.check_prompts(self.positions)
        return [samples]

    def _masking(self, tokenizer: Any) -> Masking:
        return Masking(tokenizer, probability=self.recipe.mask_probability, seed=self.recipe.seed)

    @property
    def generation(self) -> dict[str, Any]:
        """As the recipe says, for a model that generates."""
        return {} if self.masked else self.recipe.generation


class ClassifierTask(Task[ClassifierRecipe]):
    """An encoder with classes for whole texts."""

    model_class = VanillaTransformerForSequenceClassification
    score_names = ("loss", "accuracy", "f1")

    def __init__(self, recipe: ClassifierRecipe):
        super().__init__(recipe)
        self.classes: Sequence[str] = ()

    def training_data(self) -> Any:
        """The texts to train on; their labels are the classes."""
        texts = self._load(self.recipe.train_file)
        self.classes = classes_of(texts)
        return texts

    def training_rows(self, data: Any, tokenizer: Any) -> tuple[Any, object]:
        """The texts as tokens."""
        return self._prepare(data, tokenizer, self.recipe.long_texts)

    def validation_rows(self, tokenizer: Any) -> tuple[Any, object]:
        """The validation texts; too long ones are cut, not left out, so that scores are of the whole set."""
        how = "cut" if self.recipe.long_texts == "drop" else self.recipe.long_texts
        return self._prepare(self._load(self.recipe.valid_file), tokenizer, how)

    def _load(self, path: str | None) -> Any:
        recipe = self.recipe
        return load_labelled_texts(
            cast(str, path), text_column=recipe.text_column, label_column=recipe.label_column
        )

    def _prepare(self, texts: Any, tokenizer: Any, long_texts: str) -> tuple[Any, object]:
        limit = self.recipe.max_length
        if long_texts == "keep" and self.positions is not None:
            # What is beyond learned positions, the model cannot read.
            limit, long_texts = self.positions, "cut"
        return prepare_labelled_texts(texts, tokenizer, self.classes, max_length=limit, long_texts=long_texts)

    def collator(self, tokenizer: Any) -> Any:
        """Pads."""
        return ClassifierCollator(tokenizer)

    def config_fields(self) -> dict[str, Any]:
        """The names of the classes."""
        return {
            "id2label": dict(enumerate(self.classes)),
            "label2id": {label: number for number, label in enumerate(self.classes)},
        }

    def scores(self, tokenizer: Any, eval_rows: Any) -> Any:
        """Accuracy and F1."""
        return ClassificationScores()


_TASKS: dict[type[RunRecipe], type[Task[Any]]] = {
    TrainRecipe: TranslationTask,
    LanguageModelRecipe: LanguageModelTask,
    ClassifierRecipe: ClassifierTask,
}


def task_of(recipe: RunRecipe) -> Task[Any]:
    """The task that a recipe describes.

    Raises:
        InputError: the recipe is of no known kind.
    """
    if type(recipe) not in _TASKS:
        raise InputError(f"there is no task for a {type(recipe).__name__}.")
    return _TASKS[type(recipe)](recipe)
