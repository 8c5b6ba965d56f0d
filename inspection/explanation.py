"""A translation taken apart: every stage of Figure 1 with the numbers of the model's own forward pass.

Shapes: S target length, T source length (or any key length), H heads, K and V widths of a head's keys and
values, E model width, F inner width of the feed-forward network, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError
from ..modeling.generation_vanilla_transformer import MAX_LENGTH_BEYOND_SOURCE
from ..modeling.loading import without_peft
from ..modeling.modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration
from ..modeling.translation_vanilla_transformer import evaluation_mode, source_names
from .recording import Recording, record

CANDIDATES = 5


@dataclass(frozen=True)
class Embedding:
    """What a stack reads (sections 3.4 and 3.5).

    Attributes:
        pieces: the tokens as the vocabulary spells them.
        ids: (T,) their numbers.
        factor: what embeddings are multiplied by, sqrt(d_model) in the paper; 1 where they are not.
        scaled: (T, E) embeddings times the factor.
        positions: (T, E) positional encodings; `None` in a model without positions.
        total: (T, E) the sum, which the first layer reads.
    """

    pieces: tuple[str, ...]
    ids: torch.Tensor
    factor: float
    scaled: torch.Tensor
    positions: torch.Tensor | None
    total: torch.Tensor


@dataclass(frozen=True)
class Attention:
    """Multi-head attention, head by head (section 3.2).

    Attributes:
        query: (H, S, K) from what attends.
        key, value: (H, T, K) and (H, T, V) from what is attended to.
        scores: (H, S, T) Q K^T / sqrt(d_k), before the mask.
        visible: (S, T) booleans; the decoder's self-attention has the lower triangle.
        weights: (H, S, T) softmax over what is visible; rows sum to 1.
        heads: (H, S, V) the weighted sums of values.
        concatenated: (S, H * V) the heads side by side.
        projected: (S, E) times W^O.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scores: torch.Tensor
    visible: torch.Tensor
    weights: torch.Tensor
    heads: torch.Tensor
    concatenated: torch.Tensor
    projected: torch.Tensor


@dataclass(frozen=True)
class FeedForward:
    """The position-wise feed-forward network (section 3.3): (S, F) inner values and the (S, E) output."""

    inner: torch.Tensor
    output: torch.Tensor


@dataclass(frozen=True)
class Residual:
    """The residual connection and the norm of a sub-layer (section 3.1).

    Attributes:
        added: (S, E) x + Sublayer(...).
        normed: (S, E) what LayerNorm gave: of the sum in a post-norm model, of x before the sub-layer in a
            pre-norm one.
    """

    added: torch.Tensor
    normed: torch.Tensor


@dataclass(frozen=True)
class Layer:
    """One layer of a stack; an encoder layer has no cross-attention.

    Attributes:
        self_attention, cross_attention, feed_forward: the sub-layers.
        residuals: one for each sub-layer, in their order.
        output: (S, E) what the next layer reads.
    """

    self_attention: Attention
    cross_attention: Attention | None
    feed_forward: FeedForward
    residuals: tuple[Residual, ...]
    output: torch.Tensor


@dataclass(frozen=True)
class Candidate:
    """A piece that may come next, with its probability."""

    piece: str
    id: int
    probability: float


@dataclass(frozen=True)
class Step:
    """One step of decoding.

    Attributes:
        read: the pieces so far, from `<s>` on.
        candidates: the most probable next pieces, best first.
        chosen: the piece that is appended: the best one, or the target's where one was given.
    """

    read: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    chosen: Candidate


@dataclass(frozen=True)
class Decoding:
    """The same positions predicted twice.

    Attributes:
        steps: one token at a time, the encoder run once, keys and values of earlier steps kept.
        stepwise: (S, V) probabilities of the next piece, a row from each step.
        forced: (S, V) probabilities from teacher forcing: one pass over all positions at once, where the mask
            hides what comes later.
    """

    steps: tuple[Step, ...]
    stepwise: torch.Tensor
    forced: torch.Tensor


@dataclass(frozen=True, repr=False)
class Explanation:
    """All stages of one translation, see `explain`.

    Printed, or shown in a notebook, it is the text of `text()`.

    Attributes:
        source, translation: the sentences.
        pre_norm: whether norms stand before the sub-layers, instead of behind the residual connection.
        activation: the name of the feed-forward networks' activation function; "relu" in the paper.
        source_embedding, target_embedding: what encoder and decoder read.
        encoder, decoder: their layers, the first one first.
        memory: (T, E) the encoder's output, of which the decoder's cross-attention makes its K and V.
        decoding: the prediction step by step, and all at once.
    """

    source: str
    translation: str
    pre_norm: bool
    activation: str
    source_embedding: Embedding
    encoder: tuple[Layer, ...]
    memory: torch.Tensor
    target_embedding: Embedding
    decoder: tuple[Layer, ...]
    decoding: Decoding

    def text(self, *, layer: int = 0, head: int = 0) -> str:
        """Every stage with its shape and a few numbers, the attentions of one head of one layer.

        Args:
            layer, head: counted from 0; negative ones from the end. A stack with fewer shows its last.
        """
        from .text import describe

        return describe(self, layer=layer, head=head)

    def draw(self, folder: str | Path, *, layer: int = 0, head: int = 0, suffix: str = "png") -> list[Path]:
        """Draw every stage into `folder`, which is made if need be; returns the files.

        Args:
            folder: where the pictures go.
            layer, head: as in `text`.
            suffix: `"png"` or `"svg"`.

        Raises:
            InputError: no font has the sentence's characters, or the format is another one.
        """
        from .figures import draw_explanation

        return draw_explanation(self, folder, layer=layer, head=head, suffix=suffix)

    def __repr__(self) -> str:
        return self.text()


