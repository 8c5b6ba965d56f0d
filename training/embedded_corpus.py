"""The embedded Chinese-English corpus: small, made here, and strict about what is new in its test.

Training, validation and test are drawn from the grammar of `embedded_grammar`. No sentence of either language
is in two of them. The test comes in two halves:

- *seen combinations*: new sentences, but training shows each of their verbs with the same object and each of
  their classifiers with the same noun;
- *new combinations*: each sentence holds a combination that no sentence of training or validation holds. The
  seed picks some verbs with a noun (they stand in no training sentence together, in whatever role) and some
  classifiers with a noun; and some verbs of relative clauses with a question word, so that training has
  relative clauses with this verb and, of others, within such questions. Each word and each construction by
  itself is in training: the test asks whether the model puts known parts together.

`I_HAVE_A_CAT` and `I_AM_A_STUDENT` are never in training and always in the test.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import NamedTuple

from ..errors import InputError
from ..modeling.saving_vanilla_transformer import files_written_whole
from .embedded_grammar import Fact, SentencePair, sample_pair
from .embedded_lexicon import BA_VERBS, NOUNS, VERBS, Noun

__all__ = [
    "I_AM_A_STUDENT",
    "I_HAVE_A_CAT",
    "NAMED_PAIRS",
    "Combination",
    "EmbeddedCorpus",
    "KINDS",
    "build_corpus",
    "combinations_of",
    "write_corpus",
]


class Combination(NamedTuple):
    """Two things in one sentence: `kind` is "verb-noun", "classifier-noun" or "relative-question"."""

    kind: str
    first: str
    second: str


KINDS = ("relative-question", "classifier-noun", "verb-noun")
_KIND_OF = {"object": "verb-noun", "classifier": "classifier-noun"}
# Longer words before those that they contain.
QUESTION_WORDS = ("多少", "多大", "哪里", "什么", "谁", "几", "哪", "吗")

I_HAVE_A_CAT = SentencePair(
    "我有一只猫。",
    "I have a cat.",
    (Fact("verb", "有"), Fact("object", "有", "猫"), Fact("noun", "猫"), Fact("classifier", "只", "猫")),
    "action",
)
I_AM_A_STUDENT = SentencePair(
    "我是一个学生。", "I am a student.", (Fact("noun", "学生"), Fact("classifier", "个", "学生")), "job"
)
NAMED_PAIRS = (I_HAVE_A_CAT, I_AM_A_STUDENT)


@dataclass(frozen=True, slots=True)
class EmbeddedCorpus:
    """The parts of the corpus, each a tuple of sentence pairs.

    Attributes:
        train, valid: For training and for choosing a checkpoint.
        test_seen: Test sentences whose combinations occur in training; begins with `NAMED_PAIRS`.
        test_new: Test sentences that each hold at least one of `held_out`.
        held_out: The combinations that no pair of `train`, `valid` and `test_seen` holds.
    """

    train: tuple[SentencePair, ...]
    valid: tuple[SentencePair, ...]
    test_seen: tuple[SentencePair, ...]
    test_new: tuple[SentencePair, ...]
    held_out: frozenset[Combination]

    @property
    def test(self) -> tuple[SentencePair, ...]:
        """Both halves."""
        return self.test_seen + self.test_new


def combinations_of(pair: SentencePair) -> frozenset[Combination]:
    """Each verb with each noun, classifiers with nouns, verbs of relative clauses with question words."""
    verbs = [fact.word for fact in pair.facts if fact.kind == "verb"]
    nouns = [fact.word for fact in pair.facts if fact.kind == "noun"]
    loose = {Combination("verb-noun", verb, noun) for verb in verbs for noun in nouns}
    return close_combinations_of(pair) | loose


def close_combinations_of(pair: SentencePair) -> frozenset[Combination]:
    """The combinations whose parts belong together: of a verb, those with its objects."""
    found = {
        Combination(_KIND_OF[fact.kind], fact.word, fact.noun) for fact in pair.facts if fact.kind in _KIND_OF
    }
    if Fact("question") in pair.facts:
        asked = next(word for word in QUESTION_WORDS if word in pair.source)
        found |= {
            Combination("relative-question", fact.word, asked)
            for fact in pair.facts
            if fact.kind == "relative verb"
        }
    return frozenset(found)


# How many combinations of a noun are held out, of those that the grammar has.
_VERB_NOUN_PAIRS = 36
_CLASSIFIER_NOUN_PAIRS = 12


def choose_held_out(rng: Random) -> frozenset[Combination]:
    """A fair spread: no noun twice with verbs or twice with classifiers, no verb or classifier thrice."""
    verbs = [Combination("verb-noun", verb, noun) for verb, noun in _separable_verbs()]
    classifiers = [Combination("classifier-noun", unit, noun) for unit, noun in _separable_classifiers()]
    spread = _spread(rng, verbs, _VERB_NOUN_PAIRS) + _spread(rng, classifiers, _CLASSIFIER_NOUN_PAIRS)
    return frozenset({*spread, *_relative_questions(rng)})


# The verbs that relative clauses often have.
_RELATIVE_VERBS = (
    *("买", "卖", "找", "有", "洗", "修", "画", "丢"),
    *("喜欢", "看见", "认识", "讨厌", "帮助", "需要", "想要", "找到"),
)


def _relative_questions(rng: Random) -> list[Combination]:
    """For each question word a third of the verbs, for each verb a third of the question words."""
    verbs = rng.sample(_RELATIVE_VERBS, len(_RELATIVE_VERBS))
    words = ("吗", "什么", "哪里")
    return [
        Combination("relative-question", verb, words[index % len(words)]) for index, verb in enumerate(verbs)
    ]


def _spread(rng: Random, candidates: list[Combination], count: int) -> list[Combination]:
    chosen: list[Combination] = []
    for candidate in rng.sample(candidates, len(candidates)):
        nouns = [other.second for other in chosen]
        firsts = [other.first for other in chosen]
        if len(chosen) < count and candidate.second not in nouns and firsts.count(candidate.first) < 2:
            chosen.append(candidate)
    return chosen


def _separable_verbs() -> Iterator[tuple[str, str]]:
    """(verb, noun) that can be held out: other nouns show what the verb means, other verbs the noun."""
    meanings: dict[str, set[str]] = {}
    for verb in (*VERBS, *BA_VERBS):
        meanings.setdefault(verb.key, set()).add(verb.base)
    for verb in VERBS:
        if len(meanings[verb.key]) == 1 and len(verb.objects) >= 6 and verb.zh != "有":
            for noun in verb.objects:
                if sum(noun in other.objects for other in VERBS) >= 4:
                    yield verb.key, noun.zh


def _separable_classifiers() -> Iterator[tuple[str, str]]:
    """(classifier, noun) that can be held out: the noun has another, English treats all its nouns alike."""
    english: dict[str, set[str | None]] = {}
    takers: dict[str, list[Noun]] = {}
    for noun in NOUNS:
        for classifier, measure in noun.units.items():
            english.setdefault(classifier, set()).add(measure)
            takers.setdefault(classifier, []).append(noun)
    named = {(fact.word, fact.noun) for pair in NAMED_PAIRS for fact in pair.facts}
    for classifier, nouns in takers.items():
        if classifier != "个" and len(english[classifier]) == 1 and len(nouns) >= 4:
            yield from (
                (classifier, noun.zh)
                for noun in nouns
                if len(noun.units) > 1 and (classifier, noun.zh) not in named
            )


def build_corpus(
    *, seed: int = 0, train_size: int = 24_000, valid_size: int = 500, test_size: int = 1_000
) -> EmbeddedCorpus:
    """Build the corpus; the same arguments give the same corpus on every machine.

    Args:
        seed: Chooses the sentences and the combinations that are held out.
        train_size, valid_size: Number of pairs.
        test_size: Number of test pairs, even: half with seen and half with new combinations.

    Raises:
        InputError: A size is not positive, `test_size` is odd or below 4, or there are too few sentences.
    """
    _check_sizes(train_size=train_size, valid_size=valid_size, test_size=test_size)
    rng = Random(seed)
    held_out = choose_held_out(rng)
    half = test_size // 2
    fresh = _fresh_pairs(rng)
    train, others = _draw_train(fresh, train_size, held_out)
    known = _Known.of(train)
    familiar: list[SentencePair] = []
    patience = _Patience()
    while len(familiar) < valid_size + half - len(NAMED_PAIRS):
        pair = next(fresh)
        new = bool(held_out & combinations_of(pair))
        found = not new and known.has_words(pair) and close_combinations_of(pair) <= known.combinations
        if new:
            others.append(pair)
        elif found:
            familiar.append(pair)
        patience.note(found)
    return EmbeddedCorpus(
        train=tuple(train),
        valid=tuple(familiar[:valid_size]),
        test_seen=(*NAMED_PAIRS, *familiar[valid_size:]),
        test_new=_draw_new(chain(others, fresh), known, half, held_out),
        held_out=held_out,
    )


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"`{name}` must be positive, but is {size} instead.")
    if sizes["test_size"] % 2 or sizes["test_size"] < 4:
        raise InputError(f"`test_size` must be even and at least 4, but is {sizes['test_size']} instead.")


# Draws in a row without a new sentence, after which the grammar counts as used up.
_PATIENCE = 20_000


class _Patience:
    """Ends a search among new sentences that brings nothing for too long."""

    def __init__(self) -> None:
        self._in_vain = 0

    def note(self, found: bool) -> None:
        self._in_vain = 0 if found else self._in_vain + 1
        if self._in_vain == _PATIENCE:
            raise InputError("`train_size` is too small: other sentences have words that none of these has.")


def _fresh_pairs(rng: Random) -> Iterator[SentencePair]:
    """Pairs neither side of which came before; the named ones count as if they had come."""
    sources = {pair.source for pair in NAMED_PAIRS}
    targets = {pair.target for pair in NAMED_PAIRS}
    in_vain = 0
    while in_vain < _PATIENCE:
        pair = sample_pair(rng)
        in_vain += 1
        if pair.source not in sources and pair.target not in targets:
            sources.add(pair.source)
            targets.add(pair.target)
            in_vain = 0
            yield pair
    raise InputError(
        f"the grammar has about {len(sources)} sentences, which is too few for the sizes asked for."
    )


def _draw_train(
    fresh: Iterator[SentencePair], size: int, held_out: frozenset[Combination]
) -> tuple[list[SentencePair], list[SentencePair]]:
    """(pairs for training, pairs met on the way that hold a held-out combination)."""
    train: list[SentencePair] = []
    others: list[SentencePair] = []
    while len(train) < size:
        pair = next(fresh)
        (others if held_out & combinations_of(pair) else train).append(pair)
    return train, others


class _Known(NamedTuple):
    """What training shows: words and, of words that belong together, combinations."""

    words: frozenset[str]
    combinations: frozenset[Combination]

    @classmethod
    def of(cls, pairs: Iterable[SentencePair]) -> "_Known":
        words: set[str] = set()
        combinations: set[Combination] = set()
        for pair in pairs:
            words |= _words(pair)
            combinations |= close_combinations_of(pair)
        return cls(frozenset(words), frozenset(combinations))

    def has_words(self, pair: SentencePair) -> bool:
        return _words(pair) <= self.words


def _words(pair: SentencePair) -> frozenset[str]:
    """Its nouns, verbs and classifiers."""
    return frozenset(fact.word for fact in pair.facts if fact.word)


def _rare_kinds_first(combination: Combination) -> tuple[int, Combination]:
    return KINDS.index(combination.kind), combination


def _draw_new(
    pairs: Iterator[SentencePair], known: _Known, size: int, held_out: frozenset[Combination]
) -> tuple[SentencePair, ...]:
    """Pairs of known words that hold a held-out combination: each kind in a third, none in too many."""
    wanted = dict.fromkeys(KINDS, size // 3)
    wanted["verb-noun"] += size - sum(wanted.values())
    per_kind = Counter(combination.kind for combination in held_out)
    # Twice its even share: a combination that is rarely drawn would keep the others waiting.
    left = {held: 1 + 2 * wanted[held.kind] // per_kind[held.kind] for held in held_out}
    drawn: list[SentencePair] = []
    patience = _Patience()
    while len(drawn) < size:
        pair = next(pairs)
        if not known.has_words(pair):
            patience.note(False)
            continue
        held = sorted(close_combinations_of(pair) & held_out, key=_rare_kinds_first)
        counts = next((one for one in held if wanted[one.kind] and left[one]), None)
        if counts:
            wanted[counts.kind] -= 1
            left[counts] -= 1
            drawn.append(pair)
        patience.note(counts is not None)
    return tuple(drawn)


def write_corpus(corpus: EmbeddedCorpus, directory: str | Path) -> None:
    """Write the parts as aligned text files, one sentence a line: train.zh, train.en and so on.

    The parts are train, valid, test and its halves test_seen_combinations and test_new_combinations. The
    folder is made if it is not there. The files are written beside and renamed when all are complete.

    Raises:
        OSError: The folder or a file cannot be written.
    """
    parts = {
        "train": corpus.train,
        "valid": corpus.valid,
        "test": corpus.test,
        "test_seen_combinations": corpus.test_seen,
        "test_new_combinations": corpus.test_new,
    }
    with files_written_whole(directory) as beside:
        for name, pairs in parts.items():
            _write_lines(beside / f"{name}.zh", (pair.source for pair in pairs))
            _write_lines(beside / f"{name}.en", (pair.target for pair in pairs))


def write_labelled(corpus: EmbeddedCorpus, directory: str | Path) -> None:
    """Write train.csv, valid.csv and test.csv with the Chinese sentences ("text") and their kind ("label").

    The kinds are question, relative (a statement with a relative clause) and statement. The folder is there.

    Raises:
        OSError: A file cannot be written.
    """
    parts = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    with files_written_whole(directory) as beside:
        for name, pairs in parts.items():
            rows = (f'"{pair.source}",{kind_of(pair)}' for pair in pairs)
            _write_lines(beside / f"{name}.csv", ("text,label", *rows))


def kind_of(pair: SentencePair) -> str:
    """The kind of a sentence: question, relative or statement."""
    kinds = {fact.kind for fact in pair.facts}
    if "question" in kinds:
        return "question"
    return "relative" if "relative" in kinds else "statement"


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
