"""What the embedded grammar fills its sentences with: people, things and clauses that make sense together.

Each function draws from the tables by `rng` and writes what it drew through `embedded_phrases`. They know
what goes together: what is drunk, where one swims, that nobody eats the apple they lost.
"""

from collections.abc import Sequence
from functools import cache
from random import Random

from .embedded_lexicon import (
    ADJECTIVES,
    FREQUENCIES,
    GO,
    INTRANSITIVES,
    KIN,
    NAMES,
    NOUNS,
    PLACES,
    PRONOUNS,
    TIMES,
    VERBS,
    Adjective,
    Noun,
    Number,
    Tense,
    Verb,
    nouns_of,
)
from .embedded_phrases import (
    NOTHING,
    Clause,
    Fact,
    Mood,
    Phrase,
    bare,
    counted,
    lots_of,
    numbered,
    possessed,
    that_acts,
    that_is_acted_on,
    these,
    this,
)

__all__ = [
    "IN_NUMBERS",
    "MAKING",
    "ONE_AT_A_TIME",
    "WHAT",
    "WHERE",
    "WHO",
    "a_chance",
    "action",
    "activity",
    "classifier_of",
    "definite",
    "indefinite",
    "journey",
    "known_person",
    "known_thing",
    "most_of",
    "new_person",
    "one_of",
    "place_of",
    "recipient",
    "skill",
    "somebody",
    "subject",
    "time_of",
]

_OWNED = frozenset(nouns_of("own relation pet farm edible drink building"))
_NEVER_OWNED = {"买", "做", "写", "认识"}
# What is only being made is neither old nor cheap.
MAKING = {"做", "写"}
ONE_AT_A_TIME = {"骑", "用"}
_MADE = {None, "pair", "pot", "bowl", "plate", "loaf"}
_ADMITTED = {
    "": {None, "pair"},
    "made": _MADE,
    "serving": _MADE | {"cup", "glass", "bottle", "piece", "slice"},
}
_PEOPLE = nouns_of("person")
_RELATIONS = nouns_of("relation")
_SHARED = nouns_of("老师 pet farm furniture vehicle building drink 面包 肉 米饭")
# Of these a bare noun is as likely several: 他把苹果洗了.
IN_NUMBERS = nouns_of("fruit 鸡蛋 饼干 花")
_BY_ZH = {verb.zh: verb for verb in (*VERBS, *INTRANSITIVES)}
_ASKED_ABOUT = [pronoun for pronoun in PRONOUNS if not pronoun.zh.startswith("我")]
_OF_A_FAMILY = [pronoun for pronoun in PRONOUNS if not pronoun.zh.endswith("们")]
_VERBS_OF: dict[Tense | None, list[Verb]] = {
    tense: [verb for verb in VERBS if tense in (None, *verb.tenses)] for tense in (None, *Tense)
}
_ABLE = [verb for verb in (*VERBS, *INTRANSITIVES) if Tense.ABILITY in verb.tenses]
_PROPERTY = nouns_of("狗 猫 鸟 马 汽车 自行车 船 房子 电脑 手机 相机 手表 词典")
_ANIMALS = nouns_of("animal")
_SLEEPERS = nouns_of("猫 狗 鸟 兔子 猪 熊猫")
_ATTRIBUTES: dict[Noun, list[Adjective]] = {
    noun: [
        adjective
        for adjective in ADJECTIVES
        # 大熊猫 is a species, 小猪 a piglet.
        if noun in adjective.nouns
        and adjective.attributive
        and not (noun in _ANIMALS and adjective.zh in ("大", "小"))
    ]
    for noun in NOUNS
}

WHO, WHAT, WHERE = Phrase("谁", "who"), Phrase("什么", "what"), Phrase("在哪里", "where")


def a_chance(rng: Random, probability: float) -> bool:
    """True with that probability."""
    return rng.random() < probability


def one_of(rng: Random, pairs: Sequence[tuple[str, str]]) -> Phrase:
    """One of some (Chinese, English) as a phrase."""
    zh, en = rng.choice(pairs)
    return Phrase(zh, en)


# Noun phrases


def classifier_of(rng: Random, noun: Noun, units: str = "") -> str:
    """One of the noun's classifiers, with measure words as `Verb.units` admits them; "" if none fits."""
    admitted = _ADMITTED.get(units)
    fitting = [zh for zh, measure in noun.units.items() if admitted is None or measure in admitted]
    return rng.choice(fitting) if fitting else ""


def _attribute(rng: Random, noun: Noun, classifier: str) -> Adjective | None:
    fitting = _ATTRIBUTES[noun] if noun.units[classifier] is None else []
    return rng.choice(fitting) if fitting and a_chance(rng, 0.3) else None