def explain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    *,
    target: str | None = None,
    max_new_tokens: int | None = None,
) -> Explanation:
    """Translate a sentence and keep every intermediate result.

    The best piece of each step is taken (greedy decoding: one hypothesis is easier to follow than a beam).
    The stages are then read from one pass over source and translation, as in training (teacher forcing).

    Args:
        model: the model, adapted by PEFT or not; it is left as it was found.
        tokenizer: its tokenizer.
        source: one sentence.
        target: a translation to follow instead of the model's own.
        max_new_tokens: most pieces to decode; default: the source's + 50 (section 6.1).

    Raises:
        InputError: the sentence is empty, `max_new_tokens` is not positive, or the model is of another kind,
            has a stack without layers, or learned a prefix or a prompt by PEFT.
        ValueError: the sentence is longer than a model with learned positions takes.

    Example:

    ```python
    explanation = explain(model, tokenizer, "我有一只猫。")
    print(explanation)
    explanation.encoder[0].self_attention.weights[0]  # (T, T), the first head of the first layer
    explanation.draw("figures")
    ```
    """
    translator = _checked(model, source, target)
    if max_new_tokens is not None and max_new_tokens < 1:
        raise InputError(f"`max_new_tokens` must be positive, but is {max_new_tokens} instead.")
    input_ids = torch.tensor([tokenizer(source)["input_ids"]], device=translator.device)
    forced = None if target is None else list(tokenizer(text_target=target)["input_ids"])
    limit = input_ids.shape[1] + MAX_LENGTH_BEYOND_SOURCE if max_new_tokens is None else max_new_tokens
    if translator.config.position_embedding == "learned":
        limit = min(limit, translator.config.max_position_embeddings)
    produced, stepwise = decode_step_by_step(translator, input_ids, forced, limit)
    decoder_ids = [translator.config.decoder_start_token_id or 0, *produced[:-1]]
    with record(translator) as recording:
        logits = translator(
            input_ids=input_ids,
            decoder_input_ids=torch.tensor([decoder_ids], device=translator.device),
            use_cache=False,
        ).logits
    source_ids = input_ids[0].tolist()
    source_pieces = _shown(source_names(tokenizer)(source_ids))
    decoding = Decoding(
        _steps(tokenizer, decoder_ids, produced, stepwise), stepwise, logits[0].softmax(dim=-1)
    )
    return Explanation(
        source=source,
        translation=str(tokenizer.decode(produced, skip_special_tokens=True)),
        pre_norm=translator.config.norm_position == "pre",
        activation=translator.config.activation_function,
        source_embedding=_embedding(
            recording, "model.encoder", source_pieces, source_ids, translator.model.encoder.embed_scale
        ),
        encoder=_layers(recording, "model.encoder", translator.config.encoder_layers),
        memory=recording.inputs["model.decoder.layers.0.encoder_attn.k_proj"][0],
        target_embedding=_embedding(
            recording,
            "model.decoder",
            pieces_of(tokenizer, decoder_ids),
            decoder_ids,
            translator.model.decoder.embed_scale,
        ),
        decoder=_layers(recording, "model.decoder", translator.config.decoder_layers),
        decoding=decoding,
    )


def _checked(model: Any, source: str, target: str | None) -> VanillaTransformerForConditionalGeneration:
    model = without_peft(model, "explained: no layer of it holds what was learned")
    if getattr(model.config, "model_type", None) != "vanilla_transformer":
        raise InputError(
            f"only a `vanilla_transformer` can be explained, but the model is a `{model.config.model_type}`."
        )
    if not model.config.is_encoder_decoder or not hasattr(model, "lm_head"):
        raise InputError(f"only a model that translates can be explained, no {type(model).__name__}.")
    if not model.config.encoder_layers or not model.config.decoder_layers:
        raise InputError("a model needs layers in encoder and decoder to be explained.")
    for name, text in (("source", source), ("target", target)):
        if text is not None and not text.strip():
            raise InputError(f"`{name}` must be a sentence, but is empty.")
    # Not told by its class: it may come from code beside its weights.
    return cast(VanillaTransformerForConditionalGeneration, model)


