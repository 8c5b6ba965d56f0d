"""Stands in for what transformers' tests set in every configuration: a value other than the default."""

from typing import Any

config_common_kwargs: dict[str, Any] = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 2,
    "is_encoder_decoder": False,
    "architectures": ["SomeModel"],
    "id2label": {0: "no", 1: "yes", 2: "perhaps"},
    "label2id": {"no": 0, "yes": 1, "perhaps": 2},
    "problem_type": "regression",
}