def most_of(noun: Noun, most: int) -> int:
    """How many of them at most, of houses and horses fewer."""
    return min(most, 3) if noun.kinds & {"building", "vehicle", "furniture", "device", "farm"} else most


def indefinite(rng: Random, noun: Noun, units: str, *, most: int = 5, attributes: bool = True) -> Phrase:
    """一本书, 三本书, 很多书."""
    classifier = classifier_of(rng, noun, units)
    if most > 1 and a_chance(rng, 0.1):
        return lots_of(noun)
    if most > 1 and a_chance(rng, 0.45):
        return counted(noun, classifier, rng.randint(2, most))
    return counted(noun, classifier, 1, _attribute(rng, noun, classifier) if attributes else None)


def definite(
    rng: Random,
    noun: Noun,
    units: str = "",
    *,
    owned: bool = True,
    attributes: bool = True,
    several: bool = True,
) -> Phrase:
    """这本书, 我的书 and, if it may be `several`, 那些书, 这三本书."""
    classifier = classifier_of(rng, noun, units)
    if not classifier or (owned and noun in _OWNED and noun not in IN_NUMBERS and a_chance(rng, 0.35)):
        return possessed(noun, *_owner(rng, noun))
    near = a_chance(rng, 0.5)
    if several and noun.number is not Number.MASS and a_chance(rng, 0.25):
        return these(noun, near=near)
    if several and a_chance(rng, 0.15):
        return numbered(noun, classifier, rng.randint(2, 5), near=near)
    adjective = _attribute(rng, noun, classifier) if attributes else None
    return this(noun, classifier, near=near, adjective=adjective)


def _owner(rng: Random, noun: Noun) -> tuple[str, str]:
    """我, 小明 or 我妈妈 as an owner: (我, my), (小明, Xiaoming's), (我妈妈, my mother's).

    Several people own one thing only where they may share it: not a sweater.
    """
    if a_chance(rng, 0.7):
        pronoun = rng.choice(PRONOUNS if noun in _SHARED else _OF_A_FAMILY)
        return pronoun.zh, pronoun.possessive
    owner = one_of(rng, NAMES) if a_chance(rng, 0.4) else _kin(rng)
    return owner.zh, f"{owner.en}'s"


def _kin(rng: Random) -> Phrase:
    pronoun = rng.choice(_OF_A_FAMILY)
    zh, en = rng.choice(KIN)
    return Phrase(f"{pronoun.zh}{zh}", f"{pronoun.possessive} {en}")


def somebody(rng: Random, mood: Mood = Mood.TOLD) -> Phrase:
    """One who needs no noun: a pronoun, a name, somebody's mother. Nobody asks about themselves."""
    draw = rng.random()
    if draw < 0.6:
        pronoun = rng.choice(_ASKED_ABOUT if mood is Mood.ASKED else PRONOUNS)
        return Phrase(pronoun.zh, pronoun.subject, agreement=pronoun.agreement, accusative=pronoun.object)
    return one_of(rng, NAMES) if draw < 0.75 else _kin(rng)


def subject(rng: Random, mood: Mood = Mood.TOLD, *, relative: bool = True) -> Phrase:
    """Any person as a subject."""
    draw = rng.random()
    if draw < 0.65:
        return somebody(rng, mood)
    if relative and draw < 0.77:
        return known_person(rng, rng.choice(_PEOPLE))
    return definite(rng, rng.choice(_PEOPLE if draw < 0.9 else _RELATIONS))


# Relative clauses

# What may have been done before to the object of a verb (key of BA_VERBS and VERBS): he sold the bicycle he
# repaired. 在 is for where a thing is, "" for how it is.
_EARLIER = {
    "吃": "买 做",
    "喝": "买",
    "看": "买 写 喜欢",
    "卖": "买 修 喜欢",
    "洗": "买 喜欢",
    "修": "买 喜欢",
    "找": "买 丢 需要 喜欢",
    "找到": "买 丢",
    "丢": "买",
    "用": "买 修 需要",
    "喜欢": "买 写 做 画 修 用",
    "看见": "认识 帮助 等 喜欢 修 喂",
    "帮助": "认识",
    "等": "认识",
    "认识": "看见 帮助 等",
    "需要": "买 用 找",
    "想要": "看见 找 做",
    "喂": "买 喜欢",
    "放": "买 写",
    "寄": "买 写",
    "给": "买 写",
    "打开": "修 买",
    "关上": "修 买",
    "在": "买 写 做 找 用 喜欢 需要 想要 看",
    "": "买 写 做 洗 修 找 找到 丢 用 看见 喜欢 需要 想要 认识 帮助 看",
}
_ONGOING = {"找", "等", "用", "看"}