def decode_step_by_step(
    model: VanillaTransformerForConditionalGeneration,
    input_ids: torch.Tensor,
    target_ids: Sequence[int] | None,
    limit: int,
) -> tuple[list[int], torch.Tensor]:
    """Decode one token at a time: the best one, or the next of `target_ids`.

    Args:
        input_ids: (1, T) the source.
        target_ids: a target to follow to its end.
        limit: most tokens to decode where no target is given.

    Returns:
        The tokens, the end token included if it was reached, and the probabilities (S, V) of each step.
    """
    end = model.config.eos_token_id
    ends = end if isinstance(end, list) else [end]
    banned = _banned(model.generation_config, ends)
    min_new_tokens = model.generation_config.min_new_tokens or 0
    produced: list[int] = []
    rows: list[torch.Tensor] = []
    cache: Any = None
    token = model.config.decoder_start_token_id or 0
    with evaluation_mode(model), torch.no_grad():
        memory = model.model.encoder(input_ids)
        while len(produced) < (limit if target_ids is None else len(target_ids)):
            output = model(
                encoder_outputs=memory,
                decoder_input_ids=input_ids.new_tensor([[token]]),
                past_key_values=cache,
                use_cache=True,
            )
            cache = output.past_key_values
            rows.append(output.logits[0, -1].softmax(dim=-1))
            if target_ids is None:
                forbidden = [*banned, *(ends if len(produced) < min_new_tokens else [])]
                allowed = rows[-1].index_fill(0, input_ids.new_tensor(forbidden), -1.0)
                token = int(allowed.argmax())
            else:
                token = target_ids[len(produced)]
            produced.append(token)
            if target_ids is None and token in ends:
                break
    return produced, torch.stack(rows)


def _banned(config: GenerationConfig, ends: Sequence[int | None]) -> list[int]:
    """Tokens that `generate()` never chooses, as a converted model's padding."""
    # As in transformers, the end token alone is no bad word.
    words = [words[0] for words in config.bad_words_ids or [] if len(words) == 1 and words[0] not in ends]
    return [*(config.suppress_tokens or []), *words]


def _steps(
    tokenizer: PreTrainedTokenizerBase, read: Sequence[int], produced: Sequence[int], rows: torch.Tensor
) -> tuple[Step, ...]:
    def candidate(number: int, row: torch.Tensor) -> Candidate:
        return Candidate(pieces_of(tokenizer, [number])[0], number, float(row[number]))

    pieces = pieces_of(tokenizer, read)
    return tuple(
        Step(
            pieces[: place + 1],
            tuple(candidate(int(k), row) for k in row.topk(min(CANDIDATES, len(row))).indices),
            candidate(produced[place], row),
        )
        for place, row in enumerate(rows)
    )


def pieces_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[str, ...]:
    """Tokens of a target as the vocabulary spells them, a space in front of a word shown as `_`."""
    return _shown(tokenizer.convert_ids_to_tokens(list(ids)))


def _shown(tokens: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(token).replace(" ", "_") for token in tokens)


def _embedding(
    recording: Recording, stack: str, pieces: tuple[str, ...], ids: Sequence[int], factor: float
) -> Embedding:
    positions = recording.outputs.get(f"{stack}.embed_positions")
    return Embedding(
        pieces=pieces,
        ids=torch.tensor(ids),
        factor=factor,
        scaled=recording.operations[stack, "mul"][0][0],
        positions=None if positions is None else positions.reshape(-1, positions.shape[-1]),
        total=recording.inputs[f"{stack}.layers.0"][0],
    )


def _layers(recording: Recording, stack: str, count: int) -> tuple[Layer, ...]:
    return tuple(_layer(recording, f"{stack}.layers.{number}") for number in range(count))


def _layer(recording: Recording, name: str) -> Layer:
    has_cross = f"{name}.encoder_attn" in recording.outputs
    norms = ["self_attn_layer_norm", *(["encoder_attn_layer_norm"] if has_cross else []), "final_layer_norm"]
    sums = recording.operations[name, "add"]
    return Layer(
        self_attention=_attention(recording, f"{name}.self_attn"),
        cross_attention=_attention(recording, f"{name}.encoder_attn") if has_cross else None,
        feed_forward=FeedForward(
            inner=recording.inputs[f"{name}.fc2"][0], output=recording.outputs[f"{name}.fc2"][0]
        ),
        residuals=tuple(
            Residual(added[0], recording.outputs[f"{name}.{norm}"][0])
            for added, norm in zip(sums, norms, strict=True)
        ),
        output=recording.outputs[name][0],
    )


def _attention(recording: Recording, name: str) -> Attention:
    def split(projection: str) -> torch.Tensor:
        return recording.outputs[f"{name}.{projection}"][0].unflatten(-1, (heads, -1)).transpose(0, 1)

    weights = recording.operations[name, "softmax"][0][0]
    heads, mask = weights.shape[0], recording.masks[name]
    return Attention(
        query=split("q_proj"),
        key=split("k_proj"),
        value=split("v_proj"),
        scores=recording.operations[name, "mul"][0][0],
        visible=torch.ones_like(weights[0], dtype=torch.bool) if mask is None else mask[0, 0] == 0,
        weights=weights,
        heads=recording.operations[name, "matmul"][1][0],
        concatenated=recording.inputs[f"{name}.out_proj"][0],
        projected=recording.outputs[f"{name}.out_proj"][0],
    )
