"""Recurrent encoder-decoders: Cho et al. (2014), Sutskever et al. (2014), and Bahdanau et al. (2015)."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import GenerationConfig
from transformers.modeling_outputs import Seq2SeqLMOutput

from ..modeling.loss_vanilla_transformer import cross_entropy_loss
from .config import LineageConfig, LineagePreTrainedModel

State = tuple[torch.Tensor, ...]


class AdditiveAttention(nn.Module):
    """e_j = v . tanh(W s + U h_j), a = softmax(e), c = sum_j a_j h_j (Bahdanau et al., section 3.1)."""

    def __init__(self, query_dim: int, key_dim: int, hidden_dim: int):
        super().__init__()
        self.query = nn.Linear(query_dim, hidden_dim)
        self.key = nn.Linear(key_dim, hidden_dim, bias=False)
        self.score = nn.Linear(hidden_dim, 1, bias=False)

    def forward(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attends from a state (N, Q) to annotations.

        Args:
            keys: (N, T, hidden), `self.key(values)`, which stays the same for all steps.
            values: (N, T, K).
            mask: (N, T), true at real tokens.

        Returns:
            The context (N, K) and the weights (N, T).
        """
        scores = self.score(torch.tanh(self.query(query)[:, None] + keys)).squeeze(-1)  # (N, T)
        weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
        return torch.bmm(weights[:, None], values).squeeze(1), weights


class RecurrentTranslator(LineagePreTrainedModel):
    """A bidirectional encoder and a decoder that sees its summary, or attends to it anew for each word.

    The context c goes into every step beside the word before it, and into the output: s_i = f(s_{i-1},
    [y_{i-1}; c_i]), P = softmax(W [s_i; c_i]). Without attention, c is the encoder's last state, as in
    Cho et al. With LSTM cells that stays so: Sutskever et al. instead give the decoder hidden state and
    memory of a one-way encoder, which reads the source backwards, and show it no context.

    It departs from the papers in these: the decoder's first state is made of both directions, the output sees
    no y_{i-1} and has no maxout, the encoder without attention reads both ways, too, and PyTorch's GRU resets
    the product with the state rather than the state.
    """

    def __init__(self, config: LineageConfig):
        super().__init__(config)
        layer, cell = {"gru": (nn.GRU, nn.GRUCell), "lstm": (nn.LSTM, nn.LSTMCell)}[config.cell]
        hidden, context = config.hidden_dim, 2 * config.hidden_dim
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = layer(config.embedding_dim, hidden, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(context, hidden)
        self.cell = cell(config.embedding_dim + context, hidden)
        self.attention = AdditiveAttention(hidden, context, hidden) if config.attention else None
        self.output = nn.Linear(hidden + context, config.vocab_size)
        self.generation_config = GenerationConfig()
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        decoder_input_ids: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Predicts each word of the target (N, S) from the source (N, T) and the words before it."""
        memory = self._encode(input_ids, attention_mask)
        state = self._first_state(memory)
        steps = []
        for word in self.dropout(self.embed_tokens(decoder_input_ids)).unbind(1):
            state, features = self._step(word, state, memory)
            steps.append(features)
        logits = self.output(torch.stack(steps, dim=1))  # (N, S, hidden + context) -> (N, S, V)
        loss = None if labels is None else cross_entropy_loss(logits, labels, num_items_in_batch)
        return Seq2SeqLMOutput(loss=loss, logits=logits)

    @torch.no_grad()
    def generate(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, max_length: int = 64, **kwargs: Any
    ) -> torch.Tensor:
        """The likeliest word at each step, until the end token: (N, up to `max_length`) token ids."""
        memory = self._encode(input_ids, attention_mask)
        state = self._first_state(memory)
        words = [input_ids.new_full((len(input_ids),), self.config.bos_token_id or 0)]
        ended = torch.zeros_like(words[0], dtype=torch.bool)
        while len(words) < max_length and not ended.all():
            state, features = self._step(self.embed_tokens(words[-1]), state, memory)
            best = self.output(features).argmax(-1).masked_fill(ended, self.config.pad_token_id or 0)
            ended |= best == self.config.eos_token_id
            words.append(best)
        return torch.stack(words, dim=1)

    def _encode(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Annotations of the source (N, T, 2 hidden), their keys and mask, and the summary (N, 2 hidden)."""
        packed = pack_padded_sequence(
            self.dropout(self.embed_tokens(input_ids)),
            attention_mask.sum(-1).cpu(),
            batch_first=True,
            enforce_sorted=False,
        )
        states, last = self.encoder(packed)
        values, _ = pad_packed_sequence(states, batch_first=True, total_length=input_ids.shape[1])
        last = last[0] if isinstance(last, tuple) else last  # of an LSTM the hidden state, not the memory
        memory = {"values": values, "mask": attention_mask.bool(), "summary": torch.cat(tuple(last), dim=-1)}
        if self.attention is not None:
            memory["keys"] = self.attention.key(values)
        return memory

    def _first_state(self, memory: dict[str, torch.Tensor]) -> State:
        hidden = torch.tanh(self.bridge(memory["summary"]))
        return (hidden,) if self.config.cell == "gru" else (hidden, torch.zeros_like(hidden))

    def _step(
        self, word: torch.Tensor, state: State, memory: dict[str, torch.Tensor]
    ) -> tuple[State, torch.Tensor]:
        """The next state, and what the output is computed from."""
        context = memory["summary"]
        if self.attention is not None:
            context, _ = self.attention(state[0], memory["keys"], memory["values"], memory["mask"])
        entered = torch.cat((word, context), dim=-1)
        state = (self.cell(entered, state[0]),) if len(state) == 1 else self.cell(entered, state)
        return state, torch.cat((state[0], context), dim=-1)
