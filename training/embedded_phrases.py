"""How the embedded grammar says a thing in Chinese and in English: noun phrases, clauses, sentences.

Everything here takes a meaning (this noun, two of them, in the past, asked) and writes it in both languages
at once, so that source and target cannot disagree. What to say is drawn elsewhere: nothing here is by chance.
"""

from enum import Enum
from typing import Literal, NamedTuple

from .embedded_lexicon import DIGITS, Adjective, Noun, Number, Tense, Verb, plural_of

__all__ = [
    "NOTHING",
    "Clause",
    "Fact",
    "Mood",
    "Phrase",
    "SentencePair",
    "ask",
    "ask_how",
    "bare",
    "chinese_number",
    "counted",
    "english_number",
    "how_many",
    "is_so",
    "lots_of",
    "numbered",
    "possessed",
    "request",
    "say",
    "sentence",
    "that_acts",
    "that_is_acted_on",
    "these",
    "this",
    "which",
]


class Mood(Enum):
    """Whether a sentence says that something is so, denies it or asks."""

    TOLD = "told"
    DENIED = "denied"
    ASKED = "asked"


class Fact(NamedTuple):
    """One thing that a phrase was made of.

    Attributes:
        kind: "noun" or "verb" (`word` is in it), "object" (the verb `word` acts on `noun`), "classifier"
            (`word` counts `noun`), "relative" (a relative clause), "relative verb" (`word` is its verb),
            "ongoing" (a relative clause in the progressive) or "question".
        word, noun: In Chinese; "" where the kind needs none.
    """

    kind: str
    word: str = ""
    noun: str = ""


class SentencePair(NamedTuple):
    """A Chinese sentence, its one English translation, what it was made of, and by which construction."""

    source: str
    target: str
    facts: tuple[Fact, ...]
    construction: str = ""


class Phrase(NamedTuple):
    """A part of a sentence in both languages.

    Attributes:
        zh: The Chinese.
        en: The English; of a pronoun, its subject case.
        facts: What it is made of.
        agreement: "first" (I am), "singular" (it is) or "plural" (they are).
        accusative: The English as an object, where it differs.
        head: The Chinese noun that it is about, "" for a pronoun, a name or an adverbial.
    """

    zh: str = ""
    en: str = ""
    facts: tuple[Fact, ...] = ()
    agreement: str = "singular"
    accusative: str = ""
    head: str = ""

    @property
    def as_object(self) -> str:
        """The English where it is not the subject: me, her, the cat."""
        return self.accusative or self.en


NOTHING = Phrase()

_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen"]
_TEENS += ["fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_DECADES = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def chinese_number(number: int) -> str:
    """1 to 99 before a classifier, where two is 两; inside larger numbers it stays 二."""
    tens, ones = divmod(number, 10)
    if number == 2:
        return "两"
    leading = DIGITS[tens - 1][0] if tens > 1 else ""
    return leading + ("十" if tens else "") + (DIGITS[ones - 1][0] if ones else "")


def english_number(number: int) -> str:
    """1 to 99 in words: seven, twelve, forty-two."""
    tens, ones = divmod(number, 10)
    if tens == 0:
        return DIGITS[ones - 1][1]
    if tens == 1:
        return _TEENS[ones]
    return f"{_DECADES[tens - 2]}-{DIGITS[ones - 1][1]}" if ones else _DECADES[tens - 2]


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)


def _with_article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _unit(noun: Noun, classifier: str, *, many: bool) -> str:
    """book / books; cup of tea / cups of tea; bag of apples / bags of apples."""
    measure = noun.units[classifier]
    if measure is None:
        return noun.plural if many else noun.singular
    return f"{plural_of(measure) if many else measure} of {noun.plural}"


def _group(noun: Noun, classifier: str, adjective: Adjective | None, *, many: bool) -> tuple[str, str]:
    """What follows the numeral: (本新书, new books)."""
    before = adjective.attributive or "" if adjective else ""
    unit = _unit(noun, classifier, many=many)
    return f"{classifier}{before}{noun.zh}", _join(adjective.en if adjective else "", unit)


def _about(noun: Noun, zh: str, en: str, *, classifier: str = "", many: bool = False) -> Phrase:
    noun_itself = Fact("noun", noun.zh)
    facts = (noun_itself, Fact("classifier", classifier, noun.zh)) if classifier else (noun_itself,)
    return Phrase(zh, en, facts, "plural" if many else "singular", head=noun.zh)


