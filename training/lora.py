"""LoRA adapters through PEFT: what its own tables would say of our model type, if they knew it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

# W_q and W_v of every attention: the choice of the LoRA paper (Hu et al., 2021, section 7.1), and PEFT's for
# BART.
LORA_TARGET_MODULES = ("q_proj", "v_proj")
_TASK_TYPES = {
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "ForCausalLM": "CAUSAL_LM",
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "EncoderModel": "FEATURE_EXTRACTION",
}


def lora_config(model: PreTrainedModel, **changes: Any) -> LoraConfig:
    """PEFT's `LoraConfig` for a model of the family: `get_peft_model(model, lora_config(model, r=8))`.

    The task type follows from the model's class (none for a masked language model, which PEFT has no type
    for); with that of a classifier, PEFT trains and saves the new head as well. Adapters of `embed_tokens` or
    `lm_head` need a model whose embeddings are not tied: merged, they would change the matrix everywhere.

    Args:
        model: the model that the adapters are for.
        changes: fields of `LoraConfig`, such as `r`, `lora_alpha`, `lora_dropout`, or `target_modules`, by
            default `LORA_TARGET_MODULES`.

    Raises:
        ImportError: PEFT is not installed (`pip install '.[peft]'` in a clone).
    """
    from peft import LoraConfig

    name = type(model).__name__
    task = next((task for suffix, task in _TASK_TYPES.items() if name.endswith(suffix)), None)
    return LoraConfig(**{"task_type": task, "target_modules": list(LORA_TARGET_MODULES), **changes})
