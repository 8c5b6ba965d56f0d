"""A small bilingual grammar that says the same thing in Chinese and in English, and knows what it said.

`sample_pair(rng)` draws one construction and fills it with words that go together. Each reorders between the
languages, which is what a translation model must learn:

- classifiers: 三本书 "three books", 一杯茶 "a cup of tea", 两 and not 二 before a classifier;
- time and place before the verb: 我昨天在学校看了一本书 "I read a book at school yesterday";
- relative clauses before the noun: 我买的书很贵 "The book I bought is expensive", 喜欢猫的学生 "the student
  who likes cats";
- questions with 吗, 什么, 谁, 哪里, 哪, 几, 多少, 多大: Chinese leaves the word in place, English fronts it;
- negation with 不 (states, habits, wishes), 没有 (past events and possession) and 没...过 (experience);
- 把: 他把书放在桌子上了 "He put the book on the table", 请把门关上 "Please close the door";
- there is: 桌子上有两只猫 "There are two cats on the table"; giving; prices, ages, numbers up to 99.

Chinese leaves open what English must say. Here each reading has a sign of its own, so that every source has
exactly one right translation:

- tense: 了 (denied 没有) is past, 过 perfect, 正在 progressive, 会 with a future time "will", 会 without one
  "can", 想 "want to". A state or habit is present, and so are 是, 在 and adjectives without a time word. An
  action before 的 without a sign is past (我买的书).
- number and definiteness: 一本书 "a book", 这 and 那 "this" and "that", 这些 and 那些 "these" and "those",
  我的书 "my book" (one). A bare noun is generic as an object (喜欢猫 "likes cats") and in what there is
  (桌子上没有猫 "There are no cats on the table"), "a" for what one has or not, uses, rides or does not buy
  (我没有猫 "I do not have a cat"), and "the" (one) as a subject, after 把 and behind a relative clause.
"""

from collections.abc import Callable
from itertools import accumulate
from random import Random

from .embedded_lexicon import (
    ADJECTIVES,
    ADULT_AGES,
    AGES,
    BA_VERBS,
    KIN,
    NAMES,
    PLACES,
    SPOTS,
    TIMES,
    VERBS,
    Adjective,
    Noun,
    Tense,
    Verb,
    nouns_of,
)
from .embedded_parts import (
    IN_NUMBERS,
    MAKING,
    ONE_AT_A_TIME,
    WHAT,
    WHERE,
    WHO,
    a_chance,
    action,
    activity,
    classifier_of,
    definite,
    indefinite,
    journey,
    known_person,
    known_thing,
    most_of,
    new_person,
    one_of,
    recipient,
    skill,
    somebody,
    subject,
    time_of,
)
from .embedded_phrases import (
    NOTHING,
    Clause,
    Fact,
    Mood,
    Phrase,
    SentencePair,
    ask,
    ask_how,
    bare,
    chinese_number,
    english_number,
    how_many,
    is_so,
    request,
    say,
    sentence,
    which,
)

__all__ = ["CONSTRUCTIONS", "MAX_SOURCE_LENGTH", "Fact", "SentencePair", "sample_pair"]

MAX_SOURCE_LENGTH = 20


def _mood(rng: Random, *, denied: float = 0.25, asked: float = 0.25) -> Mood:
    draw = rng.random()
    if draw < denied:
        return Mood.DENIED
    return Mood.ASKED if draw < denied + asked else Mood.TOLD


def _not(zh: str, mood: Mood) -> str:
    """Denied with 不, and 有意思 with 没."""
    if mood is not Mood.DENIED:
        return zh
    return f"没{zh}" if zh.startswith("有") else f"不{zh}"


# What somebody does


def _action(rng: Random) -> SentencePair:
    """他昨天买了一本书 "He bought a book yesterday"."""
    mood = _mood(rng)
    return say(action(rng, mood), mood)


def _habit(rng: Random) -> SentencePair:
    """她每天喝两杯茶 "She drinks two cups of tea every day"."""
    mood = _mood(rng)
    return say(action(rng, mood, tense=Tense.HABIT), mood)


def _activity(rng: Random) -> SentencePair:
    """我们每天在公园跑步 "We run in the park every day"."""
    mood = _mood(rng)
    return say(activity(rng, mood), mood)


def _journey(rng: Random) -> SentencePair:
    """她没去过北京 "She has never been to Beijing"."""
    mood = _mood(rng)
    return say(journey(rng, mood), mood)


def _skill(rng: Random) -> SentencePair:
    """你会说中文吗 "Can you speak Chinese"."""
    mood = _mood(rng)
    return say(skill(rng, subject(rng, mood)), mood)


