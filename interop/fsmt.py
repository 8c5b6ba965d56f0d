"""FSMT of transformers, fairseq's WMT19 models: in."""

import tempfile
from pathlib import Path

from transformers import FSMTForConditionalGeneration, FSMTTokenizer, PreTrainedModel

from ..modeling import VanillaTransformerForConditionalGeneration
from ..tokenization import FsmtTokenizer
from .weights import (
    SAME_FIELDS,
    build_model,
    copy_generation_config,
    load_foreign_model,
    make_config,
    sharing_of,
    warn_of_layerdrop,
)

COMPUTED = ("embed_positions",)


def load_fsmt(name: str | Path) -> VanillaTransformerForConditionalGeneration:
    """Our model out of an FSMT checkpoint, a folder or a Hub name.

    Raises:
        InputError: it cannot be loaded or is of another architecture.
    """
    return from_fsmt(load_foreign_model(FSMTForConditionalGeneration, name, absent=COMPUTED))


def pair_tokenizer(tokenizer: FSMTTokenizer) -> FsmtTokenizer:
    """The same tokenizer, which encodes targets by their own vocabulary, as training needs it."""
    with tempfile.TemporaryDirectory() as folder:
        files = tokenizer.save_vocabulary(folder)
        return FsmtTokenizer(
            [tokenizer.src_lang, tokenizer.tgt_lang],
            *files,
            do_lower_case=tokenizer.do_lower_case,
            model_max_length=tokenizer.model_max_length,
            padding_side=tokenizer.padding_side,
            added_tokens_decoder=tokenizer.added_tokens_decoder,
            **tokenizer.special_tokens_map,
        )


def from_fsmt(fsmt: PreTrainedModel) -> VanillaTransformerForConditionalGeneration:
    """Our model with the weights and the generation config of an `FSMTForConditionalGeneration`.

    Its sinusoids are tensor2tensor's and begin at `pad_token_id + 1`. Matrices that hold the same numbers
    become one: FSMT stores the shared ones of fairseq separately. LayerDrop is not taken over. A pad token
    amid a translation, which no trained model predicts, has a position here and none in FSMT.
    """
    config = fsmt.config
    warn_of_layerdrop(config)
    weights = {
        name.replace("model.decoder.output_projection.", "lm_head."): tensor
        for name, tensor in fsmt.state_dict().items()
        if "embed_positions" not in name
    }
    fields = {name: getattr(config, name) for name in SAME_FIELDS} | sharing_of(weights)
    ours = make_config(
        **fields,
        vocab_size=config.src_vocab_size,
        decoder_vocab_size=config.tgt_vocab_size,
        attention_bias=True,
        sinusoidal_layout="tensor2tensor",
        sinusoidal_offset=config.pad_token_id + 1,
    )
    generation_config = copy_generation_config(fsmt)
    return build_model(ours, weights, generation_config)
