"""Configuration of the Transformer of "Attention Is All You Need" (Vaswani et al., arXiv:1706.03762)."""

import math
from dataclasses import dataclass, field
from typing import Any, Self

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig

NORM_POSITIONS = ("post", "pre")
POSITION_EMBEDDINGS = ("sinusoidal", "learned", "none")
SINUSOIDAL_LAYOUTS = ("interleaved", "split", "tensor2tensor")
POOLINGS = ("mean", "first")
PROBLEM_TYPES = (None, "regression", "single_label_classification", "multi_label_classification")
# The model inside each head: what `AutoModel` makes of the head's checkpoint.
BASE_MODELS = {
    "VanillaTransformerForConditionalGeneration": "VanillaTransformerModel",
    "VanillaTransformerForCausalLM": "VanillaTransformerDecoderModel",
    "VanillaTransformerForMaskedLM": "VanillaTransformerEncoderModel",
    "VanillaTransformerForSequenceClassification": "VanillaTransformerEncoderModel",
    "VanillaTransformerForTokenClassification": "VanillaTransformerEncoderModel",
}


@dataclass(frozen=True)
class Preset:
    """A row of the paper's Table 3 (or a model of its section 6.1).

    Attributes:
        fields: what the row changes in `VanillaTransformerConfig`, whose defaults are the base model.
        label_smoothing: epsilon_ls of the row, used in training (section 5.4).
        train_steps: number of updates the paper trains the row for.
        paper_parameters: the count that Table 3 prints, in millions; `None` where the cell is empty.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    label_smoothing: float = 0.1
    train_steps: int = 100_000
    paper_parameters: int | None = None


def _both(**fields: Any) -> dict[str, Any]:
    """Sets `layers`, `attention_heads` and `ffn_dim` in both stacks alike, other fields as they are."""
    stacked = ("layers", "attention_heads", "ffn_dim")
    return {
        name: value
        for key, value in fields.items()
        for name in ((f"encoder_{key}", f"decoder_{key}") if key in stacked else (key,))
    }


PRESETS: dict[str, Preset] = {
    "base": Preset(paper_parameters=65),
    "A1": Preset(_both(attention_heads=1, head_dim=512, value_head_dim=512)),
    "A2": Preset(_both(attention_heads=4, head_dim=128, value_head_dim=128)),
    "A3": Preset(_both(attention_heads=16, head_dim=32, value_head_dim=32)),
    "A4": Preset(_both(attention_heads=32, head_dim=16, value_head_dim=16)),
    "B1": Preset({"head_dim": 16}, paper_parameters=58),
    "B2": Preset({"head_dim": 32}, paper_parameters=60),
    "C1": Preset(_both(layers=2), paper_parameters=36),
    "C2": Preset(_both(layers=4), paper_parameters=50),
    "C3": Preset(_both(layers=8), paper_parameters=80),
    "C4": Preset({"d_model": 256, "head_dim": 32, "value_head_dim": 32}, paper_parameters=28),
    "C5": Preset({"d_model": 1024, "head_dim": 128, "value_head_dim": 128}, paper_parameters=168),
    "C6": Preset(_both(ffn_dim=1024), paper_parameters=53),
    "C7": Preset(_both(ffn_dim=4096), paper_parameters=90),
    "D1": Preset({"dropout": 0.0}),
    "D2": Preset({"dropout": 0.2}),
    "D3": Preset(label_smoothing=0.0),
    "D4": Preset(label_smoothing=0.2),
    "E": Preset({"position_embedding": "learned"}),
    "big": Preset(
        _both(d_model=1024, ffn_dim=4096, attention_heads=16, dropout=0.3),
        train_steps=300_000,
        paper_parameters=213,
    ),
    "big_en_fr": Preset(
        _both(d_model=1024, ffn_dim=4096, attention_heads=16, dropout=0.1), train_steps=300_000
    ),
}


@strict
class VanillaTransformerConfig(PreTrainedConfig):
    r"""Every choice of the model; the defaults are the paper's base model (Table 3) at 37,000 pieces.

    Field names follow BART and Marian in transformers. Sizes are counts, `dropout` and its siblings are
    probabilities.

    Args:
        vocab_size (`int`, defaults to 37000): pieces of the vocabulary, of the source's where there are two.
        decoder_vocab_size (`int`, *optional*, defaults to `vocab_size`): pieces of the target's vocabulary;
            it may differ only when `share_encoder_decoder_embeddings` is `False`, and follows `vocab_size`
            otherwise.
        d_model (`int`, defaults to 512): width of the embeddings and of every sub-layer's output.
        encoder_layers, decoder_layers (`int`, defaults to 6): N, the number of layers of each stack.
        encoder_attention_heads, decoder_attention_heads (`int`, defaults to 8): h of section 3.2.2.
        encoder_ffn_dim, decoder_ffn_dim (`int`, defaults to 2048): d_ff of section 3.3.
        head_dim (`int`, *optional*, defaults to `d_model / heads`): d_k, width of a head's queries and keys.
        value_head_dim (`int`, *optional*, defaults to `d_model / heads`): d_v, width of one head's values.
        dropout (`float`, defaults to 0.1): residual dropout, and dropout of the embedding sum (section 5.4).
        attention_dropout, activation_dropout (`float`, defaults to 0): on the attention weights and after the
            activation; the paper uses neither.
        activation_function (`str`, defaults to `"relu"`): any key of transformers' `ACT2FN`.
        norm_position (`str`, defaults to `"post"`): `"post"`, LayerNorm(x + Sublayer(x)) as in section 3.1,
            or `"pre"`, x + Sublayer(LayerNorm(x)) with a final norm on each stack.
        final_norm (`bool`, *optional*, defaults to `norm_position == "pre"`): a norm after the last layer of
            each stack; `torch.nn.Transformer` has one in post-norm too.
        position_embedding (`str`, defaults to `"sinusoidal"`): `"sinusoidal"` (section 3.5), `"learned"`
            (Table 3, row E) or `"none"`.
        sinusoidal_layout (`str`, defaults to `"interleaved"`): `"interleaved"` sin/cos as in section 3.5,
            `"split"` (all sines, then all cosines, as Marian) or `"tensor2tensor"` (split, with the
            frequencies of that library, which divide by d/2 - 1).
        sinusoidal_offset (`int`, defaults to 0): number of the first position; fairseq begins at 2.
        max_position_embeddings (`int`, defaults to 1024): rows of the learned table; sinusoids have no limit.
        attention_bias (`bool`, defaults to `False`): biases in the four projections of an attention.
        layer_norm_eps (`float`, defaults to 1e-5): added to the variance in every LayerNorm.
        scale_embedding (`bool`, defaults to `True`): multiply embeddings by sqrt(d_model) (section 3.4).
        share_encoder_decoder_embeddings (`bool`, defaults to `True`): one matrix for source and target.
        tie_word_embeddings (`bool`, defaults to `True`): the pre-softmax projection is the target's matrix.
        lm_head_bias (`bool`, defaults to `False`): a bias in the pre-softmax projection, as Marian's
            `final_logits_bias`.
        pooling (`str`, defaults to `"mean"`): what a classifier of sequences reads of the encoder's output at
            the real tokens: their `"mean"`, or the `"first"`.
        use_cache (`bool`, defaults to `True`): decoding keeps the keys and values it has computed.
        is_encoder_decoder, is_decoder (`bool`, default to `True` and `False`): set by each model class in the
            configuration that it saves. Where both stacks are not there, see `fields_of_one_stack`.
        pad_token_id, bos_token_id, eos_token_id, decoder_start_token_id (`int`, default to 0, 1, 2, 1):
            the special tokens.

    Raises:
        ValueError: a value is impossible, alone or beside another; the message names the field.

    Example:

    ```python
    >>> from vanilla_transformer import VanillaTransformerConfig

    >>> VanillaTransformerConfig.from_preset("big", vocab_size=32000).num_parameters
    209051648
    ```"""

    model_type = "vanilla_transformer"
    keys_to_ignore_at_inference = ["past_key_values"]
    attribute_map = {
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    }
    base_model_tp_plan = {
        f"{stack}.layers.*.{attention}.{projection}": style
        for stack, attentions in {"encoder": ["self_attn"], "decoder": ["self_attn", "encoder_attn"]}.items()
        for attention in attentions
        for projection, style in {
            "q_proj": "colwise",
            "k_proj": "colwise",
            "v_proj": "colwise",
            "out_proj": "rowwise",
        }.items()
    } | {
        f"{stack}.{module}": style
        for stack in ("encoder", "decoder")
        for module, style in {
            "embed_tokens": "embedding_rowwise",
            "layers.*.fc1": "colwise",
            "layers.*.fc2": "rowwise",
        }.items()
    }
    base_model_tp_plan["shared"] = "embedding_rowwise"

    vocab_size: int = 37000
    decoder_vocab_size: int | None = None
    d_model: int = 512
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_attention_heads: int = 8
    decoder_attention_heads: int = 8
    encoder_ffn_dim: int = 2048
    decoder_ffn_dim: int = 2048
    head_dim: int | None = None
    value_head_dim: int | None = None
    dropout: float | int = 0.1
    attention_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    activation_function: str = "relu"
    norm_position: str = "post"
    final_norm: bool | None = None
    position_embedding: str = "sinusoidal"
    sinusoidal_layout: str = "interleaved"
    sinusoidal_offset: int = 0
    max_position_embeddings: int = 1024
    attention_bias: bool = False
    layer_norm_eps: float = 1e-5
    scale_embedding: bool = True
    share_encoder_decoder_embeddings: bool = True
    tie_word_embeddings: bool = True
    lm_head_bias: bool = False
    pooling: str = "mean"
    is_encoder_decoder: bool = True
    is_decoder: bool = False
    use_cache: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 1

    def __post_init__(self, **kwargs: Any) -> None:
        for alias in self.attribute_map.keys() & kwargs.keys():
            setattr(self, alias, kwargs.pop(alias))  # before it is checked
        if self.decoder_vocab_size is None:
            self.decoder_vocab_size = self.vocab_size
        self._check()
        if not self.is_encoder_decoder:
            for name, value in self.fields_of_one_stack(self.is_decoder).items():
                setattr(self, name, value)
        super().__post_init__(**kwargs)
        self.architectures = self._with_base_models(self.architectures or [])

    def __setattr__(self, key: str, value: Any) -> None:
        super().__setattr__(key, value)
        # One matrix for both sides, or of one stack, has one size, also when a checkpoint's is replaced.
        shared = self.__dict__.get("share_encoder_decoder_embeddings")
        if key == "vocab_size" and (shared or self.__dict__.get("is_encoder_decoder") is False):
            super().__setattr__("decoder_vocab_size", value)
        # Under transformers' names, a size of a lone decoder is that of both stacks, see below.
        lone_decoder = self.__dict__.get("is_decoder") and not self.__dict__.get("is_encoder_decoder", True)
        if lone_decoder and (name := self.attribute_map.get(key, "")).startswith("encoder_"):
            super().__setattr__(name.replace("encoder_", "decoder_"), value)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """See `PreTrainedConfig.from_dict`.

        Raises:
            ValueError: a value of the dictionary, or one that replaces it, is impossible.
        """
        config = super().from_dict(config_dict, **kwargs)
        (config[0] if isinstance(config, tuple) else config)._check()
        return config

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> Self:
        """The configuration of a named model of the paper.

        Args:
            name: `"base"`, `"big"`, `"big_en_fr"` (big with the dropout of section 6.1), or a row of Table 3:
                `"A1"`..`"A4"` (heads), `"B1"`, `"B2"` (d_k), `"C1"`..`"C7"` (size), `"D1"`..`"D4"` (dropout
                and label smoothing), `"E"` (learned positions).
            overrides: fields to set besides, `vocab_size` for instance.

        Raises:
            ValueError: there is no such preset, or the fields do not fit together.
        """
        if name not in PRESETS:
            raise ValueError(f"`preset` must be one of {', '.join(PRESETS)}, but is {name!r} instead.")
        return cls(**{**PRESETS[name].fields, **overrides})

    def fields_of_one_stack(self, is_decoder: bool) -> dict[str, Any]:
        """What this configuration says where the encoder, or the decoder, stands alone.

        There is one vocabulary, the head's widths are set, and a decoder's sizes are the encoder's too, for
        transformers takes `num_hidden_layers` and `num_attention_heads`, the shape of a cache, from these.
        """
        vocab_size = self.decoder_vocab_size if is_decoder else self.vocab_size
        head_dim, value_head_dim = self.decoder_head_dims if is_decoder else self.encoder_head_dims
        fields = {
            "is_encoder_decoder": False,
            "is_decoder": is_decoder,
            "vocab_size": vocab_size,
            "decoder_vocab_size": vocab_size,
            "head_dim": head_dim,
            "value_head_dim": value_head_dim,
        }
        if is_decoder:
            sizes = ("layers", "attention_heads", "ffn_dim")
            fields |= {f"encoder_{size}": getattr(self, f"decoder_{size}") for size in sizes}
        return fields

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """See `PreTrainedConfig`; the view of one stack of an encoder-decoder tells its `head_dim` too."""
        view = super().get_text_config(decoder=decoder, encoder=encoder)
        if view is not self:
            dims = self.decoder_head_dims if decoder else self.encoder_head_dims
            view.head_dim, view.value_head_dim = dims
        return view

    @property
    def encoder_head_dims(self) -> tuple[int, int]:
        """(d_k, d_v) of the encoder's attentions."""
        return self._head_dims(self.encoder_attention_heads)

    @property
    def decoder_head_dims(self) -> tuple[int, int]:
        """(d_k, d_v) of the decoder's attentions, to the encoder's output too."""
        return self._head_dims(self.decoder_attention_heads)

    @property
    def has_final_norm(self) -> bool:
        """Whether each stack ends in a norm of its own."""
        return self.norm_position == "pre" if self.final_norm is None else self.final_norm

    @property
    def num_parameters(self) -> int:
        """Number of parameters of `VanillaTransformerForConditionalGeneration`, by the closed formula."""
        d, norm = self.d_model, 2 * self.d_model
        encoder_layer = self._attention_parameters("encoder") + self._ffn_parameters("encoder") + 2 * norm
        decoder_layer = 2 * self._attention_parameters("decoder") + self._ffn_parameters("decoder") + 3 * norm
        stacks = self.encoder_layers * encoder_layer + self.decoder_layers * decoder_layer
        final_norms = 2 * norm if self.has_final_norm else 0
        positions = 2 * self.max_position_embeddings * d if self.position_embedding == "learned" else 0
        return stacks + final_norms + positions + self._embedding_parameters()

    def _with_base_models(self, architectures: list[str]) -> list[str]:
        """Model classes that the weights fit: those given, and the base model by which `AutoModel` goes."""
        if not architectures:
            half = "VanillaTransformerDecoderModel" if self.is_decoder else "VanillaTransformerEncoderModel"
            return ["VanillaTransformerModel" if self.is_encoder_decoder else half]
        bases = [BASE_MODELS[name] for name in architectures if name in BASE_MODELS]
        return list(dict.fromkeys([*architectures, *bases]))

    def _head_dims(self, heads: int) -> tuple[int, int]:
        return self.head_dim or self.d_model // heads, self.value_head_dim or self.d_model // heads

    def _attention_parameters(self, stack: str) -> int:
        heads = getattr(self, f"{stack}_attention_heads")
        key, value = self._head_dims(heads)
        weights = 2 * self.d_model * heads * (key + value)
        biases = heads * (2 * key + value) + self.d_model
        return weights + (biases if self.attention_bias else 0)

    def _ffn_parameters(self, stack: str) -> int:
        ffn_dim = getattr(self, f"{stack}_ffn_dim")
        return 2 * self.d_model * ffn_dim + ffn_dim + self.d_model

    def _embedding_parameters(self) -> int:
        target = self.decoder_vocab_size or self.vocab_size
        source = 0 if self.share_encoder_decoder_embeddings else self.vocab_size
        projection = 0 if self.tie_word_embeddings else target
        bias = target if self.lm_head_bias else 0
        return (source + target + projection) * self.d_model + bias

    def _check(self) -> None:
        self._check_sizes()
        self._check_probabilities()
        self._check_choices()
        self._check_together()

    def _check_sizes(self) -> None:
        for name in (
            "vocab_size",
            "decoder_vocab_size",
            "d_model",
            "encoder_attention_heads",
            "decoder_attention_heads",
            "encoder_ffn_dim",
            "decoder_ffn_dim",
            "head_dim",
            "value_head_dim",
            "max_position_embeddings",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be positive, but is {value} instead.")
        for name in ("encoder_layers", "decoder_layers", "sinusoidal_offset"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, but is {getattr(self, name)} instead.")
        if not 0 < self.layer_norm_eps < math.inf:
            raise ValueError(
                f"`layer_norm_eps` must be positive and finite, but is {self.layer_norm_eps} instead."
            )
        for name in ("pad_token_id", "bos_token_id", "decoder_start_token_id"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"`{name}` must not be negative, but is {value} instead: None is none.")

    def _check_probabilities(self) -> None:
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1, but is {value} instead.")

    def _check_choices(self) -> None:
        for name, choices in {
            "norm_position": NORM_POSITIONS,
            "position_embedding": POSITION_EMBEDDINGS,
            "sinusoidal_layout": SINUSOIDAL_LAYOUTS,
            "pooling": POOLINGS,
            "problem_type": PROBLEM_TYPES,
        }.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(map(str, choices))}, but is"
                    f" {getattr(self, name)!r} instead."
                )
        if self.activation_function not in ACT2FN:
            raise ValueError(
                "`activation_function` must be a key of transformers' `ACT2FN`,"
                f" but is {self.activation_function!r} instead."
            )

    def _check_together(self) -> None:
        for name in ("encoder_attention_heads", "decoder_attention_heads"):
            heads = getattr(self, name)
            if (self.head_dim is None or self.value_head_dim is None) and self.d_model % heads:
                raise ValueError(
                    f"`d_model` must be divisible by `{name}` unless `head_dim` and `value_head_dim` are set,"
                    f" but {self.d_model} is not divisible by {heads}."
                )
        if self.position_embedding == "sinusoidal" and self.d_model % 2:
            raise ValueError(
                f"`d_model` must be even for sinusoidal positions, but is {self.d_model} instead."
            )
        if self.sinusoidal_layout == "tensor2tensor" and self.d_model < 4:
            raise ValueError(
                f"`d_model` must be at least 4 for the tensor2tensor layout, but is {self.d_model} instead."
            )
        if self.share_encoder_decoder_embeddings and self.decoder_vocab_size != self.vocab_size:
            raise ValueError(
                "`decoder_vocab_size` must equal `vocab_size` when `share_encoder_decoder_embeddings` is set,"
                f" but {self.decoder_vocab_size} is not {self.vocab_size}."
            )
        for name in ("vocab_size", "decoder_vocab_size"):
            size = getattr(self, name)
            if size is not None and self.pad_token_id is not None and self.pad_token_id >= size:
                raise ValueError(
                    f"`pad_token_id` must be below `{name}`, but {self.pad_token_id} is not below {size}."
                )
        start, size = self.decoder_start_token_id, self.decoder_vocab_size
        # One stack alone is never given it.
        if self.is_encoder_decoder and start is not None and size is not None and start >= size:
            raise ValueError(
                "`decoder_start_token_id` must be below `decoder_vocab_size`, but"
                f" {start} is not below {size}."
            )


__all__ = ["PRESETS", "Preset", "VanillaTransformerConfig"]