def counted(noun: Noun, classifier: str, number: int, adjective: Adjective | None = None) -> Phrase:
    """一本新书 "a new book", 三杯茶 "three cups of tea"."""
    zh, en = _group(noun, classifier, adjective, many=number > 1)
    en = _with_article(en) if number == 1 else f"{english_number(number)} {en}"
    return _about(noun, chinese_number(number) + zh, en, classifier=classifier, many=number > 1)


def this(noun: Noun, classifier: str, *, near: bool, adjective: Adjective | None = None) -> Phrase:
    """这本新书 "this new book", 那双鞋 "that pair of shoes"."""
    zh, en = _group(noun, classifier, adjective, many=False)
    pointer_zh, pointer_en = ("这", "this") if near else ("那", "that")
    return _about(noun, pointer_zh + zh, f"{pointer_en} {en}", classifier=classifier)


def numbered(noun: Noun, classifier: str, number: int, *, near: bool) -> Phrase:
    """这三本书 "these three books", for a number above one."""
    zh, en = _group(noun, classifier, None, many=True)
    pointer_zh, pointer_en = ("这", "these") if near else ("那", "those")
    zh, en = f"{pointer_zh}{chinese_number(number)}{zh}", f"{pointer_en} {english_number(number)} {en}"
    return _about(noun, zh, en, classifier=classifier, many=True)


def these(noun: Noun, *, near: bool) -> Phrase:
    """这些书 "these books", 那些鞋 "those shoes"."""
    pointer_zh, pointer_en = ("这些", "these") if near else ("那些", "those")
    return _about(noun, pointer_zh + noun.zh, f"{pointer_en} {noun.plural}", many=True)


def lots_of(noun: Noun) -> Phrase:
    """很多书 "a lot of books", 很多水 "a lot of water"."""
    return _about(noun, f"很多{noun.zh}", f"a lot of {noun.plural}", many=noun.number is not Number.MASS)


def possessed(noun: Noun, owner_zh: str, owner_en: str) -> Phrase:
    """我的书 "my book", 小明的鞋 "Xiaoming's shoes": one of what is counted."""
    zh, en = f"{owner_zh}的{noun.zh}", f"{owner_en} {noun.singular}"
    return _about(noun, zh, en, many=noun.number is Number.PLURAL)


def bare(noun: Noun, reading: str) -> Phrase:
    """A noun by itself: "generic" (cats, tea), "the" (the cat, the tea) or "none" (a cat, any tea)."""
    count, plural = noun.number is Number.COUNT, noun.number is Number.PLURAL
    if reading == "generic":
        return _about(noun, noun.zh, noun.plural, many=noun.number is not Number.MASS)
    if reading == "the":
        return _about(noun, noun.zh, f"the {noun.singular}", many=plural)
    en = _with_article(noun.singular) if count else f"any {noun.singular}"
    return _about(noun, noun.zh, en, many=plural)


def how_many(noun: Noun, classifier: str) -> Phrase:
    """几本书 "how many books"."""
    en = f"how many {_unit(noun, classifier, many=True)}"
    return _about(noun, f"几{classifier}{noun.zh}", en, classifier=classifier, many=True)


def which(noun: Noun, classifier: str) -> Phrase:
    """哪本书 "which book"."""
    en = f"which {_unit(noun, classifier, many=False)}"
    return _about(noun, f"哪{classifier}{noun.zh}", en, classifier=classifier)


class Clause(NamedTuple):
    """Who does what to what, where and when. What is absent is `NOTHING`.

    Attributes:
        verb, tense, subject, object: The core.
        adverb: Often, sometimes: before the verb in both languages.
        time, place, recipient: Chinese puts them before the verb, English behind the object, in reverse.
        goal: Where the object ends up, behind the verb in both (放在桌子上 "put ... on the table").
        ba: Whether Chinese puts the object before the verb with 把.
    """

    verb: Verb
    tense: Tense
    subject: Phrase = NOTHING
    object: Phrase = NOTHING
    adverb: Phrase = NOTHING
    time: Phrase = NOTHING
    place: Phrase = NOTHING
    recipient: Phrase = NOTHING
    goal: Phrase = NOTHING
    ba: bool = False

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Of all its parts, its verb, and the verb's link with its object."""
        verb, head = self.verb.key, self.object.head
        own = (Fact("verb", verb), Fact("object", verb, head)) if head else (Fact("verb", verb),)
        return own + self.subject.facts + self.object.facts + self.recipient.facts + self.goal.facts


