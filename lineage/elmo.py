"""ELMo: deep contextualised word representations (Peters et al., 2018, arXiv:1802.05365)."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from ..modeling.loss_vanilla_transformer import IGNORED, cross_entropy_loss
from .config import LineageConfig, LineagePreTrainedModel

CHARACTER_DIM = 16
CONVOLUTION_WIDTHS = (1, 2, 3)
HIGHWAY_LAYERS = 2
# As many characters of a word are read as in the paper.
MOST_CHARACTERS = 50


def characters_of(pieces: Sequence[str], symbols: Collection[str] = ()) -> torch.Tensor:
    """(V, characters of the longest piece): how each is spelled, numbered from 1; 0 pads.

    Args:
        pieces: the vocabulary.
        symbols: those pieces that are a character of their own, such as the end token and bytes.
    """
    spelled = [[piece] if piece in symbols else list(piece)[:MOST_CHARACTERS] for piece in pieces]
    numbers = {char: k for k, char in enumerate(sorted({char for one in spelled for char in one}), start=1)}
    table = torch.zeros(len(pieces), max(map(len, spelled)), dtype=torch.long)
    for row, characters in zip(table, spelled, strict=True):
        row[: len(characters)] = torch.tensor([numbers[char] for char in characters])
    return table


class Highway(nn.Module):
    """t * relu(W x) + (1 - t) * x, t = sigmoid(W_t x) (Srivastava et al., 2015, arXiv:1505.00387, (3))."""

    def __init__(self, width: int):
        super().__init__()
        self.transform = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, -2.0)  # at first nearly everything is carried (section 2.2 there)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., E) -> (..., E)."""
        gate = self.gate(states).sigmoid()
        return gate * self.transform(states).relu() + (1 - gate) * states


class CharacterEncoder(nn.Module):
    """Words from their characters (section 3.4).

    Convolutions of several widths, the maximum over places, highway layers, a projection.
    """

    characters: torch.Tensor

    def __init__(self, config: LineageConfig):
        super().__init__()
        width, filters = config.embedding_dim, max(1, config.embedding_dim // 2)
        spelling = torch.zeros(config.vocab_size, config.longest_piece, dtype=torch.long)
        self.register_buffer("characters", spelling)
        self.embed = nn.Embedding(config.num_characters, CHARACTER_DIM, padding_idx=0)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(CHARACTER_DIM, filters, size, padding=size - 1) for size in CONVOLUTION_WIDTHS
        )
        joined = len(CONVOLUTION_WIDTHS) * filters
        self.highways = nn.Sequential(*(Highway(joined) for _ in range(HIGHWAY_LAYERS)))
        self.project = nn.Linear(joined, width)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(N, T) pieces -> (N, T, E)."""
        pieces, places = input_ids.unique(return_inverse=True)  # each piece is read once a batch
        spelled = self.embed(self.characters[pieces]).transpose(1, 2)  # (pieces, 16, characters)
        pooled = [convolution(spelled).amax(-1).relu() for convolution in self.convolutions]
        return self.project(self.highways(torch.cat(pooled, dim=-1)))[places]


class LayerMix(nn.Module):
    """gamma * sum_j s_j h_j, s = softmax(w) (equation 1): each task learns its own w and gamma.

    Args:
        layers: how many h_j there are; at the start all weigh the same, and gamma is one.
    """

    def __init__(self, layers: int):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))
        self.gamma = nn.Parameter(torch.ones(()))

    def forward(self, layers: torch.Tensor) -> torch.Tensor:
        """(layers, ..., E) -> (..., E)."""
        return self.gamma * torch.einsum("l,l...->...", self.weights.softmax(-1), layers)


class BidirectionalLanguageModel(LineagePreTrainedModel):
    """Two stacks of LSTMs over words made of characters, one reading onwards and one back.

    Training maximises log P(w_k | w_1..w_{k-1}) + log P(w_k | w_{k+1}..w_T) (section 3.1), both through one
    softmax, where there is a word to predict from: not for the first word onwards and the last one back. What
    a layer reads is added to what it says from the second one on; its states are not projected down, as the
    paper's much wider ones are (section 3.4). A task takes a `LayerMix` of the word itself (j = 0) and the
    layers. Senses of a word differ in the layers alone, so a task that needs them learns to weigh these.

    The table of how the vocabulary is spelled is saved with the weights; `of_pieces` makes a model with one.
    """

    # The loss is a mean over words of the source, and `num_items_in_batch` counts those of the target: so the
    # trainer divides by the passes of an update.
    accepts_loss_kwargs = False

    def __init__(self, config: LineageConfig):
        super().__init__(config)
        width = config.embedding_dim
        self.words = CharacterEncoder(config)
        self.dropout = nn.Dropout(config.dropout)
        self.onward = nn.ModuleList(nn.LSTM(width, width, batch_first=True) for _ in range(config.num_layers))
        self.back = nn.ModuleList(nn.LSTM(width, width, batch_first=True) for _ in range(config.num_layers))
        self.output = nn.Linear(width, config.vocab_size)
        self.post_init()

    @classmethod
    def of_pieces(cls, config: LineageConfig, characters: torch.Tensor) -> "BidirectionalLanguageModel":
        """A new model of pieces that are spelled as `characters` (V, characters) of `characters_of` says."""
        config.num_characters, config.longest_piece = int(characters.max()) + 1, characters.shape[1]
        model = cls(config)
        model.words.characters.copy_(characters)
        return model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        **kwargs: Any,
    ) -> CausalLMOutput:
        """The loss of both directions, in nats per predicted word; only the source (N, T) is read."""
        layers = self.layers(input_ids, attention_mask)
        onward, back = layers[-1].chunk(2, dim=-1)
        targets = input_ids.masked_fill(attention_mask == 0, IGNORED)
        logits = self.output(torch.cat((onward[:, :-1], back[:, 1:])))  # (2 N, T - 1, V)
        labels = torch.cat((targets[:, 1:], targets[:, :-1].masked_fill(targets[:, 1:] == IGNORED, IGNORED)))
        return CausalLMOutput(loss=cross_entropy_loss(logits, labels), logits=logits)

    def layers(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[torch.Tensor]:
        """h_0 (the word twice) and h_1.. (onward and back side by side), each (N, T, 2 E)."""
        lengths = attention_mask.sum(-1)
        words = self.dropout(self.words(input_ids))
        onward, back = words, reverse(words, lengths)
        layers = [torch.cat((words, words), dim=-1)]
        for number, (forwards, backwards) in enumerate(zip(self.onward, self.back, strict=True)):
            said_onward, said_back = forwards(onward)[0], backwards(back)[0]
            onward = onward + said_onward if number else said_onward
            back = back + said_back if number else said_back
            layers.append(torch.cat((onward, reverse(back, lengths)), dim=-1))
        return layers


def reverse(states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Turn the first `lengths` places of each row of (N, T, E) round; padding stays at the end."""
    places = torch.arange(states.shape[1], device=states.device)
    turned = lengths[:, None] - 1 - places  # (N, T)
    order = torch.where(turned >= 0, turned, places)
    return states.gather(1, order[..., None].expand_as(states))