@cache
def _earlier(noun: Noun, later: str) -> tuple[Verb, ...]:
    """What may have been done to the noun before the verb `later` came to it."""
    earlier = _EARLIER.get(later, "").split()
    return tuple(verb for verb in VERBS if verb.zh in earlier and noun in verb.objects)


def _relative_tense(rng: Random, verb: Verb) -> Tense:
    if Tense.STATE in verb.tenses:
        return Tense.STATE
    if verb.zh in _ONGOING and (Tense.PAST not in verb.tenses or a_chance(rng, 0.6)):
        return Tense.PROGRESSIVE
    return Tense.PAST


def known_thing(rng: Random, noun: Noun, later: str = "") -> Phrase:
    """我昨天买的书, 他正在找的三把钥匙; 这本书 if nothing fits."""
    verbs = _earlier(noun, later)
    if not verbs:
        return definite(rng, noun)
    verb = rng.choice(verbs)
    tense = _relative_tense(rng, verb)
    past = tense is Tense.PAST
    # Without a time 他用的电脑 is as well the one that he uses.
    timed = past and verb.zh != "写" and (verb.zh == "用" or a_chance(rng, 0.3))
    time = one_of(rng, TIMES[tense]) if timed else NOTHING
    place = place_of(rng, verb) if past and a_chance(rng, 0.2) else NOTHING
    clause = Clause(subject=somebody(rng), verb=verb, tense=tense, time=time, place=place)
    classifier = classifier_of(rng, noun)
    if classifier and (noun in IN_NUMBERS or (verb.zh != "用" and a_chance(rng, 0.25))):
        return that_is_acted_on(noun, clause, classifier, rng.randint(2, 5))
    return that_is_acted_on(noun, clause)


def known_person(rng: Random, noun: Noun, later: str = "") -> Phrase:
    """喜欢猫的学生, 在医院工作的女人, 我认识的医生."""
    if a_chance(rng, 0.35):
        return known_thing(rng, noun, later)
    clause, mood = _description(rng, noun)
    if a_chance(rng, 0.2):
        return that_acts(noun, clause, classifier_of(rng, noun), rng.randint(2, 5), mood=mood)
    return that_acts(noun, clause, mood=mood)


def new_person(rng: Random, noun: Noun) -> Phrase:
    """一个喜欢猫的学生 "a student who likes cats"."""
    while True:
        clause, mood = _description(rng, noun)
        if clause.tense is not Tense.PROGRESSIVE:  # which is no lasting mark
            return that_acts(noun, clause, classifier_of(rng, noun), mood=mood)


def _description(rng: Random, noun: Noun) -> tuple[Clause, Mood]:
    """What a person is known by, and whether it is denied: likes cats, cannot swim, works at school."""
    child = noun.zh == "孩子"  # who neither works nor trades
    draw = rng.random() * (0.85 if child else 1)
    maybe = Mood.DENIED if a_chance(rng, 0.25) else Mood.TOLD
    if draw < 0.4:
        verb = _BY_ZH[rng.choice(("喜欢", "喜欢", "讨厌"))]
        liked = Clause(verb=verb, tense=Tense.STATE, object=bare(rng.choice(verb.objects), "generic"))
        return liked, maybe if verb.zh == "喜欢" else Mood.TOLD
    if draw < 0.55:
        return skill(rng, NOTHING), maybe
    if draw < 0.7:
        return Clause(verb=rng.choice(INTRANSITIVES), tense=Tense.PROGRESSIVE), Mood.TOLD
    if draw < 0.85:
        verb = _BY_ZH["学习" if child else rng.choice(("工作", "学习"))]
        return Clause(verb=verb, tense=Tense.HABIT, place=place_of(rng, verb)), Mood.TOLD
    return _trade(rng), Mood.TOLD


def _trade(rng: Random) -> Clause:
    """Bought a car yesterday, has two cats."""
    verb = _BY_ZH[rng.choice(("买", "卖", "有"))]
    tense = Tense.STATE if verb.zh == "有" else Tense.PAST
    time = NOTHING if tense is Tense.STATE else one_of(rng, TIMES[tense])
    noun = rng.choice(_PROPERTY)
    thing = counted(noun, classifier_of(rng, noun), rng.choice((1, 1, 2)))
    return Clause(verb=verb, tense=tense, object=thing, time=time)


# Clauses

