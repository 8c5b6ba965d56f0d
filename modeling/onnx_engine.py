"""Models exported to ONNX, run by onnxruntime.

Shapes in trailing comments: N batch, S new target tokens, P target tokens in the cache, T source length, L
decoder layers, H its heads, K width of a head's queries and keys, V width of its values.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from ..errors import InputError, first_line, import_extra
from .engines import EngineModel

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
# Inputs and outputs with their free dimensions.
ENCODER_INPUTS = {"input_ids": {0: "N", 1: "T"}, "attention_mask": {0: "N", 1: "T"}}
ENCODER_OUTPUTS = {
    "last_hidden_state": {0: "N", 1: "T"},
    "source_keys": {0: "N", 2: "T"},
    "source_values": {0: "N", 2: "T"},
}
DECODER_INPUTS = {
    "input_ids": {0: "N", 1: "S"},
    "attention_mask": {0: "N", 1: "T"},
    "source_keys": {0: "N", 2: "T"},
    "source_values": {0: "N", 2: "T"},
    "past_keys": {0: "N", 2: "P"},
    "past_values": {0: "N", 2: "P"},
}
# Graphs take these as int64, whatever kind of numbers they are elsewhere.
WHOLE_NUMBERS = ("input_ids", "attention_mask")
DECODER_OUTPUTS = {"logits": {0: "N", 1: "S"}, "keys": {0: "N", 2: "S"}, "values": {0: "N", 2: "S"}}


@dataclass
class OnnxEncoderOutput(BaseModelOutput):
    """What the encoder gives: its output, and what every layer of the decoder makes of it.

    Attributes:
        source_keys, source_values: (N, L * H, T, K) and (N, L * H, T, V).
    """

    source_keys: torch.Tensor | None = None
    source_values: torch.Tensor | None = None


class OnnxEncoder(nn.Module):
    """The encoder's session as a module."""

    main_input_name = "input_ids"

    def __init__(self, session: Any):
        super().__init__()
        self.session = session

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> OnnxEncoderOutput:
        """Encodes (N, T) tokens; `attention_mask` is 1 at real ones."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        found = run_session(self.session, ENCODER_OUTPUTS, input_ids=input_ids, attention_mask=mask)
        outputs: dict[str, Any] = dict(zip(ENCODER_OUTPUTS, found, strict=True))
        return OnnxEncoderOutput(**outputs)


class OnnxModel(EngineModel):
    """A model exported to ONNX: transformers' `generate()`, with our own rules, calls its two graphs.

    The keys and values of all layers lie in one tensor, which takes the place of one layer in a cache of
    transformers.
    """

    engine_name = "ONNX"
    files = (ENCODER, DECODER, "config.json")

    def open(self) -> None:
        """Loads both graphs."""
        if self.place.type != "cpu":
            raise InputError(f"`device` must be cpu for ONNX, but is {self.place.type!r} instead.")
        library = import_extra("onnxruntime", "onnx")
        options = library.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4
        sessions = []
        for name, inputs in ((ENCODER, ENCODER_INPUTS), (DECODER, DECODER_INPUTS)):
            path = self.folder / name
            try:
                session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            except Exception as error:  # onnxruntime's own errors have no common kind
                raise InputError(f"`{path}` cannot be loaded by onnxruntime: {first_line(error)}") from None
            if {one.name for one in session.get_inputs()} != inputs.keys():
                raise InputError(f"`{path}` must take {', '.join(inputs)}, but does not.")
            sessions.append(session)
        self.encoder = OnnxEncoder(sessions[0])
        self.decoder_session = sessions[1]

    def get_encoder(self, *args: Any, **kwargs: Any) -> nn.Module:
        """What `generate()` calls once."""
        return self.encoder

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        encoder_outputs: OnnxEncoderOutput | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Predicts the target's next tokens.

        Args:
            input_ids: (N, T) source tokens, unless `encoder_outputs` are given.
            attention_mask: (N, T), 1 at the source's real tokens.
            decoder_input_ids: (N, S) target tokens behind those in `past_key_values`.
            past_key_values: an `EncoderDecoderCache`, extended in place; without one nothing is kept.
            kwargs: what else `generate()` passes on to every model.

        Raises:
            ValueError: there is nothing to translate, or to go on from, or outputs are asked for that the
                graphs do not have.
        """
        for name in ("output_attentions", "output_hidden_states"):
            if kwargs.get(name):
                raise ValueError(f"`{name}` is not available with ONNX.")
        if encoder_outputs is None:
            if input_ids is None:
                raise ValueError("`input_ids` or `encoder_outputs` must be given, but neither is.")
            encoder_outputs = self.encoder(input_ids, attention_mask)
        if decoder_input_ids is None:
            raise ValueError("`decoder_input_ids` must be given, but are not.")
        encoded: Any = encoder_outputs
        if attention_mask is None:
            attention_mask = decoder_input_ids.new_ones(encoded.last_hidden_state.shape[:2])
        own: Any = None if past_key_values is None else past_key_values.self_attention_cache  # type: ignore[attr-defined]
        if own is None or not own.get_seq_length():
            past = [states[:, :, :0] for states in (encoded.source_keys, encoded.source_values)]
        else:
            filled = int(own.get_seq_length())  # a cache of fixed size has room behind it
            past = [states[:, :, :filled] for states in (own.layers[0].keys, own.layers[0].values)]
        logits, keys, values = run_session(
            self.decoder_session,
            DECODER_OUTPUTS,
            input_ids=decoder_input_ids,
            attention_mask=attention_mask,
            source_keys=encoded.source_keys,
            source_values=encoded.source_values,
            past_keys=past[0],
            past_values=past[1],
        )
        if own is not None:
            own.update(keys, values, 0)
        return Seq2SeqLMOutput(logits=logits, past_key_values=past_key_values)  # type: ignore[arg-type]


def run_session(session: Any, outputs: Iterable[str], **inputs: torch.Tensor) -> list[torch.Tensor]:
    """The outputs of a graph, in their order.

    Raises:
        InputError: the graph refuses the inputs.
    """
    arrays = {
        name: numpy.ascontiguousarray((tensor.long() if name in WHOLE_NUMBERS else tensor).numpy(force=True))
        for name, tensor in inputs.items()
    }
    try:
        found = session.run(list(outputs), arrays)
    except Exception as error:  # onnxruntime's own errors have no common kind
        raise InputError(f"onnxruntime cannot run this: {first_line(error)}") from None
    return [torch.from_numpy(array) for array in found]