# Questions with a question word

# Not 看 (read or watch?), 做 (also "do") and 有.
_ASKED_WHAT = {"吃", "喝", "买", "卖", "写", "画", "洗", "修", "找", "找到", "丢", "用", "帮助", "等"}
_ASKED_WHAT |= {"喜欢", "讨厌", "认识", "需要", "想要", "学"}
_PEOPLE = nouns_of("person")


def _what(rng: Random) -> SentencePair:
    """你昨天买了什么 "What did you buy yesterday", 她认识谁 "Who does she know"."""
    while True:
        clause = action(rng, Mood.ASKED)
        if clause.verb.zh in _ASKED_WHAT and clause.tense is not Tense.ABILITY:
            break
    word = WHO if clause.verb.objects[0] in _PEOPLE and clause.verb.zh != "看见" else WHAT
    return ask(clause._replace(object=word), about="object")


def _who(rng: Random) -> SentencePair:
    """谁喜欢猫 "Who likes cats"."""
    does = action if a_chance(rng, 0.6) else activity
    return ask(does(rng, Mood.ASKED, by=WHO), about="subject")


# What one has a place for: 他在哪里工作 is "Where does he work", 他在哪里跑步 as well "Where is he running".
_DONE_SOMEWHERE = {"工作", "学习"}


def _where(rng: Random) -> SentencePair:
    """他昨天在哪里学习 "Where did he study yesterday", 你想去哪里 "Where do you want to go"."""
    if a_chance(rng, 0.3):
        clause = journey(rng, Mood.ASKED)
        # Without a time 你去哪里 is as well "Where are you going".
        if clause.tense is Tense.PERFECT or clause.adverb is not NOTHING:
            return _where(rng)
        return ask(clause._replace(object=Phrase("哪里", "where")), about="object")
    clause = activity(rng, Mood.ASKED)
    usual = clause.adverb is NOTHING or clause.verb.zh in _DONE_SOMEWHERE
    if clause.place is NOTHING or clause.tense is Tense.PROGRESSIVE or not usual:
        return _where(rng)
    return ask(clause._replace(place=WHERE, adverb=NOTHING), about="place")


_COUNTED_TENSES = {Tense.PAST, Tense.FUTURE, Tense.WISH}


def _which(rng: Random) -> SentencePair:
    """你喜欢哪本书 "Which book do you like"."""
    clause = action(rng, Mood.ASKED)
    noun = rng.choice(clause.verb.objects)
    classifier = classifier_of(rng, noun)
    likes = clause.verb.zh in ("喜欢", "认识", "想要")
    unmade = clause.verb.zh in MAKING and clause.tense is not Tense.PAST
    if not classifier or unmade or not (likes or clause.tense in _COUNTED_TENSES):
        return _which(rng)
    return ask(clause._replace(object=which(noun, classifier)), about="object")


def _how_many(rng: Random) -> SentencePair:
    """他昨天买了几本书 "How many books did he buy yesterday"."""
    clause = action(rng, Mood.ASKED)
    verb = clause.verb
    noun = rng.choice(verb.objects)
    classifier = classifier_of(rng, noun, verb.units)
    daily = clause.tense is Tense.HABIT and clause.time is not NOTHING and verb.zh in ("吃", "喝")
    if (
        not classifier
        or verb.zh in ONE_AT_A_TIME
        or not (daily or verb.zh in ("有", "需要") or clause.tense in _COUNTED_TENSES)
    ):
        return _how_many(rng)
    return ask(clause._replace(object=how_many(noun, classifier)), about="object")


# What somebody or something is, and where


def _job(rng: Random) -> SentencePair:
    """我是一个学生 "I am a student", 他们不是老师 "They are not teachers"."""
    noun = rng.choice(nouns_of("job"))
    mood = _mood(rng, denied=0.2, asked=0.2)
    plain = nouns_of("男人 女人 邻居 朋友")
    who = somebody(rng, mood) if a_chance(rng, 0.7) else definite(rng, rng.choice(plain), attributes=False)
    many = who.agreement == "plural" and who.zh != "你"
    if many or mood is not Mood.TOLD:
        job = bare(noun, "generic" if many else "none")
    else:
        job = new_person(rng, noun) if a_chance(rng, 0.25) else indefinite(rng, noun, "", most=1)
        if who.zh == "我" and job.zh.startswith("一位"):  # which honours, as nobody does themselves
            return _job(rng)
    return is_so(who, job._replace(zh=_not(f"是{job.zh}", mood)), mood)


