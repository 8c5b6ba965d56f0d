"""Decoding as section 6.1 of the paper has it, and a fast loop for greedy and beam search.

`generate()` runs the fast loop where it can, and transformers' own one elsewhere or with `fast=False`. In the
fast one the hypotheses of a sentence lie side by side where a target's positions are otherwise, so that they
share the keys and values of the source, and those of the target are written once and never reordered.

Shapes in trailing comments: N sentences, B beams (1 in greedy search), P length of the prompt, S length of
the target so far, T source length, H heads, K width of a head, E model width, V vocabulary, C candidates.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.generation import (
    EosTokenCriteria,
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    GenerateBeamEncoderDecoderOutput,
    GenerateEncoderDecoderOutput,
    GenerationConfig,
    GenerationMixin,
    LogitNormalization,
    LogitsProcessorList,
    MaxLengthCriteria,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)
from transformers.masking_utils import create_causal_mask

from .modules_vanilla_transformer import is_called_as_it_is, is_watched
from .projections_vanilla_transformer import Projections

# Section 6.1: "we set the maximum output length during inference to input length + 50".
MAX_LENGTH_BEYOND_SOURCE = 50

# Section 6.1: a beam of 4, alpha 0.6 in the form of Wu et al. (2016), and stopping when nothing can improve.
# A model whose generation config has `patience` needs `patience=None` beside these.
PAPER_DECODING: dict[str, Any] = {
    "num_beams": 4,
    "length_penalty": 0.6,
    "length_penalty_type": "gnmt",
    "max_length_beyond_source": MAX_LENGTH_BEYOND_SOURCE,
    "early_stopping": "never",
}

# As CTranslate2 searches: |Y|^alpha, a sentence over once `num_beams` hypotheses of it have ended, and the
# probability of what is forbidden goes to the rest. Beams and alpha are the caller's.
CTRANSLATE2_DECODING: dict[str, Any] = {
    "length_penalty_type": "power",
    "patience": 1.0,
    "renormalize_logits": True,
}

LENGTH_PENALTY_TYPES = ("gnmt", "power")
# Of the exponent: far more than a search can use, and lengths to that power are still numbers.
MAX_ALPHA = 20
# Fields of a generation config that transformers does not know, and what they are where a config lacks them.
OWN_FIELDS: dict[str, Any] = {
    "length_penalty_type": "power",
    "max_length_beyond_source": None,
    "patience": None,
    "fast": True,
}

# What treats each row by itself, whichever rows there are.
FAST_PROCESSORS = (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    LogitNormalization,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)
FAST_ATTENTION = ("eager", "sdpa")
# Keywords of the model that the fast loop understands, or that concern the encoder alone.
FAST_KEYWORDS = {
    *("encoder_outputs", "attention_mask", "decoder_attention_mask", "inputs_embeds", "position_ids"),
    *("past_key_values", "use_cache", "logits_to_keep", "synced_gpus"),
    "labels",  # which the Trainer gives along, and `prepare_inputs_for_generation` drops
}
MASKS = ("attention_mask", "decoder_attention_mask")
# What transformers takes for `max_length` where nothing is said.
LIBRARY_MAX_LENGTH = 20
# A limit that no translation reaches and that an int64 holds.
NO_LIMIT = 2**31
# Tokens that greedy search makes room for at first; the room doubles when it is full.
FIRST_ROOM = 256
# Added to a score, it keeps a hypothesis from being chosen: transformers' own number.
NEVER = -1.0e9
# The loop drops finished sentences once so large a part of the batch is finished.
LEAVING_SHARE = 0.1


class LengthPenalty:
    """What the log-probability of a hypothesis Y is divided by.

    "gnmt" is ((5 + |Y|) / 6)^alpha (Wu et al. 2016, equation 14, which the paper cites), "power" is
    |Y|^alpha, transformers' own. |Y| counts the end token, and neither the start token nor a forced prefix.

    Args:
        alpha: the exponent.
        kind: one of `LENGTH_PENALTY_TYPES`.
        limits: (N, 1), the most tokens that each sentence may grow to, counted as |Y|.

    Attributes:
        patience: when the search of a sentence is over, where that is not for the scores to say.
    """

    def __init__(self, alpha: float, kind: str, limits: torch.Tensor):
        self.alpha = float(alpha)  # a power of whole numbers may be too large for a float
        self.kind = kind
        self.limits = limits
        self.patience: Patience | None = None

    def __call__(self, length: Any) -> Any:
        """The divisor of hypotheses of `length` tokens, an integer or a tensor of them."""
        return ((5 + length) / 6 if self.kind == "gnmt" else length) ** self.alpha

    def at_best(self, length: int, early_stopping: bool | str | None) -> Any:
        """The divisor under which an open hypothesis of `length` tokens can still come to its best score.

        With `early_stopping="never"` that is the one at the sentence's own limit (a bound that holds), else
        the present one (transformers' heuristic).
        """
        return self(self.limits if early_stopping == "never" and self.alpha > 0 else length)


class Patience:
    """Ends the search of a sentence once `num_beams` * patience of its hypotheses have ended.

    Kasai et al. (2022, arXiv:2204.05424), as CTranslate2 has it. The hypotheses that end in one step all
    count, and all compete. Without a length penalty, the search is over when the best candidate of a step has
    ended, if as many have ended as are returned: nothing can become likelier than that one.

    Args:
        config: `num_beams`, `patience`, `length_penalty` and `num_return_sequences`.
        limits: (N,), the most tokens that each sentence may grow to, where its search is over too.
    """

    def __init__(self, config: GenerationConfig, limits: torch.Tensor):
        self.limits = limits.tolist()
        self.required = _required_hypotheses(config)
        self.returned = config.num_return_sequences
        self.best_decides = config.length_penalty == 0
        self.ended = [0] * len(limits)
        self.best_ended = [False] * len(limits)

    def count(self, sentence: int, candidate: int) -> None:
        """Notes that the candidate of that rank, 0 for the best, has ended."""
        self.ended[sentence] += 1
        self.best_ended[sentence] |= candidate == 0

    def is_over(self, sentence: int, length: int) -> bool:
        """Whether nothing more of a sentence is searched for, now that hypotheses are of `length` tokens."""
        ended = self.ended[sentence]
        if self.best_decides:
            enough = self.best_ended[sentence] and ended >= self.returned
        else:
            enough = ended >= self.required
        return enough or length >= self.limits[sentence]


class RowLengthCriteria(StoppingCriteria):
    """Ends each sentence at a length of its own: `generate(..., stopping_criteria=[RowLengthCriteria(...)])`.

    Args:
        lengths: (N,), the length of decoder inputs, start token and prefix included, that ends a sentence.
    """

    def __init__(self, lengths: torch.Tensor):
        self.lengths = lengths

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """(N * candidates, S) hypotheses -> (N * candidates,), whether each one is as long as it may be."""
        lengths = self.lengths.to(input_ids.device).repeat_interleave(len(input_ids) // len(self.lengths))
        return input_ids.shape[1] >= lengths


# What the fast loop does by itself, as long as they say what the generation config says.
FAST_CRITERIA = (EosTokenCriteria, MaxLengthCriteria, RowLengthCriteria)


def _is_followed(criterion: StoppingCriteria, config: GenerationConfig) -> bool:
    """Whether the fast loop ends where a criterion does; those of a caller may differ from the config."""
    if type(criterion) is EosTokenCriteria:
        return set(criterion.eos_token_id.tolist()) == set(config._eos_token_tensor.tolist())
    if type(criterion) is MaxLengthCriteria:
        return criterion.max_length == config.max_length
    return type(criterion) in FAST_CRITERIA


class SlotCache(Cache):
    """Keys and values of a target, written once and never moved.

    Slot p < P holds token p of the prompt, which the beams share, and slot P + t * B + b what beam b wrote in
    step t. Which slots are a hypothesis's own history is for the attention mask to say.

    Attributes:
        filled: slots that hold something; the caller advances it after a step, in which all layers write.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.filled = 0
        # By the number that a layer bears; who removed layers left gaps.
        self._buffers: dict[int, list[torch.Tensor]] = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes (N, H, new slots, K) behind the filled ones, and returns a layer's keys and values."""
        if layer_idx not in self._buffers:
            self._buffers[layer_idx] = [states[:, :, :0] for states in (key_states, value_states)]
        buffers, end = self._buffers[layer_idx], self.filled + key_states.shape[2]
        for side, states in enumerate((key_states, value_states)):
            if buffers[side].shape[2] < end:
                buffers[side] = self._grown(buffers[side], states, capacity=2 * end + 16)
            buffers[side][:, :, self.filled : end] = states
        return buffers[0][:, :, :end], buffers[1][:, :, :end]

    def _grown(self, buffer: torch.Tensor, states: torch.Tensor, capacity: int) -> torch.Tensor:
        grown = states.new_empty(*states.shape[:2], capacity, states.shape[3])
        grown[:, :, : self.filled] = buffer[:, :, : self.filled]
        return grown

    def in_order(self) -> DynamicCache:
        """The same as transformers' cache of a greedy search, in which slots are positions."""
        cache = DynamicCache()
        for layer_idx, (keys, values) in sorted(self._buffers.items()):
            cache.update(keys[:, :, : self.filled], values[:, :, : self.filled], layer_idx)
        return cache

    def keep(self, rows: torch.Tensor) -> None:
        """Forgets all sentences but those of `rows`."""
        for buffers in self._buffers.values():
            buffers[:] = [buffer[rows] for buffer in buffers]


class IncrementalDecoder:
    """Steps through the decoder's own layers with the B hypotheses of each sentence side by side.

    Args:
        model: the generating model.
        model_kwargs: what `generate()` prepared, one row for each sentence.
        steps: how many there will be at most.
    """

    def __init__(self, model: Any, model_kwargs: Mapping[str, Any], steps: int):
        self.decoder, self.lm_head = model.model.decoder, model.lm_head
        self.project = Projections(steps)
        self.states = model_kwargs["encoder_outputs"][0]  # (N, T, E)
        self.source_mask = self._additive_mask(model_kwargs.get("attention_mask"))
        self.prompt_mask: Any = model_kwargs.get("decoder_attention_mask")
        self.slots, self.source_keys = SlotCache(), DynamicCache()
        self.cache = EncoderDecoderCache(self.slots, self.source_keys)
        self.mask: torch.Tensor | None = None  # (N, 1, B, slots), added to the scores of self-attention
        self.positions = torch.zeros(1, 1, dtype=torch.long, device=self.states.device)

    def _additive_mask(self, mask: torch.Tensor | None) -> torch.Tensor | None:
        """(N, T) ones and zeros -> (N, 1, 1, T), or `None` where nothing is hidden."""
        if mask is None or bool(mask.all()):
            return None
        shown = self.states.new_zeros(mask.shape)
        return shown.masked_fill_(mask == 0, torch.finfo(shown.dtype).min)[:, None, None]

    def start(self, prompt: torch.Tensor, beams: int) -> torch.Tensor:
        """Reads the source and the prompt (N, P), and predicts what follows: logits (N, 1, V)."""
        self._read_source()
        embeddings = self.decoder.embed(prompt, None)
        hidden_states = self.decoder.add_positions(embeddings, None, self.prompt_mask)
        padding = self._additive_mask(self.prompt_mask)
        if prompt.shape[1] == 1 and padding is None:
            hidden_states = self._layers(hidden_states, None)
        else:
            hidden_states = self._layers_over_prompt(hidden_states)
        if beams > 1 or padding is not None:
            shape = (len(prompt), 1, beams, prompt.shape[1])
            self.mask = hidden_states.new_zeros(shape) if padding is None else padding.expand(shape)
        counted = prompt.shape[1] if padding is None else self.prompt_mask.long().sum(-1, keepdim=True)
        self.positions = self.positions + counted
        del self.states  # what it says is in the keys and values by now
        return self._predict(hidden_states[:, -1:])

    def _read_source(self) -> None:
        """Keys and values of the source for all layers."""
        for layer in self.decoder.layers:
            attention = layer.encoder_attn
            self.source_keys.update(*attention.project_keys_and_values(self.states), attention.layer_idx)
            self.cache.is_updated[attention.layer_idx] = True

    def _layers_over_prompt(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(N, P, E) -> (N, P, E), by the layers as they are called elsewhere."""
        causal: Any = create_causal_mask(
            config=self.decoder.config,
            inputs_embeds=hidden_states,
            attention_mask=self.prompt_mask,
            past_key_values=None,
        )
        for layer in self.decoder.layers:
            hidden_states = layer(
                hidden_states,
                causal,
                self.states,
                encoder_attention_mask=self.source_mask,
                past_key_values=self.cache,
            )
        return self._finish(hidden_states)

    def step(self, tokens: torch.Tensor, parents: torch.Tensor | None) -> torch.Tensor:
        """Appends `tokens` (N, B) to hypotheses `parents` (N, B), and predicts what follows: (N, B, V)."""
        if self.mask is not None:
            self.mask = self._with_new_slots(self.mask, parents)
        embeddings = self.decoder.embed(tokens, None)
        hidden_states = self.decoder.add_positions(embeddings, self.positions, None)
        self.positions = self.positions + 1
        return self._predict(self._layers(hidden_states, self.mask))

    def _predict(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The projection to the vocabulary: (N, B, E) -> (N, B, V)."""
        return self.project(hidden_states, self.lm_head)[0].contiguous()

    def _with_new_slots(self, mask: torch.Tensor, parents: torch.Tensor | None) -> torch.Tensor:
        """The mask of a step: a hypothesis sees what its parent saw, and itself."""
        if parents is not None:
            mask = mask.gather(2, parents[:, None, :, None].expand(-1, 1, -1, mask.shape[3]))
        beams = mask.shape[2]
        others = mask.new_full((beams, beams), torch.finfo(mask.dtype).min).fill_diagonal_(0)
        return torch.cat([mask, others.expand(len(mask), 1, -1, -1)], dim=3)

    def _layers(self, hidden_states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """One step through all layers: (N, B, E) -> (N, B, E)."""
        for layer in self.decoder.layers:
            hidden_states = self._layer(layer, hidden_states, mask)
        return self._finish(hidden_states)

    def _finish(self, hidden_states: torch.Tensor) -> torch.Tensor:
        self.slots.filled += hidden_states.shape[1]
        return self.decoder.finish(hidden_states)

    def _layer(self, layer: Any, hidden_states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """One step through a layer that is called as it is: its own modules, and nothing around them."""
        attention = layer.self_attn
        inputs = layer.sublayer_input(layer.self_attn_layer_norm, hidden_states)
        query, key, value = self.project(inputs, attention.q_proj, attention.k_proj, attention.v_proj)
        keys, values = self.slots.update(
            _heads(key, attention.head_dim), _heads(value, attention.value_head_dim), attention.layer_idx
        )
        attended = self._attend(attention, query, keys, values, mask)
        hidden_states = layer.add_residual(layer.self_attn_layer_norm, hidden_states, attended)
        attention = layer.encoder_attn
        source: Any = self.source_keys.layers[attention.layer_idx]
        inputs = layer.sublayer_input(layer.encoder_attn_layer_norm, hidden_states)
        (query,) = self.project(inputs, attention.q_proj)
        attended = self._attend(attention, query, source.keys, source.values, self.source_mask)
        hidden_states = layer.add_residual(layer.encoder_attn_layer_norm, hidden_states, attended)
        (inner,) = self.project(layer.sublayer_input(layer.final_layer_norm, hidden_states), layer.fc1)
        (outer,) = self.project(layer.activation_fn(inner), layer.fc2)
        return layer.add_residual(layer.final_layer_norm, hidden_states, outer)

    def _attend(
        self,
        attention: Any,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Multi-head attention of queries (N, B, H * K) to (N, H, slots, K) -> (N, B, E)."""
        output = F.scaled_dot_product_attention(
            _heads(query, attention.head_dim), keys, values, mask, scale=attention.scaling
        )
        return self.project(output.transpose(1, 2).flatten(2), attention.out_proj)[0]

    def keep(self, rows: torch.Tensor) -> None:
        """Goes on with the sentences of `rows` alone."""
        self.slots.keep(rows)
        self.source_keys.batch_select_indices(rows)
        if self.source_mask is not None:
            self.source_mask = self.source_mask[rows]
        if self.mask is not None:
            self.mask = self.mask[rows]
        if len(self.positions) > 1:
            self.positions = self.positions[rows]


def _is_plain(module: Any, home: str) -> bool:
    """Whether a module's `forward` is that of the module file `home`, and nothing wraps its call."""
    return type(module).forward.__module__ == home and is_called_as_it_is(module)


def _is_plain_layer(layer: Any, home: str) -> bool:
    """Whether a decoder layer and its attentions are ours, and called as they are."""
    return (
        type(layer).__module__ == home
        and type(layer.self_attn).__module__ == type(layer.encoder_attn).__module__ == home
        and all(_is_plain(module, home) for module in (layer, layer.self_attn, layer.encoder_attn))
    )


def _hides_a_source(mask: torch.Tensor | None) -> bool:
    """Whether the whole source of a sentence is padding: what attention then gives, each kernel decides."""
    return mask is not None and not bool(mask.any(-1).all())


def _heads(projected: torch.Tensor, width: int) -> torch.Tensor:
    if projected.stride(-1) != 1:  # as a product that was turned round leaves it
        projected = projected.contiguous()
    return projected.view(*projected.shape[:2], -1, width).transpose(1, 2)  # (N, B, H * K) -> (N, H, B, K)


@dataclass
class Hypothesis:
    """An ended hypothesis: its score, its tokens behind the prompt, and the beams that they came from."""

    score: float
    tokens: list[int]
    beams: list[int]


class BeamSearch:
    """The search of transformers, in which each sentence leaves when nothing of it can win any more.

    Args:
        decoder: predicts; its batch shrinks as sentences leave.
        prompt: (N, P).
        limits: (N,), the most tokens of each sentence behind its prompt.
        config: `num_beams`, `early_stopping`, `patience`, `length_penalty`, `output_scores` and the tokens
            that end one.
        processors: change the log-probabilities of a step.
    """

    def __init__(
        self,
        decoder: IncrementalDecoder,
        prompt: torch.Tensor,
        limits: torch.Tensor,
        config: GenerationConfig,
        processors: LogitsProcessorList,
    ):
        self.decoder = decoder
        self.prompt = prompt
        self.limits = limits
        self.config = config
        self.processors = processors
        self.penalty = _penalty(config, limits)
        self.beams = config.num_beams
        self.ends = config._eos_token_tensor
        self.finished: list[list[Hypothesis]] = [[] for _ in prompt]
        self.improvable = [True] * len(prompt)
        self.keeps_scores = _keeps_scores(config)
        self.all_scores: list[torch.Tensor] = []
        # The sentences still searched, on the host and on the device, and of each its open hypotheses, the
        # best first. A sentence keeps its number when others leave, its place moves up.
        self.sentences = list(range(len(prompt)))
        self.sentence_ids = torch.arange(len(prompt), device=prompt.device)
        self.running = prompt[:, None].expand(-1, self.beams, -1)
        self.origins = prompt.new_empty(len(prompt), self.beams, 0)
        self.scores = torch.full((len(prompt), self.beams), NEVER, dtype=torch.float32, device=prompt.device)
        self.scores[:, 0] = 0

    def run(self) -> None:
        """Searches until no sentence can improve."""
        logits = self.decoder.start(self.prompt, self.beams).expand(-1, self.beams, -1)
        for length in range(1, int(self.limits.max()) + 1):
            tokens, parents = self._choose(logits, length)
            kept = [place for place, sentence in enumerate(self.sentences) if self.improvable[sentence]]
            if not kept:
                return
            if not self.keeps_scores and len(kept) <= (1 - LEAVING_SHARE) * len(self.sentences):
                tokens, parents = self._leave(kept, tokens, parents)
            logits = self.decoder.step(tokens, parents)

    def _choose(self, logits: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens (N, B) of a step and the hypotheses that they continue; what ends is put aside."""
        top, parents, tokens = self._candidates(logits)
        ended = torch.isin(tokens, self.ends) | (self.limits[self.sentence_ids] <= length)[:, None]
        self._put_aside(top, parents, tokens, ended, length)
        self.scores, order = (top + ended * NEVER).topk(self.beams)
        tokens, parents = tokens.gather(1, order), parents.gather(1, order)
        self.running = torch.cat([_of_beams(self.running, parents), tokens[:, :, None]], dim=2)
        origins = parents + self.sentence_ids[:, None] * self.beams
        self.origins = torch.cat([_of_beams(self.origins, parents), origins[:, :, None]], dim=2)
        self._look_ahead(length)
        return tokens, parents

    def _candidates(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The best continuations: scores, hypotheses continued and tokens, each (N, C), the best first.

        As many as leave B open ones whichever of them end.
        """
        count = max(2, 1 + len(self.ends)) * self.beams
        log_probs = logits.flatten(0, 1).float().log_softmax(-1)  # (N * B, V)
        log_probs = self.processors(self.running.flatten(0, 1), log_probs)
        if self.keeps_scores:
            self.all_scores.append(log_probs)
        vocabulary = log_probs.shape[-1]
        best, tokens = log_probs.topk(min(count, vocabulary))  # of each hypothesis, as none gives more
        sums = (best.unflatten(0, (-1, self.beams)) + self.scores[:, :, None]).flatten(1)
        top, places = sums.topk(count)
        tokens = tokens.reshape(len(places), -1).gather(1, places)
        return top, places // best.shape[-1], tokens

    def _put_aside(
        self,
        top: torch.Tensor,
        parents: torch.Tensor,
        tokens: torch.Tensor,
        ended: torch.Tensor,
        length: int,
    ) -> None:
        """Adds the ended ones among the B best candidates to the finished hypotheses of their sentence."""
        places, candidates = ended[:, : self.beams].nonzero(as_tuple=True)
        if not len(places):
            return
        # Read from the device together, as each reading waits for it.
        chosen = parents[places, candidates]
        scores = (top[places, candidates] / self.penalty(length)).tolist()
        histories = torch.cat(
            [self.running[places, chosen, self.prompt.shape[1] :], self.origins[places, chosen]], dim=1
        )
        last = torch.stack([places, candidates, chosen, tokens[places, candidates]], dim=1)
        for score, history, (place, candidate, parent, token) in zip(
            scores, histories.tolist(), last.tolist(), strict=True
        ):
            sentence = self.sentences[place]
            if not self.improvable[sentence]:
                continue
            if self.penalty.patience is not None:
                self.penalty.patience.count(sentence, candidate)
            if score <= NEVER:  # it took a forbidden token
                continue
            finished = self.finished[sentence]
            finished.append(
                Hypothesis(
                    score,
                    [*history[: length - 1], token],
                    [*history[length - 1 :], sentence * self.beams + parent],
                )
            )
            finished.sort(key=lambda hypothesis: -hypothesis.score)
            del finished[self.beams :]

    def _look_ahead(self, length: int) -> None:
        """Notes which sentences are over: their best open hypothesis cannot beat the worst finished one."""
        patience = self.penalty.patience
        if patience is not None:
            self.improvable = [not patience.is_over(one, length) for one in range(len(self.improvable))]
            return
        divisors = self.penalty.at_best(length, self.config.early_stopping)
        if isinstance(divisors, torch.Tensor):
            divisors = divisors[self.sentence_ids, 0]
        best = (self.scores[:, 0] / divisors).tolist()
        for place, (sentence, score) in enumerate(zip(self.sentences, best, strict=True)):
            finished = self.finished[sentence]
            full = len(finished) == self.beams
            worst = finished[-1].score if full else NEVER
            over = (full and self.config.early_stopping is True) or not score > worst  # nan, too
            if over and self.improvable[sentence] and not finished:
                finished.append(self._without_last(place))
            self.improvable[sentence] = self.improvable[sentence] and not over

    def _without_last(self, place: int) -> Hypothesis:
        """What a sentence had before the step in which nothing was allowed any more."""
        tokens, beams = self.running[place, 0, self.prompt.shape[1] : -1], self.origins[place, 0, :-1]
        return Hypothesis(NEVER, tokens.tolist(), beams.tolist())

    def _leave(
        self, kept: list[int], tokens: torch.Tensor, parents: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Goes on with the sentences in the places `kept` alone."""
        places = torch.tensor(kept, device=tokens.device)
        self.decoder.keep(places)
        self.sentences = [self.sentences[place] for place in kept]
        self.sentence_ids, self.scores = self.sentence_ids[places], self.scores[places]
        self.running, self.origins = self.running[places], self.origins[places]
        return tokens[places], parents[places]


def _of_beams(states: torch.Tensor, beams: torch.Tensor) -> torch.Tensor:
    """The (N, B, S) states of the hypotheses `beams` (N, B)."""
    return states.gather(1, beams[:, :, None].expand(-1, -1, states.shape[2]))


class VanillaTransformerGenerationMixin(GenerationMixin):
    """transformers' `generate()` with the paper's length penalty and a length limit that follows the source.

    Four fields of a generation config, which are keywords of `generate()` too:

    - `length_penalty_type`: "gnmt" or "power" (the default), see `LengthPenalty`.
    - `max_length_beyond_source`: each translation may have so many tokens more than its source, padding not
      counted. The source's tokens are counted in the attention mask; without one all are, as the model reads
      them all. A `max_length` or `max_new_tokens` of the caller switches it off where the model's generation
      config has it, and given by the caller it switches off the model's two; limits given together all hold.
      Where there is none at all, it is 50. A `max_length` of 20 in the model's generation config counts as
      none, as transformers writes it there by itself. `forced_eos_token_id` knows the limit of the batch, not
      that of each source.
    - `patience`: a beam search is over for a sentence as `Patience` says, whatever `early_stopping` is;
      `None` switches that off. With `CTRANSLATE2_DECODING` the translations and their scores are those of
      CTranslate2.
    - `fast`: whether the loop of this file may be taken, `True` by default.

    Greedy and beam search run in the fast loop of this file, unless `fast=False` is given, with the same
    tokens and scores but for the rounding of sums in another order; beam search returns no keys and values
    of the target. Sampling, processors and stopping criteria other than `FAST_PROCESSORS` and
    `FAST_CRITERIA`, streamers, caches of the caller, attentions or hidden states as outputs, hooks on the
    model or its decoder, attention by other kernels than `FAST_ATTENTION`, and subclasses that override
    `forward` take transformers' own loop; so does a model whose `forward` Accelerate has wrapped, as in a
    `Seq2SeqTrainer` with `bf16`.
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
        without_patience = "patience" in kwargs and kwargs["patience"] is None
        kwargs = {name: value for name, value in kwargs.items() if name not in OWN_FIELDS}
        config, model_kwargs = super()._prepare_generation_config(generation_config, **kwargs)
        for name, default in OWN_FIELDS.items():
            setattr(config, name, given.get(name, getattr(config, name, default)))
        if without_patience:  # nothing else switches off what the generation config says
            config.patience = None
        _settle_limits(config, given)
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
        """Bounds the length of the batch by its widest source and by positions that are learned.

        `row_limits` does it for each sentence.
        """
        limits = []
        if generation_config.max_new_tokens is not None:
            limits.append(generation_config.max_new_tokens)
        elif not has_default_max_length and generation_config.max_length is not None:
            limits.append(generation_config.max_length - input_ids_length)
        if generation_config.max_length_beyond_source is None and not limits:
            generation_config.max_length_beyond_source = MAX_LENGTH_BEYOND_SOURCE
        if generation_config.max_length_beyond_source is not None:
            limits.append(inputs_tensor.shape[1] + generation_config.max_length_beyond_source)
        learned = self.config.position_embedding == "learned"
        if learned:
            limits.append(self.config.max_position_embeddings - input_ids_length)
        if learned or generation_config.max_length_beyond_source is not None:
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

    def _get_stopping_criteria(self, *args: Any, **kwargs: Any) -> StoppingCriteriaList:
        """The library's, without a warning of `max_position_embeddings` where positions have no limit."""
        whole: Any = super()
        return without_limit_of_positions(whole._get_stopping_criteria(*args, **kwargs), self.config)

    def _sample(
        self,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **kwargs: Any,
    ) -> Any:
        """Greedy decoding and sampling, each row up to its own limit."""
        limits = row_limits(input_ids, generation_config, kwargs, stopping_criteria)
        if self._runs_fast(generation_config, logits_processor, stopping_criteria, kwargs):
            return self._fast_greedy_search(input_ids, limits, generation_config, logits_processor, kwargs)
        stopping_criteria = _with_limits(stopping_criteria, limits, input_ids)
        if generation_config._pad_token_tensor is not None:
            # By an attribute of this name, transformers knows that sentences may end apart and are filled up.
            stopping_criteria[-1].eos_token_id = generation_config._eos_token_tensor
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
        limits = row_limits(input_ids, generation_config, kwargs, stopping_criteria)
        limits = limits[:: generation_config.num_beams]
        if self._runs_fast(generation_config, logits_processor, stopping_criteria, kwargs):
            return self._fast_beam_search(input_ids, limits, generation_config, logits_processor, kwargs)
        stopping_criteria = _with_limits(stopping_criteria, limits, input_ids)
        generation_config = copy.copy(generation_config)
        # transformers hands it on to `_update_finished_beams` and `_check_early_stop_heuristic` below.
        generation_config.length_penalty = _penalty(generation_config, limits)
        if generation_config.patience is not None:
            generation_config.early_stopping = False
        found = super()._beam_search(
            input_ids, logits_processor, stopping_criteria, generation_config, **kwargs
        )
        pad = generation_config._pad_token_tensor
        if generation_config._eos_token_tensor is None and pad is not None:
            # transformers fills up with -1, as without a token that ends it counts on none to end early.
            sequences = found if isinstance(found, torch.Tensor) else found.sequences
            sequences.masked_fill_(sequences < 0, int(pad))
        return found

    def _assisted_decoding(
        self,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        inputs_tensor: torch.Tensor | None = None,  # transformers looks for this name
        **kwargs: Any,
    ) -> Any:
        """Decoding of one sentence with guesses by another model or from the source, up to its limit."""
        limits = row_limits(input_ids, generation_config, kwargs, stopping_criteria)
        generation_config = copy.copy(generation_config)
        # Guesses of several tokens end here, too.
        generation_config.max_length = input_ids.shape[1] + int(limits.min())
        stopping_criteria = _with_limits(stopping_criteria, limits, input_ids)
        return super()._assisted_decoding(
            input_ids,
            logits_processor,
            stopping_criteria,
            generation_config,
            inputs_tensor=inputs_tensor,
            **kwargs,
        )

    def _runs_fast(
        self,
        config: GenerationConfig,
        processors: LogitsProcessorList,
        criteria: StoppingCriteriaList,
        model_kwargs: Mapping[str, Any],
    ) -> bool:
        """Whether the fast loop can do what is asked for."""
        return (
            config.fast is not False
            and _is_plain_search(config)
            and _has_plain_inputs(model_kwargs)
            and all(type(one) in FAST_PROCESSORS for one in processors)
            and all(_is_followed(one, config) for one in criteria)
            and self.config.is_encoder_decoder
            and self.config._attn_implementation in FAST_ATTENTION
            and not torch.is_grad_enabled()
            and self._steps_are_its_own()
            and not self._drops()
        )

    def _drops(self) -> bool:
        """Whether a part of the decoder is in training mode, as for estimates by dropout."""
        decoder: Any = self.get_decoder()
        parts = [part for one in decoder.layers for part in (one, one.self_attn, one.encoder_attn)]
        return any(part.training for part in (self, decoder, *parts))

    def _steps_are_its_own(self) -> bool:
        """Whether nothing but the decoder's layers has a say in a step: no subclass, no hook, no wrapper.

        A hook, wherever in the decoder, may count on transformers' rows: one for each hypothesis.
        """
        home = _home_of_steps(self)
        if home is None:
            return False
        whole: Any = self
        decoder = whole.model.decoder
        return (
            type(self).predict.__module__ == home
            and all(_is_plain(module, home) for module in (whole, whole.model, decoder))
            and all(_is_plain_layer(layer, home) for layer in decoder.layers)
            and not any(is_watched(module) for part in (decoder, whole.lm_head) for module in part.modules())
        )

    def _fast_greedy_search(
        self,
        input_ids: torch.Tensor,
        limits: torch.Tensor,
        config: GenerationConfig,
        processors: LogitsProcessorList,
        model_kwargs: Mapping[str, Any],
    ) -> Any:
        """The likeliest token of each step; a sentence leaves the batch at its </s> or its limit."""
        decoder = IncrementalDecoder(self, model_kwargs, steps=int(limits.max()))
        start, pad = input_ids.shape[1], config._pad_token_tensor
        input_ids = input_ids.long()
        sequences = F.pad(input_ids, (0, min(int(limits.max()), FIRST_ROOM)), value=int(pad))
        rows = torch.arange(len(input_ids), device=input_ids.device)
        is_open = torch.ones_like(rows, dtype=torch.bool)
        logits, all_scores, length = decoder.start(input_ids, 1), [], start
        while True:
            scores = processors(sequences[rows, :length], logits[:, -1].float())
            tokens = torch.where(is_open, scores.argmax(-1), pad)
            if length == sequences.shape[1]:
                sequences = F.pad(sequences, (0, length), value=int(pad))
            sequences[rows, length] = tokens
            length += 1
            if _keeps_scores(config):
                all_scores.append(scores)
            is_open &= ~torch.isin(tokens, config._eos_token_tensor) & (limits[rows] > length - start)
            count = int(is_open.sum())
            if not count:
                break
            if not config.return_dict_in_generate and count <= (1 - LEAVING_SHARE) * len(rows):
                kept = is_open.nonzero()[:, 0]
                decoder.keep(kept)
                rows, tokens, is_open = rows[kept], tokens[kept], is_open[kept]
            logits = decoder.step(tokens[:, None], None)
        sequences = sequences[:, :length]
        if not config.return_dict_in_generate:
            return sequences
        scores_of_steps = tuple(all_scores) if config.output_scores else None
        return GenerateEncoderDecoderOutput(
            sequences=sequences,
            scores=scores_of_steps,
            past_key_values=EncoderDecoderCache(decoder.slots.in_order(), decoder.source_keys),
        )

    def _fast_beam_search(
        self,
        input_ids: torch.Tensor,
        limits: torch.Tensor,
        config: GenerationConfig,
        processors: LogitsProcessorList,
        model_kwargs: Mapping[str, Any],
    ) -> Any:
        """`BeamSearch`, and its result as transformers gives it."""
        beams, input_ids = config.num_beams, input_ids.long()
        search = BeamSearch(
            IncrementalDecoder(self, _one_of_each(model_kwargs, beams), steps=int(limits.max())),
            input_ids[::beams],
            limits,
            config,
            processors,
        )
        search.run()
        returned = [
            (finished + [Hypothesis(NEVER, [], [])] * beams)[: config.num_return_sequences]
            for finished in search.finished
        ]
        hypotheses = [hypothesis for sentence in returned for hypothesis in sentence]
        # As in transformers, where padding is token 0, the first end token fills up.
        filler = int(config._pad_token_tensor) or int(config._eos_token_tensor[0])
        tokens = padded([one.tokens for one in hypotheses], filler, input_ids)
        prompts = input_ids[::beams].repeat_interleave(config.num_return_sequences, dim=0)
        sequences = torch.cat([prompts, tokens], dim=1)
        if not config.return_dict_in_generate:
            return sequences
        scores = torch.tensor([one.score for one in hypotheses], dtype=torch.float32, device=input_ids.device)
        return GenerateBeamEncoderDecoderOutput(
            sequences=sequences,
            sequences_scores=scores if config.output_scores else None,
            scores=tuple(search.all_scores) if config.output_scores else None,
            beam_indices=padded([one.beams for one in hypotheses], -1, input_ids).int(),
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
        if length_penalty.patience is not None:
            ended = kwargs["next_token_hits_stopping_criteria"] & kwargs["top_num_beam_mask"]
            searched = kwargs["is_early_stop_heuristic_unsatisfied"]
            for row, candidate in (ended & searched).nonzero().tolist():
                length_penalty.patience.count(row, candidate)
        return super()._update_finished_beams(
            topk_log_probs=topk_log_probs / length_penalty(cur_len + 1 - decoder_prompt_len),
            length_penalty=0.0,
            cur_len=cur_len,
            decoder_prompt_len=decoder_prompt_len,
            **kwargs,
        )

    @staticmethod
    def _check_early_stop_heuristic(
        *,
        running_beam_scores: torch.Tensor,
        length_penalty: LengthPenalty,
        cur_len: int,
        decoder_prompt_len: int,
        early_stopping: bool | str | None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """(N, 1), whether the best open hypothesis of each sentence could still beat a finished one."""
        if length_penalty.patience is not None:
            length, rows = cur_len - decoder_prompt_len, range(len(running_beam_scores))
            over = [[length_penalty.patience.is_over(row, length)] for row in rows]
            return ~torch.tensor(over, device=running_beam_scores.device)
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
    """Sets fields of a generation config, ours among them, so that they are saved with it.

    `set_decoding(model.generation_config, **PAPER_DECODING)` makes a model translate as in section 6.1.
    """
    generation_config.update(**fields, allow_custom_entries=True)
    # transformers reads fields that it does not know only where a config is not derived from the model's.
    generation_config._from_model_config = False


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _settle_limits(config: GenerationConfig, given: Mapping[str, Any]) -> None:
    """Of the limits of length, keeps those that the caller gave, or else those of the model."""
    by_source = "max_length_beyond_source" in given
    by_length = "max_length" in given or "max_new_tokens" in given
    if by_source and not by_length:
        config.max_length = config.max_new_tokens = None
    if by_length and not by_source:
        config.max_length_beyond_source = None
    if "max_length" in given and "max_new_tokens" not in given:
        config.max_new_tokens = None
    limited_by_source = config.max_length_beyond_source is not None
    if limited_by_source and not by_length and config.max_length == LIBRARY_MAX_LENGTH:
        # Nobody's limit: `Seq2SeqTrainer` writes the library's into the model's config when it evaluates.
        config.max_length = None


def _keeps_scores(config: GenerationConfig) -> bool:
    """Whether the scores of all steps are asked for, and returned."""
    return bool(config.output_scores and config.return_dict_in_generate)


def _penalty(config: GenerationConfig, limits: torch.Tensor) -> LengthPenalty:
    """The length penalty, and the patience if there is one, of a search of N sentences with limits (N,)."""
    penalty = LengthPenalty(config.length_penalty, config.length_penalty_type, limits[:, None])
    if config.patience is not None:
        penalty.patience = Patience(config, limits)
    return penalty


def check_own_fields(config: GenerationConfig) -> None:
    """Raises `ValueError` where an own field, `patience` for instance, cannot be used."""
    kind, beyond = config.length_penalty_type, config.max_length_beyond_source
    alpha = config.length_penalty
    if alpha is not None and not (isinstance(alpha, int | float) and -MAX_ALPHA <= alpha <= MAX_ALPHA):
        raise ValueError(
            f"`length_penalty` must be from -{MAX_ALPHA} to {MAX_ALPHA}, but is {alpha!r} instead."
        )
    if kind is not None and kind not in LENGTH_PENALTY_TYPES:
        known = ", ".join(LENGTH_PENALTY_TYPES)
        raise ValueError(f"`length_penalty_type` must be one of {known}, but is {kind!r} instead.")
    if beyond is not None and (isinstance(beyond, bool) or not isinstance(beyond, int) or beyond < 0):
        raise ValueError(
            f"`max_length_beyond_source` must be a whole number, 0 or more, but is {beyond!r} instead."
        )
    if config.patience is not None:
        _check_patience(config)


def check_saved_fields(config: GenerationConfig) -> None:
    """Raises `ValueError` where an own field of a saved generation config can be used in no search.

    What it lacks has its default. How many hypotheses are searched for and returned is not looked at, as each
    search may say so itself.
    """
    config = copy.copy(config)
    for name, default in OWN_FIELDS.items():
        setattr(config, name, getattr(config, name, default))
    config.num_beams = config.num_return_sequences = 1
    check_own_fields(config)


def _required_hypotheses(config: GenerationConfig) -> int:
    """How many ended hypotheses a patient beam search waits for."""
    return int(config.num_beams * config.patience + 0.5)


def _check_patience(config: GenerationConfig) -> None:
    patience = config.patience
    if isinstance(patience, bool) or not isinstance(patience, int | float) or not 0 < patience < math.inf:
        raise ValueError(f"`patience` must be a positive number, but is {patience!r} instead.")
    most = _required_hypotheses(config)
    if config.num_beams > 1 and config.num_return_sequences > most:
        raise ValueError(
            f"`num_return_sequences` must be at most `num_beams` * `patience`, {most}, but is"
            f" {config.num_return_sequences} instead."
        )


def row_limits(
    input_ids: torch.Tensor,
    generation_config: GenerationConfig,
    model_kwargs: Mapping[str, Any],
    criteria: Sequence[StoppingCriteria] = (),
) -> torch.Tensor:
    """How many tokens each row of `input_ids` (N * B, S) may gain, one at least: (N * B,).

    Raises:
        ValueError: a `RowLengthCriteria` of more or fewer sentences.
    """
    rows, length = input_ids.shape
    longest = min(generation_config.max_length - length, NO_LIMIT)  # a tokenizer without one has 10^30
    limits = torch.full((rows,), longest, dtype=torch.long, device=input_ids.device)
    if generation_config.max_length_beyond_source is not None:
        sources = _source_lengths(input_ids, model_kwargs)
        limits = limits.minimum(sources + generation_config.max_length_beyond_source)
    for one in criteria:
        if isinstance(one, RowLengthCriteria):
            expanded = max(generation_config.num_beams or 1, generation_config.num_return_sequences or 1)
            if len(one.lengths) * expanded != rows:
                raise ValueError(
                    f"`RowLengthCriteria` must have a length for each of {rows // expanded} sentences, but"
                    f" has {len(one.lengths)} instead."
                )
            own = one.lengths.to(limits).repeat_interleave(rows // len(one.lengths))
            limits = limits.minimum(own - length)
    return limits.clamp(min=1)


def _source_lengths(input_ids: torch.Tensor, model_kwargs: Mapping[str, Any]) -> torch.Tensor:
    """Tokens of each row's source, without padding: (N * B,)."""
    mask = model_kwargs.get("attention_mask")
    if mask is not None and mask.ndim == 2:
        return mask.ne(0).sum(-1).to(input_ids.device)
    return input_ids.new_full((len(input_ids),), model_kwargs["encoder_outputs"][0].shape[1])


def _is_plain_search(config: GenerationConfig) -> bool:
    """Whether greedy or beam search with a cache is asked for, and no outputs but tokens and scores."""
    other = (
        *(config.do_sample, config.cache_implementation, config.prefill_chunk_size),
        *(config.output_attentions, config.output_hidden_states, config.output_logits),
        getattr(config, "low_memory", None),
    )
    ends = (config._eos_token_tensor, config._pad_token_tensor)
    return config.use_cache is not False and not any(other) and all(token is not None for token in ends)


def _has_plain_inputs(model_kwargs: Mapping[str, Any]) -> bool:
    """Whether the fast loop knows all that a step would be given, and something of each source is seen."""
    cache = model_kwargs.get("past_key_values")
    return (
        _present(model_kwargs).keys() <= FAST_KEYWORDS
        and not getattr(cache, "_is_user_defined", False)
        and not model_kwargs.get("synced_gpus")
        and all(mask is None or mask.ndim == 2 for mask in map(model_kwargs.get, MASKS))
        and not _hides_a_source(model_kwargs.get("attention_mask"))
    )


def without_limit_of_positions(criteria: StoppingCriteriaList, config: Any) -> StoppingCriteriaList:
    """Criteria that warn of text longer than `max_position_embeddings` only where positions are learned."""
    library = criteria[0] if criteria else None  # the caller's stand behind it
    if isinstance(library, MaxLengthCriteria) and config.position_embedding != "learned":
        library.max_position_embeddings = None
    return criteria


def _home_of_steps(model: Any) -> str | None:
    """The module of the class that defines a model's steps; `None` where something before it has its own."""
    for place in (model, *type(model).__mro__):
        if VanillaTransformerGenerationMixin in getattr(place, "__bases__", ()):
            return str(place.__module__)
        # PEFT puts its own into a model for which it has learned a prompt.
        if {"forward", "predict", "prepare_inputs_for_generation"} & vars(place).keys():
            return None
    return None


def _with_limits(
    criteria: StoppingCriteriaList, limits: torch.Tensor, input_ids: torch.Tensor
) -> StoppingCriteriaList:
    return StoppingCriteriaList([*criteria, RowLengthCriteria(limits + input_ids.shape[1])])


def _one_of_each(model_kwargs: Mapping[str, Any], beams: int) -> dict[str, Any]:
    """What `generate()` repeated for every beam, once for each sentence again."""
    picked = {
        name: value[::beams] if isinstance(value, torch.Tensor) else value
        for name, value in model_kwargs.items()
    }
    return picked | {"encoder_outputs": (model_kwargs["encoder_outputs"][0][::beams],)}


def padded(rows: list[list[int]], filler: int, like: torch.Tensor) -> torch.Tensor:
    """Rows of different lengths as one tensor of the kind of `like`, filled up on the right."""
    width = max(map(len, rows))
    return like.new_tensor([row + [filler] * (width - len(row)) for row in rows])
