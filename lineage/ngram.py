"""n-gram language models with add-one smoothing (Shannon, 1948; Laplace's rule of succession)."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence


class NgramLanguageModel:
    """P(w | h) = (count(h w) + 1) / (count(h) + V), where h are the n - 1 words before w.

    Args:
        order: n; 1 looks at no word before, 2 at one, 3 at two.
        vocab_size: V, the number of words that may follow.
        bos_token_id: what stands before the first word of a sentence.

    Raises:
        ValueError: a size that is not positive.
    """

    def __init__(self, order: int, vocab_size: int, bos_token_id: int = 1):
        for name, size in (("order", order), ("vocab_size", vocab_size)):
            if size < 1:
                raise ValueError(f"`{name}` must be positive, but is {size} instead.")
        self.order = order
        self.vocab_size = vocab_size
        self.bos_token_id = bos_token_id
        self.ngrams: Counter[tuple[int, ...]] = Counter()
        self.histories: Counter[tuple[int, ...]] = Counter()

    @property
    def num_parameters(self) -> int:
        """Number of counts that are kept."""
        return len(self.ngrams) + len(self.histories)

    def fit(self, sentences: Iterable[Sequence[int]]) -> "NgramLanguageModel":
        """Count the n-grams of sentences of token ids that end in the end token."""
        for history, word in self._events(sentences):
            self.ngrams[(*history, word)] += 1
            self.histories[history] += 1
        return self

    def probability(self, word: int, history: Sequence[int] = ()) -> float:
        """P(word | history), from the beginning of a sentence; the last n - 1 words count."""
        padded = (*[self.bos_token_id] * (self.order - 1), *history)
        seen = padded[len(padded) - self.order + 1 :]
        return (self.ngrams[(*seen, word)] + 1) / (self.histories[seen] + self.vocab_size)

    def perplexity(self, sentences: Iterable[Sequence[int]]) -> float:
        """exp of the mean negative log-probability of a word, end tokens counted."""
        logs = [math.log(self.probability(word, history)) for history, word in self._events(sentences)]
        return math.exp(-sum(logs) / len(logs))

    def _events(self, sentences: Iterable[Sequence[int]]) -> Iterator[tuple[tuple[int, ...], int]]:
        """(history of n - 1 words, word) of every word."""
        for sentence in sentences:
            padded = [self.bos_token_id] * (self.order - 1) + list(sentence)
            for end in range(self.order - 1, len(padded)):
                yield tuple(padded[end - self.order + 1 : end]), padded[end]