def _quality(rng: Random) -> SentencePair:
    """这本书很贵 "This book is expensive", 你昨天累吗 "Were you tired yesterday"."""
    adjective = rng.choice(ADJECTIVES)
    mood = _mood(rng, denied=0 if adjective.zh == "有名" else 0.2, asked=0.25)
    time = one_of(rng, TIMES[Tense.PAST][:3]) if adjective.passing and a_chance(rng, 0.4) else NOTHING
    said = Phrase(_not(adjective.zh, mood), adjective.en)
    if adjective.zh.endswith("的"):
        said = said._replace(zh=_not(f"是{adjective.zh}", mood))
    elif mood is Mood.TOLD:
        said = _degree(rng, adjective)
    return is_so(_bearer(rng, adjective, mood), said, mood, time=time)


def _bearer(rng: Random, adjective: Adjective, mood: Mood) -> Phrase:
    """One that the adjective can be said of: 她, 我的书, 他买的书."""
    noun = rng.choice(adjective.nouns)
    relative = a_chance(rng, 0.4)
    if noun not in _PEOPLE:
        return known_thing(rng, noun) if relative else definite(rng, noun, attributes=False)
    if a_chance(rng, 0.5) and adjective.zh not in ("可爱", "有名"):
        who = somebody(rng, mood)
        return _bearer(rng, adjective, mood) if adjective.zh == "年轻" and _is_old(who) else who
    owned = noun in nouns_of("relation")
    return known_person(rng, noun) if relative else definite(rng, noun, owned=owned, attributes=False)


def _is_old(who: Phrase) -> bool:
    return who.zh.endswith(("爷爷", "奶奶"))


# 太 needs a quality that one can have too much of.
_EXCESSIVE = {"贵", "大", "小", "旧", "重", "脏", "忙"}


def _degree(rng: Random, adjective: Adjective) -> Phrase:
    draw = rng.random()
    if draw < 0.15 and adjective.zh in _EXCESSIVE:
        return Phrase(f"太{adjective.zh}了", f"too {adjective.en}")
    if draw < 0.35 and adjective.zh != "好吃":
        return Phrase(f"非常{adjective.zh}", f"very {adjective.en}")
    return Phrase(f"很{adjective.zh}", adjective.en)


def _location(rng: Random) -> SentencePair:
    """我的猫在桌子下面 "My cat is under the table", 她昨天不在家 "She was not at home yesterday"."""
    mood = _mood(rng, denied=0.2, asked=0.35)
    time = NOTHING
    if a_chance(rng, 0.35):
        place = rng.choice(list(PLACES.values()))
        who, there = subject(rng, mood), Phrase(place.inside, place.at)
        time = one_of(rng, TIMES[Tense.PAST][:4]) if a_chance(rng, 0.35) else NOTHING
    else:
        spot = rng.choice(SPOTS)
        thing = rng.choice([noun for noun in spot.contents if noun not in _PEOPLE])
        who, there = _found(rng, thing), Phrase(spot.zh, spot.en, (Fact("noun", spot.noun),))
    if mood is Mood.ASKED and a_chance(rng, 0.5):
        return ask_how(who, WHERE, time=time)
    return is_so(who, there._replace(zh=_not(f"在{there.zh}", mood)), mood, time=time)


def _found(rng: Random, noun: Noun) -> Phrase:
    """A thing that is not at hand: not 这本书."""
    while True:
        draw = rng.random()
        if 0.35 <= draw < 0.55 and noun not in IN_NUMBERS:
            return bare(noun, "the")
        thing = known_thing(rng, noun, "在") if draw < 0.35 else definite(rng, noun, attributes=False)
        if not thing.zh.startswith("这"):
            return thing


_WIDE = {"花园", "公园", "教室", "医院"}


def _existence(rng: Random) -> SentencePair:
    """桌子上有三本书 "There are three books on the table", 包里没有钥匙 "There are no keys in the bag"."""
    spot = rng.choice(SPOTS)
    noun = rng.choice(spot.contents)
    mood = _mood(rng, denied=0.15, asked=0.35)
    counted = mood is Mood.ASKED and a_chance(rng, 0.45)
    if counted:
        thing = how_many(noun, classifier_of(rng, noun, "serving"))
        en = f"{thing.en} are there"
    elif mood is Mood.TOLD:
        thing = indefinite(rng, noun, "serving", most=20 if spot.noun in _WIDE else 5)
        en = f"there {_is(thing)} {thing.en}"
    else:
        thing = bare(noun, "generic")
        denied = mood is Mood.DENIED
        en = f"there {_is(thing)} no {thing.en}" if denied else f"{_is(thing)} there any {thing.en}"
    zh = f"{spot.zh}{'没有' if mood is Mood.DENIED else '有'}{thing.zh}"
    zh += "吗" if mood is Mood.ASKED and not counted else ""
    facts = (Fact("noun", spot.noun), Fact("verb", "有"), *thing.facts)
    return sentence(zh, f"{en} {spot.en}", facts, asked=mood is Mood.ASKED)