# What stands before the verb (before the place) and right behind it.
_SIGNS = {
    Tense.STATE: ("", ""),
    Tense.HABIT: ("", ""),
    Tense.PROGRESSIVE: ("正在", ""),
    Tense.PAST: ("", "了"),
    Tense.PERFECT: ("", "过"),
    Tense.FUTURE: ("会", ""),
    Tense.WISH: ("想", ""),
    Tense.ABILITY: ("会", ""),
}
_NEGATIVE_SIGNS = {
    Tense.STATE: ("不", ""),
    Tense.HABIT: ("不", ""),
    Tense.PAST: ("没有", ""),
    Tense.PERFECT: ("没", "过"),
    Tense.FUTURE: ("不会", ""),
    Tense.WISH: ("不想", ""),
    Tense.ABILITY: ("不会", ""),
}


def _signs(clause: Clause, *, denied: bool) -> tuple[str, str]:
    if denied and clause.verb.zh == "有":
        return "没", ""
    return (_NEGATIVE_SIGNS if denied else _SIGNS)[clause.tense]


def _chinese(clause: Clause, *, denied: bool = False, gap: bool = False, asked: bool = False) -> str:
    """The clause in Chinese; with a `gap` for the object of which a relative clause tells, there is no 了."""
    before, after = _signs(clause, denied=denied)
    if clause.ba:
        happened = f"{clause.object.zh}{clause.verb.zh}{clause.goal.zh}{after}"
        return f"{clause.subject.zh}{clause.time.zh}{before}把{happened}"
    if after == "了" and (gap or (clause.object is NOTHING and clause.place is not NOTHING and not asked)):
        after = ""
    place = clause.place.zh.removeprefix("在") if before.endswith("在") else clause.place.zh
    leading = f"{clause.subject.zh}{clause.time.zh}{clause.adverb.zh}{before}{place}{clause.recipient.zh}"
    return f"{leading}{clause.verb.zh}{after}{clause.object.zh}"


_BE = {"first": ("am", "was"), "singular": ("is", "was"), "plural": ("are", "were")}


class _Inflected(NamedTuple):
    """A verb after a subject: `finite` in a plain statement, else `auxiliary` [not] and `rest`."""

    finite: str
    auxiliary: str
    rest: str


def _inflect(verb: Verb, tense: Tense, agreement: str) -> _Inflected:
    third = agreement == "singular"
    does, particle = "does" if third else "do", verb.particle
    base = verb.base + particle
    if tense is Tense.PAST:
        return _Inflected(verb.past + particle, "did", base)
    if tense is Tense.WISH:
        return _Inflected(f"{'wants' if third else 'want'} to {base}", does, f"want to {base}")
    if tense in (Tense.STATE, Tense.HABIT):
        return _Inflected((verb.third if third else verb.base) + particle, does, base)
    auxiliary, rest = {
        Tense.PROGRESSIVE: (_BE[agreement][0], verb.ing + particle),
        Tense.PERFECT: ("has" if third else "have", verb.participle + particle),
        Tense.FUTURE: ("will", base),
        Tense.ABILITY: ("can", base),
    }[tense]
    return _Inflected(f"{auxiliary} {rest}", auxiliary, rest)


def _not(auxiliary: str, tense: Tense) -> str:
    if tense is Tense.PERFECT:
        return f"{auxiliary} never"
    return "cannot" if auxiliary == "can" else f"{auxiliary} not"


def _english(clause: Clause, *, denied: bool = False) -> str:
    verb = _inflect(clause.verb, clause.tense, clause.subject.agreement)
    said = _join(clause.adverb.en, verb.finite)
    if denied:
        said = _join(_not(verb.auxiliary, clause.tense), clause.adverb.en, verb.rest)
    return _join(clause.subject.en, said, clause.object.as_object, _tail(clause))


def _tail(clause: Clause) -> str:
    return _join(clause.goal.en, clause.recipient.en, clause.place.en, clause.time.en)


def sentence(zh: str, en: str, facts: tuple[Fact, ...], *, asked: bool = False) -> SentencePair:
    """A whole sentence, with its capital and its mark."""
    if asked:
        facts += (Fact("question"),)
    source, target = (f"{zh}？", f"{en}?") if asked else (f"{zh}。", f"{en}.")
    return SentencePair(source, target[0].upper() + target[1:], facts)


def say(clause: Clause, mood: Mood) -> SentencePair:
    """The clause told, denied, or asked for a yes or no (吗)."""
    if mood is Mood.ASKED:
        return ask(clause)
    denied = mood is Mood.DENIED
    return sentence(_chinese(clause, denied=denied), _english(clause, denied=denied), clause.facts)


