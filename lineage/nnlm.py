"""The neural probabilistic language model (Bengio, Ducharme, Vincent and Jauvin, JMLR 2003)."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_outputs import CausalLMOutput

from ..modeling.loss_vanilla_transformer import cross_entropy_loss
from .config import LineageConfig, LineagePreTrainedModel


class NeuralLanguageModel(LineagePreTrainedModel):
    """y = b + W x + U tanh(d + H x), x the last words' vectors side by side; P = softmax(y) (equation 1)."""

    def __init__(self, config: LineageConfig):
        super().__init__(config)
        width = config.context_size * config.embedding_dim
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_dim)
        self.hidden = nn.Linear(width, config.hidden_dim)
        self.output = nn.Linear(config.hidden_dim, config.vocab_size)
        self.direct = nn.Linear(width, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        decoder_input_ids: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> CausalLMOutput:
        """Predicts each word of the target from the words before it; the source is not read.

        Args:
            decoder_input_ids: (N, S) target tokens behind the start token.
            labels: (N, S) target tokens, -100 where no loss is taken.
        """
        before = self.config.context_size - 1
        padded = F.pad(decoder_input_ids, (before, 0), value=self.config.bos_token_id or 0)
        contexts = padded.unfold(1, before + 1, 1)  # (N, S, words)
        words = self.embed_tokens(contexts).flatten(2)  # (N, S, words * E)
        logits = self.output(torch.tanh(self.hidden(words))) + self.direct(words)
        loss = None if labels is None else cross_entropy_loss(logits, labels, num_items_in_batch)
        return CausalLMOutput(loss=loss, logits=logits)