def _is(thing: Phrase) -> str:
    return "are" if thing.agreement == "plural" else "is"


# What becomes of a thing

_REQUESTED = {"放在", "给", "还给", "寄给", "修好", "打开", "关上"}
_FORBIDDEN = {"放在", "忘在", "给", "打开", "关上"}


def _ba(rng: Random) -> SentencePair:
    """他昨天把书放在桌子上了 "He put the book on the table yesterday"."""
    verb = rng.choice(BA_VERBS)
    mood = _mood(rng, denied=0.2)
    if mood is Mood.DENIED and len(verb.zh) == 1 and verb.zh != "给":
        mood = Mood.TOLD
    noun = rng.choice(verb.objects)
    thing = _moved(rng, verb, noun)
    known = Fact("relative") in thing.facts
    who = subject(rng, mood, relative=not known)
    time = NOTHING if known else time_of(rng, Tense.PAST)
    goal = _goal(rng, verb, noun, who)
    clause = Clause(subject=who, verb=verb, tense=Tense.PAST, object=thing, time=time, goal=goal, ba=True)
    return say(clause, mood)


def _request(rng: Random) -> SentencePair:
    """请把门关上 "Please close the door", 请不要把书放在床上 "Please do not put the book on the bed"."""
    mood = Mood.DENIED if a_chance(rng, 0.35) else Mood.TOLD
    allowed = _FORBIDDEN if mood is Mood.DENIED else _REQUESTED
    verb = rng.choice([verb for verb in BA_VERBS if verb.zh in allowed])
    noun = rng.choice(verb.objects)
    goal = _goal(rng, verb, noun, Phrase("你"))
    thing = _moved(rng, verb, noun)
    return request(Clause(verb=verb, tense=Tense.PAST, object=thing, goal=goal, ba=True), mood)


def _moved(rng: Random, verb: Verb, noun: Noun) -> Phrase:
    """The object of 把, always a known one: 书 "the book", 这本书, 我的书, 我买的书."""
    draw = rng.random()
    if draw < 0.4 and noun not in IN_NUMBERS:
        return bare(noun, "the")
    return known_thing(rng, noun, verb.key) if draw < 0.6 else definite(rng, noun, verb.units)


_LEFT_AT = [
    PLACES[zh] for zh in ("家", "学校", "图书馆", "教室", "办公室", "医院", "饭馆", "商店", "车站", "机场")
]


def _goal(rng: Random, verb: Verb, noun: Noun, giver: Phrase) -> Phrase:
    """Where or to whom the object goes: 桌子上 "on the table", 我 "to me"."""
    if verb.zh == "放在":
        spot = rng.choice([spot for spot in SPOTS if noun in spot.contents])
        return Phrase(spot.zh, spot.en, (Fact("noun", spot.noun),))
    if verb.zh == "忘在":
        place = rng.choice(_LEFT_AT)
        return Phrase(place.inside, place.at)
    if not verb.zh.endswith("给"):
        return NOTHING
    taker = recipient(rng, giver)
    return Phrase(taker.zh, f"to {taker.as_object}", taker.facts)


def _gift(rng: Random) -> SentencePair:
    """她昨天给了我一本书 "She gave me a book yesterday"."""
    verb = next(verb for verb in BA_VERBS if verb.zh == "给")
    mood = Mood.ASKED if a_chance(rng, 0.25) else Mood.TOLD
    giver = subject(rng, mood)
    taker = recipient(rng, giver)
    gift = indefinite(rng, rng.choice(verb.objects), "any", most=3)
    both = gift._replace(
        zh=taker.zh + gift.zh, en=f"{taker.as_object} {gift.en}", facts=taker.facts + gift.facts
    )
    time = time_of(rng, Tense.PAST)
    return say(Clause(subject=giver, verb=verb, tense=Tense.PAST, object=both, time=time), mood)