def ask(clause: Clause, *, about: Literal["", "subject", "object", "place"] = "") -> SentencePair:
    """The clause as a question: yes or no (吗), or about its "subject", "object" or "place".

    The part asked about holds the question word. Chinese leaves it there, English fronts it.
    """
    if about == "subject":
        return sentence(_chinese(clause, asked=True), _english(clause), clause.facts, asked=True)
    fronted, rest = NOTHING, clause
    if about == "object":
        fronted, rest = clause.object, clause._replace(object=NOTHING)
    elif about == "place":
        fronted, rest = clause.place, clause._replace(place=NOTHING)
    verb = _inflect(clause.verb, clause.tense, clause.subject.agreement)
    who = _join(fronted.en, verb.auxiliary, clause.subject.en)
    if clause.tense is Tense.PERFECT and not about:
        who = _join(who, "ever")
    en = _join(who, clause.adverb.en, verb.rest, rest.object.as_object, _tail(rest))
    zh = _chinese(clause, asked=not about) + ("" if about else "吗")
    return sentence(zh, en, clause.facts, asked=True)


def request(clause: Clause, mood: Mood) -> SentencePair:
    """请把门关上 "Please close the door", denied 请不要把门关上 "Please do not close the door"."""
    denied = mood is Mood.DENIED
    wished = clause._replace(subject=NOTHING, tense=Tense.STATE)
    verb = clause.verb.base + clause.verb.particle
    en = _join("please", "do not" if denied else "", verb, clause.object.as_object, _tail(clause))
    return sentence(f"请{'不要' if denied else ''}{_chinese(wished)}", en, wished.facts)


def is_so(subject: Phrase, said: Phrase, mood: Mood = Mood.TOLD, *, time: Phrase = NOTHING) -> SentencePair:
    """A sentence with am, is, are, or was, were with a past `time`. Denied, `said` brings its 不 with it."""
    verb = _BE[subject.agreement][time is not NOTHING]
    zh, facts = subject.zh + time.zh + said.zh, subject.facts + said.facts
    if mood is Mood.ASKED:
        return sentence(f"{zh}吗", _join(verb, subject.en, said.en, time.en), facts, asked=True)
    denial = "not" if mood is Mood.DENIED else ""
    return sentence(zh, _join(subject.en, verb, denial, said.en, time.en), facts)


def ask_how(subject: Phrase, question: Phrase, *, time: Phrase = NOTHING) -> SentencePair:
    """A question that replaces what is said with am, is, are: 你的书在哪里 "Where is your book"."""
    verb = _BE[subject.agreement][time is not NOTHING]
    en = _join(question.en, verb, subject.en, time.en)
    return sentence(subject.zh + time.zh + question.zh, en, subject.facts, asked=True)


def _relative_facts(clause: Clause) -> tuple[Fact, ...]:
    ongoing = (Fact("ongoing"),) if clause.tense is Tense.PROGRESSIVE else ()
    return Fact("relative"), Fact("relative verb", clause.verb.key), *ongoing


def that_is_acted_on(noun: Noun, clause: Clause, classifier: str = "", number: int = 1) -> Phrase:
    """我买的书 "the book I bought"; with a number 我买的三本书 "the three books I bought"."""
    head = counted(noun, classifier, number) if classifier else bare(noun, "the")
    en = f"the {head.en}" if classifier else head.en
    zh = f"{_chinese(clause, gap=True)}的{head.zh}"
    facts = (
        head.facts
        + clause.facts
        + (
            Fact("object", clause.verb.key, noun.zh),
            *_relative_facts(clause),
        )
    )
    return head._replace(zh=zh, en=_join(en, _english(clause)), facts=facts)


def that_acts(
    noun: Noun, clause: Clause, classifier: str = "", number: int = 1, *, mood: Mood = Mood.TOLD
) -> Phrase:
    """喜欢猫的学生 "the student who likes cats", ...的两个学生 "the two students who like cats".

    One of a kind that is not known yet has its number in front: 一个喜欢猫的学生 "a student who likes cats".
    """
    head = counted(noun, classifier, number) if classifier else bare(noun, "the")
    told = clause._replace(subject=Phrase(agreement=head.agreement))
    new = bool(classifier) and number == 1
    zh = f"{_chinese(told, denied=mood is Mood.DENIED)}的"
    zh = f"一{classifier}{zh}{noun.zh}" if new else f"{zh}{head.zh}"
    en = f"the {head.en}" if number > 1 else head.en
    en = f"{en} who {_english(told, denied=mood is Mood.DENIED)}"
    return head._replace(zh=zh, en=en, facts=head.facts + clause.facts + _relative_facts(clause))
