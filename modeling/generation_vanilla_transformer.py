"""Decoding as section 6.1 of the paper has it: length penalty, length limit and the end of a beam search.

Shapes in trailing comments: N sentences, B beams, V vocabulary.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from transformers.generation import (
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

# Section 6.1: "we set the maximum output length during inference to input length + 50".
MAX_LENGTH_BEYOND_SOURCE = 50

# Section 6.1: a beam of 4, alpha 0.6 in the form of Wu et al. (2016), and stopping when nothing can improve.
PAPER_DECODING: dict[str, Any] = {
    "num_beams": 4,
    "length_penalty": 0.6,
    "length_penalty_type": "gnmt",
    "max_length_beyond_source": MAX_LENGTH_BEYOND_SOURCE,
    "early_stopping": "never",
}

LENGTH_PENALTY_TYPES = ("gnmt", "power")
# Fields of a generation config that transformers does not know, and what they are where a config lacks them.
OWN_FIELDS: dict[str, Any] = {"length_penalty_type": "power", "max_length_beyond_source": None}


class LengthPenalty:
    """What the log-probability of a hypothesis Y is divided by.

    "gnmt" is ((5 + |Y|) / 6)^alpha (Wu et al. 2016, equation 14, which the paper cites), "power" is
    |Y|^alpha, transformers' own. |Y| counts the end token, and neither the start token nor a forced prefix.

    Args:
        alpha: the exponent.
        kind: one of `LENGTH_PENALTY_TYPES`.
        limits: (N, 1), the most tokens that each sentence may grow to, counted as |Y|.
    """

    def __init__(self, alpha: float, kind: str, limits: torch.Tensor):
        self.alpha = alpha
        self.kind = kind
        self.limits = limits

    def __call__(self, length: Any) -> Any:
        """The divisor of hypotheses of `length` tokens, an integer or a tensor of them."""
        return ((5 + length) / 6 if self.kind == "gnmt" else length) ** self.alpha

    def at_best(self, length: int, early_stopping: bool | str | None) -> Any:
        """The divisor under which an open hypothesis of `length` tokens can still come to its best score.

        With `early_stopping="never"` that is the one at the sentence's own limit (a bound that holds), else
        the present one (transformers' heuristic).
        """
        return self(self.limits if early_stopping == "never" and self.alpha > 0 else length)


class RowLengthCriteria(StoppingCriteria):
    """Ends each sentence at a length of its own.

    Args:
        lengths: (N,), the length of decoder inputs, start token and prefix included, that ends a sentence.
    """

    def __init__(self, lengths: torch.Tensor):
        self.lengths = lengths

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """(N * candidates, S) hypotheses -> (N * candidates,), whether each one is as long as it may be."""
        lengths = self.lengths.repeat_interleave(len(input_ids) // len(self.lengths))
        return input_ids.shape[1] >= lengths


class VanillaTransformerGenerationMixin(GenerationMixin):
    """transformers' `generate()` with the paper's length penalty and a length limit that follows the source.

    Two fields of a generation config, which are keywords of `generate()` too:

    - `length_penalty_type`: "gnmt" or "power" (the default), see `LengthPenalty`.
    - `max_length_beyond_source`: each translation may have so many tokens more than its source, padding not
      counted. The source's tokens are counted in the attention mask; without one all are, as the model reads
      them all. A limit that the caller gives (`max_new_tokens`, `max_length`) replaces one of the model's
      generation config, and the other way round; limits given together all hold. Where there is none at all,
      it is 50.
    """

    config: Any
    generation_config: Any
    # `generate()` limits each translation by its source: nobody else needs to.
    limits_output_by_source = True

    def _prepare_generation_config(
        self, generation_config: GenerationConfig | None, **kwargs: Any
    ) -> tuple[GenerationConfig, dict[str, Any]]:
        """Lets the own fields in, which transformers refuses if the model's config has none of them."""
        given = {} if generation_config is None else _present(vars(generation_config))
        given |= _present(kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name not in OWN_FIELDS}
        config, model_kwargs = super()._prepare_generation_config(generation_config, **kwargs)
        for name, default in OWN_FIELDS.items():
            setattr(config, name, given.get(name, getattr(config, name, default)))
        limited = "max_length" in given or "max_new_tokens" in given
        if "max_length_beyond_source" in given and not limited:
            config.max_length = config.max_new_tokens = None
        elif "max_length_beyond_source" not in given and limited:
            config.max_length_beyond_source = None
        check_own_fields(config)
        return config, model_kwargs

    def _prepare_generated_length(
        self,
        generation_config: GenerationConfig,
        has_default_max_length: bool,
        has_default_min_length: bool,
        model_input_name: str,
        input_ids_length: int,
        inputs_tensor: torch.Tensor,
    ) -> GenerationConfig:
        """Bounds the length of the batch by its widest source; `_limits` does it for each sentence."""
        limits = []
        if generation_config.max_new_tokens is not None:
            limits.append(generation_config.max_new_tokens)
        elif not has_default_max_length and generation_config.max_length is not None:
            limits.append(generation_config.max_length - input_ids_length)
        if generation_config.max_length_beyond_source is None and not limits:
            generation_config.max_length_beyond_source = MAX_LENGTH_BEYOND_SOURCE
        if generation_config.max_length_beyond_source is not None:
            limits.append(inputs_tensor.shape[1] + generation_config.max_length_beyond_source)
            if self.config.position_embedding == "learned":
                limits.append(self.config.max_position_embeddings - input_ids_length)
            generation_config.max_new_tokens = min(limits)
            has_default_max_length = True
        return super()._prepare_generated_length(
            generation_config,
            has_default_max_length,
            has_default_min_length,
            model_input_name,
            input_ids_length,
            inputs_tensor,
        )

    def _sample(
        self,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **kwargs: Any,
    ) -> Any:
        """Greedy decoding and sampling, each row up to its own limit."""
        if generation_config.max_length_beyond_source is not None:
            limits = _limits(input_ids, generation_config, kwargs)
            stopping_criteria = _with_limits(stopping_criteria, limits, input_ids)
        return super()._sample(input_ids, logits_processor, stopping_criteria, generation_config, **kwargs)

    def _beam_search(
        self,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **kwargs: Any,
    ) -> Any:
        """Beam search with the own length penalty, each sentence up to its own limit."""
        limits = _limits(input_ids, generation_config, kwargs)[:: generation_config.num_beams]
        stopping_criteria = _with_limits(stopping_criteria, limits, input_ids)
        generation_config = copy.copy(generation_config)
        generation_config.length_penalty = LengthPenalty(
            generation_config.length_penalty, generation_config.length_penalty_type, limits[:, None]
        )
        return super()._beam_search(
            input_ids, logits_processor, stopping_criteria, generation_config, **kwargs
        )

    def _update_finished_beams(
        self,
        *,
        topk_log_probs: torch.Tensor,
        length_penalty: LengthPenalty,
        cur_len: int,
        decoder_prompt_len: int,
        **kwargs: Any,
    ) -> Any:
        """Scores the (N, candidates) hypotheses that may just have ended."""
        return super()._update_finished_beams(
            topk_log_probs=topk_log_probs / length_penalty(cur_len + 1 - decoder_prompt_len),
            length_penalty=0.0,
            cur_len=cur_len,
            decoder_prompt_len=decoder_prompt_len,
            **kwargs,
        )

    @staticmethod
    def _check_early_stop_heuristic(  # type: ignore[override]
        *,
        running_beam_scores: torch.Tensor,
        length_penalty: LengthPenalty,
        cur_len: int,
        decoder_prompt_len: int,
        early_stopping: bool | str | None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """(N, 1), whether the best open hypothesis of each sentence could still beat a finished one."""
        divisor = length_penalty.at_best(cur_len - decoder_prompt_len, early_stopping)
        return GenerationMixin._check_early_stop_heuristic(
            running_beam_scores=running_beam_scores / divisor,
            length_penalty=0.0,
            cur_len=cur_len,
            decoder_prompt_len=decoder_prompt_len,
            early_stopping=early_stopping,
            **kwargs,
        )


def set_decoding(generation_config: GenerationConfig, **fields: Any) -> None:
    """Sets fields of a generation config, such as `PAPER_DECODING`, so that they are saved with it."""
    generation_config.update(**fields, allow_custom_entries=True)
    # transformers reads fields that it does not know only where a config is not derived from the model's.
    generation_config._from_model_config = False


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def check_own_fields(config: GenerationConfig) -> None:
    """Raises `ValueError` where `length_penalty_type` or `max_length_beyond_source` cannot be used."""
    kind, beyond = config.length_penalty_type, config.max_length_beyond_source
    if kind not in LENGTH_PENALTY_TYPES:
        known = ", ".join(LENGTH_PENALTY_TYPES)
        raise ValueError(f"`length_penalty_type` must be one of {known}, but is {kind!r} instead.")
    if beyond is not None and (isinstance(beyond, bool) or not isinstance(beyond, int) or beyond < 0):
        raise ValueError(
            f"`max_length_beyond_source` must be a whole number, 0 or more, but is {beyond!r} instead."
        )


def _limits(
    input_ids: torch.Tensor, generation_config: GenerationConfig, model_kwargs: Mapping[str, Any]
) -> torch.Tensor:
    """How many tokens each row of `input_ids` (N * B, S) may gain: (N * B,)."""
    most = generation_config.max_length - input_ids.shape[1]
    beyond = generation_config.max_length_beyond_source
    if beyond is None:
        return input_ids.new_full((len(input_ids),), most)
    mask = model_kwargs.get("attention_mask")
    if mask is not None and mask.ndim == 2:
        source_lengths = mask.ne(0).sum(-1).to(input_ids.device)
    else:
        width = model_kwargs["encoder_outputs"][0].shape[1]
        source_lengths = input_ids.new_full((len(input_ids),), width)
    return (source_lengths + beyond).clamp(max=most)


def _with_limits(
    criteria: StoppingCriteriaList, limits: torch.Tensor, input_ids: torch.Tensor
) -> StoppingCriteriaList:
    return StoppingCriteriaList([*criteria, RowLengthCriteria(limits + input_ids.shape[1])])