# How an object stands after a verb in each tense, told (or asked) and denied; some verbs have their own ways.
_READINGS = {
    Tense.HABIT: ("generic", "generic"),
    Tense.PROGRESSIVE: ("one definite", ""),
    Tense.PAST: ("some definite", "definite"),
    Tense.PERFECT: ("definite", "definite"),
    Tense.FUTURE: ("some definite", "definite"),
    Tense.WISH: ("some definite", "definite generic"),
    Tense.ABILITY: ("generic", "generic"),
}
_READINGS_OF_VERBS = {
    ("喜欢", Tense.STATE): ("generic definite", "generic definite"),
    ("讨厌", Tense.STATE): ("generic", "generic"),
    ("认识", Tense.STATE): ("one definite", "definite"),
    ("有", Tense.STATE): ("some", "none"),
    ("需要", Tense.STATE): ("some definite", "definite"),
    ("想要", Tense.STATE): ("some definite", "definite"),
    ("吃", Tense.HABIT): ("generic some", "generic"),
    ("喝", Tense.HABIT): ("generic some", "generic"),
    ("吃", Tense.PERFECT): ("generic", "generic"),
    ("买", Tense.PAST): ("some definite", "definite none"),
    ("买", Tense.WISH): ("some definite", "definite none"),
    ("写", Tense.PAST): ("some definite", "definite none"),
    ("写", Tense.FUTURE): ("some", "generic"),
    ("写", Tense.WISH): ("some", "generic"),
    ("做", Tense.FUTURE): ("some", "generic"),
    ("做", Tense.WISH): ("some", "generic"),
    ("用", Tense.HABIT): ("none", "none"),
    ("骑", Tense.WISH): ("some definite", "definite none"),
    ("骑", Tense.ABILITY): ("none", "none"),
}
# These need a time in the sentence, which would be ambiguous beside a relative clause.
_TIMED = {Tense.HABIT, Tense.FUTURE}
_PLACELESS = {Tense.STATE, Tense.PERFECT, Tense.ABILITY}


def _object(rng: Random, verb: Verb, noun: Noun, tense: Tense, mood: Mood) -> Phrase:
    """The verb's object in one of the readings that the tense admits."""
    told, denied = _READINGS_OF_VERBS.get((verb.zh, tense)) or _READINGS[tense]
    reading = rng.choice((denied if mood is Mood.DENIED else told).split())
    if verb.zh == "有" and mood is Mood.ASKED:
        reading = "none"
    if reading in ("generic", "none") or not classifier_of(rng, noun, verb.units):
        return bare(noun, reading if reading == "none" else "generic")
    person = "person" in noun.kinds
    relative = tense not in _TIMED and (person or _earlier(noun, verb.key))
    if reading == "definite" and relative and a_chance(rng, 0.3):
        return (known_person if person else known_thing)(rng, noun, verb.key)
    if reading == "definite":
        return definite(
            rng,
            noun,
            verb.units,
            owned=verb.zh not in _NEVER_OWNED,
            attributes=verb.zh not in MAKING,
            several=verb.zh not in ONE_AT_A_TIME,
        )
    several = reading == "some" and verb.zh not in ONE_AT_A_TIME
    most = most_of(noun, 12 if verb.units == "any" else 4) if several else 1
    return indefinite(rng, noun, verb.units, most=most, attributes=verb.zh not in MAKING)


def place_of(rng: Random, verb: Verb) -> Phrase:
    """在学校 "at school", if the verb has places where it happens."""
    if not verb.places:
        return NOTHING
    place = PLACES[rng.choice(verb.places)]
    return Phrase(f"在{place.inside}", place.at)


def time_of(rng: Random, tense: Tense, *, needed: bool = False) -> Phrase:
    """昨天 "yesterday" for the past, if it is `needed` or so drawn; the future always has its time."""
    timed = tense is Tense.FUTURE or (tense is Tense.PAST and (needed or a_chance(rng, 0.55)))
    return one_of(rng, TIMES[tense]) if timed else NOTHING


def _when(rng: Random, tense: Tense, mood: Mood, *, timed: bool = False) -> tuple[Phrase, Phrase]:
    """(time, adverb): a habit has one of them unless it is denied, the past a time if it must be `timed`."""
    if tense is not Tense.HABIT:
        return time_of(rng, tense, needed=timed), NOTHING
    if mood is Mood.DENIED:
        return NOTHING, NOTHING
    return (
        (NOTHING, one_of(rng, FREQUENCIES)) if a_chance(rng, 0.35) else (one_of(rng, TIMES[tense]), NOTHING)
    )