def _favor(rng: Random) -> SentencePair:
    """我给我妈妈买了一束花 "I bought a bunch of flowers for my mother"."""
    verb = rng.choice([verb for verb in VERBS if verb.zh in ("买", "做", "画")])
    tense = rng.choice((Tense.PAST, Tense.PAST, Tense.WISH, Tense.FUTURE))
    giver = subject(rng)
    taker = recipient(rng, giver)
    gets = Phrase(f"给{taker.zh}", f"for {taker.as_object}", taker.facts)
    noun = rng.choice(verb.objects)
    thing = indefinite(rng, noun, verb.units, most=most_of(noun, 4), attributes=verb.zh == "买")
    time = time_of(rng, tense)
    clause = Clause(subject=giver, verb=verb, tense=tense, object=thing, time=time, recipient=gets)
    return say(clause, Mood.TOLD)


# Numbers

_CHEAP = nouns_of("book clothing edible drink 雨伞 笔 铅笔 杯子 包 花 票 地图")
_SMALL_CHANGE = {noun.zh for noun in nouns_of("edible drink 报纸 杂志 笔 铅笔 花 地图")}


def _price(rng: Random) -> SentencePair:
    """这本书三十五块钱 "This book costs thirty-five yuan", 这本书多少钱 "How much does this book cost"."""
    thing = definite(rng, rng.choice(_CHEAP), "any", owned=False, attributes=False)
    many = thing.agreement == "plural"
    if a_chance(rng, 0.3):
        en = f"how much {'do' if many else 'does'} {thing.en} cost"
        return sentence(f"{thing.zh}多少钱", en, thing.facts, asked=True)
    number = rng.randint(*((2, 30) if thing.head in _SMALL_CHANGE else (20, 99)))
    en = f"{thing.en} {'cost' if many else 'costs'} {english_number(number)} yuan"
    return sentence(f"{thing.zh}{chinese_number(number)}块钱", en, thing.facts)


def _age(rng: Random) -> SentencePair:
    """我妹妹十二岁 "My younger sister is twelve years old", 你多大 "How old are you"."""
    mood = _mood(rng, denied=0, asked=0.2)
    if a_chance(rng, 0.6):
        who = somebody(rng, mood)
    else:
        noun = rng.choice(_PEOPLE)
        who = definite(rng, noun, owned=noun in nouns_of("relation"), attributes=False)
    if who.agreement == "plural" and who.zh != "你":
        return _age(rng)
    if mood is Mood.ASKED:
        known = who.zh.startswith("我") or _is_old(who)
        return _age(rng) if known else ask_how(who, Phrase("多大", "how old"))
    # Behind the pronoun of a kinship term stands the kin.
    number = rng.randint(*AGES.get(who.head or who.zh[1:], ADULT_AGES))
    return is_so(who, Phrase(f"{chinese_number(number)}岁", f"{english_number(number)} years old"))


# Each construction with how often it is drawn.
CONSTRUCTIONS: dict[str, tuple[Callable[[Random], SentencePair], int]] = {
    "action": (_action, 28),
    "habit": (_habit, 6),
    "activity": (_activity, 14),
    "journey": (_journey, 5),
    "skill": (_skill, 3),
    "what": (_what, 4),
    "who": (_who, 4),
    "where": (_where, 4),
    "which": (_which, 3),
    "how many": (_how_many, 3),
    "job": (_job, 4),
    "quality": (_quality, 11),
    "location": (_location, 7),
    "existence": (_existence, 6),
    "ba": (_ba, 8),
    "request": (_request, 3),
    "gift": (_gift, 4),
    "favor": (_favor, 4),
    "price": (_price, 3),
    "age": (_age, 2),
}
_NAMES = list(CONSTRUCTIONS)
_CUMULATIVE_WEIGHTS = list(accumulate(weight for _, weight in CONSTRUCTIONS.values()))


def sample_pair(rng: Random) -> SentencePair:
    """Draw a sentence of at most `MAX_SOURCE_LENGTH` characters and its translation, by `rng` alone."""
    while True:
        (name,) = rng.choices(_NAMES, cum_weights=_CUMULATIVE_WEIGHTS)
        pair = CONSTRUCTIONS[name][0](rng)
        if len(pair.source) <= MAX_SOURCE_LENGTH and not (_repeats_a_name(pair) or _mixes_tenses(pair)):
            return pair._replace(construction=name)


def _repeats_a_name(pair: SentencePair) -> bool:
    return any(pair.source.count(name) > 1 for name, _ in (*NAMES, *KIN))


_PAST_SIGNS = ("了", "没有", *(time for time, _ in TIMES[Tense.PAST]))


def _mixes_tenses(pair: SentencePair) -> bool:
    """正在看书的学生走了: who is reading, or was? 正在看书的学生正在跑步: and runs?"""
    mixed = pair.source.count("正在") > 1 or any(sign in pair.source for sign in _PAST_SIGNS)
    return Fact("ongoing") in pair.facts and mixed