# Denied as habits, these would be refusals: 他不帮助老师.
_NEVER_REFUSED = {"去", "休息", "散步", "帮助", "喂", "画"}


def _tense(rng: Random, verb: Verb, mood: Mood) -> Tense:
    """Any tense of the verb; what is going on is not denied."""
    if mood is not Mood.DENIED:
        return rng.choice(verb.tenses)
    undeniable = {Tense.PROGRESSIVE, Tense.HABIT} if verb.zh in _NEVER_REFUSED else {Tense.PROGRESSIVE}
    return rng.choice([tense for tense in verb.tenses if tense not in undeniable])


def action(
    rng: Random, mood: Mood = Mood.TOLD, *, by: Phrase = NOTHING, tense: Tense | None = None
) -> Clause:
    """Somebody (or `by`) does something to something, in any tense that the verb has or in `tense`."""
    verb = rng.choice(_VERBS_OF[tense])
    refused = tense is Tense.HABIT and verb.zh in _NEVER_REFUSED
    if mood is Mood.DENIED and (refused or verb.tenses == (Tense.PROGRESSIVE,)):
        return action(rng, mood, by=by, tense=tense)
    tense = tense or _tense(rng, verb, mood)
    thing = _object(rng, verb, rng.choice(verb.objects), tense, mood)
    known = Fact("relative") in thing.facts
    if by is NOTHING:
        by = subject(rng, mood, relative=not known)
    if Fact("noun", thing.head) in by.facts:
        return action(rng, mood, tense=tense)
    if known:
        return Clause(subject=by, verb=verb, tense=tense, object=thing)
    place = place_of(rng, verb) if tense not in _PLACELESS and a_chance(rng, 0.35) else NOTHING
    time, adverb = _when(rng, tense, mood)
    while time.zh == "下个星期" and verb.zh in ("吃", "喝"):  # what stands there now
        time, adverb = _when(rng, tense, mood)
    return Clause(subject=by, verb=verb, tense=tense, object=thing, time=time, adverb=adverb, place=place)


def activity(rng: Random, mood: Mood = Mood.TOLD, *, by: Phrase = NOTHING) -> Clause:
    """Somebody (or `by`) does something without an object."""
    verb = rng.choice(INTRANSITIVES)
    tense = _tense(rng, verb, mood)
    asleep = verb.zh == "睡觉" or (verb.zh == "休息" and tense is Tense.PROGRESSIVE)
    animal = by is NOTHING and asleep and a_chance(rng, 0.3)
    placed = tense not in _PLACELESS and not animal and a_chance(rng, 0.5)
    place = place_of(rng, verb) if placed else NOTHING
    time, adverb = _when(rng, tense, mood, timed=True)
    while verb.zh == "睡觉" and time.zh == "上个星期":
        time, adverb = _when(rng, tense, mood, timed=True)
    if by is NOTHING:
        by = definite(rng, rng.choice(_SLEEPERS)) if animal else subject(rng, mood)
    return Clause(subject=by, verb=verb, tense=tense, time=time, adverb=adverb, place=place)


def skill(rng: Random, by: Phrase) -> Clause:
    """Somebody can do what they have learned: 会游泳, 会说中文."""
    verb = rng.choice(_ABLE)
    thing = NOTHING
    if verb.objects:
        thing = _object(rng, verb, rng.choice(verb.objects), Tense.ABILITY, Mood.TOLD)
    return Clause(subject=by, verb=verb, tense=Tense.ABILITY, object=thing)


# Where nobody has been to for once, and where nobody goes every day.
_TOO_NEAR = {"家", "学校", "教室", "办公室", "厨房", "花园"}
_TOO_FAR = {"家", "北京", "上海"}


def journey(rng: Random, mood: Mood = Mood.TOLD) -> Clause:
    """Somebody goes somewhere."""
    tense = _tense(rng, GO, mood)
    time, adverb = _when(rng, tense, mood)
    unfit = {Tense.PERFECT: _TOO_NEAR, Tense.HABIT: _TOO_FAR}.get(tense, {"家"})
    place = rng.choice([place for place in PLACES.values() if place.zh not in unfit])
    goal = Phrase(place.zh, place.to)
    return Clause(subject=subject(rng, mood), verb=GO, tense=tense, object=goal, time=time, adverb=adverb)


def recipient(rng: Random, giver: Phrase) -> Phrase:
    """Somebody else than the giver."""
    while True:
        relation = rng.choice(_RELATIONS)
        taker = possessed(relation, *_owner(rng, relation)) if a_chance(rng, 0.2) else somebody(rng)
        if taker.zh[0] != giver.zh[0]:
            return taker
