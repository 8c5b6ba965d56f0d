import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import pytest

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts import make_demo_corpus
from vanilla_transformer.training import embedded_corpus
from vanilla_transformer.training.embedded_corpus import (
    I_AM_A_STUDENT,
    I_HAVE_A_CAT,
    KINDS,
    NAMED_PAIRS,
    QUESTION_WORDS,
    EmbeddedCorpus,
    build_corpus,
    close_combinations_of,
    combinations_of,
    write_corpus,
)
from vanilla_transformer.training.embedded_grammar import (
    CONSTRUCTIONS,
    MAX_SOURCE_LENGTH,
    Fact,
    SentencePair,
    sample_pair,
)
from vanilla_transformer.training.embedded_lexicon import (
    KIN,
    NAMES,
    NOUNS,
    PRONOUNS,
    TIMES,
    VERBS,
    Number,
    Tense,
    Verb,
)
from vanilla_transformer.training.embedded_phrases import (
    Clause,
    Mood,
    Phrase,
    ask,
    bare,
    chinese_number,
    counted,
    english_number,
    is_so,
    request,
    say,
    that_acts,
    that_is_acted_on,
)

NOUN = {noun.zh: noun for noun in NOUNS}
# The first of each: 写 takes letters, then books.
VERB = {verb.zh: verb for verb in reversed(VERBS) if verb.zh not in ("看", "卖")}
READ = next(verb for verb in VERBS if verb.base == "read")


def pronoun(zh: str) -> Phrase:
    word = next(word for word in PRONOUNS if word.zh == zh)
    return Phrase(word.zh, word.subject, agreement=word.agreement, accusative=word.object)


@pytest.fixture(scope="module")
def draws() -> list[SentencePair]:
    rng = Random(7)
    return [sample_pair(rng) for _ in range(62_000)]


@pytest.fixture(scope="module")
def corpus() -> EmbeddedCorpus:
    return build_corpus()


# The grammar


def test_every_source_has_one_translation(draws: list[SentencePair]) -> None:
    translations = defaultdict(set)
    for pair in draws:
        translations[pair.source].add(pair.target)
    assert {source: found for source, found in translations.items() if len(found) > 1} == {}


def test_the_grammar_has_more_than_50_000_distinct_pairs(draws: list[SentencePair]) -> None:
    # A lower bound by showing them: distinct on both sides at once, as a corpus needs them.
    sources, targets = set(), set()
    for pair in draws:
        if pair.source not in sources and pair.target not in targets:
            sources.add(pair.source)
            targets.add(pair.target)
    assert len(targets) >= 50_000


def test_every_construction_is_drawn_often(draws: list[SentencePair]) -> None:
    drawn = Counter(pair.construction for pair in draws)
    assert set(drawn) == set(CONSTRUCTIONS)
    assert min(drawn.values()) > 500


def test_sentences_are_short_and_fully_punctuated(draws: list[SentencePair]) -> None:
    for pair in draws:
        asked = Fact("question") in pair.facts
        assert 4 <= len(pair.source) <= MAX_SOURCE_LENGTH
        assert pair.source[-1] == ("？" if asked else "。")
        assert pair.target[-1] == ("?" if asked else ".")
        assert pair.target[0].isupper()
        assert "  " not in pair.target and not pair.target.endswith((" .", " ?"))
        assert not any(character.isascii() for character in pair.source)
        assert pair.target.isascii()


def test_a_and_an_stand_before_the_right_sounds(draws: list[SentencePair]) -> None:
    for pair in draws:
        words = pair.target[:-1].split()
        for article, word in zip(words, words[1:], strict=False):
            if article in ("a", "an"):
                assert (article == "an") == (word[0] in "aeiou"), pair.target


def test_facts_tell_what_the_sentence_says(draws: list[SentencePair]) -> None:
    for pair in draws:
        for fact in pair.facts:
            assert fact.word in pair.source
            assert fact.noun in pair.source
        assert (Fact("question") in pair.facts) == pair.source.endswith("？")
        # Nothing but a relative clause has 的 in front of a noun that is neither owned nor described.
        assert Fact("relative") not in pair.facts or "的" in pair.source


TIMED = "|".join(time for times in TIMES.values() for time, _ in times)


@pytest.mark.parametrize(
    ("pattern", "unless", "near"),
    [
        pytest.param("不有", "", "没有意思", id="有意思 is denied with 没, 有名 is not denied"),
        pytest.param(
            "不(去|休息|散步|帮助|喂|画)",
            "",
            "不(想|会)(去|休息|散步|帮助|喂|画)",
            id="a habit denied would be a refusal",
        ),
        pytest.param(
            "(工作|学习|跑步|游泳)了",
            TIMED,
            "昨天.*(工作|学习|跑步|游泳)了",
            id="an activity of the past without a time",
        ),
        pytest.param("去哪里", f"想|{TIMED}", "想去哪里", id="going, or going usually?"),
        pytest.param("我是一位", "", "我是一名", id="one honours others"),
        pytest.param("(爷爷|奶奶)(不|很|非常)年轻", "", "妹妹(不|很|非常)年轻", id="young grandparents"),
        pytest.param("(爷爷|奶奶)多大", "", "妹妹多大", id="how old one asks elders"),
        pytest.param("常常.*几", "", "每天.*几", id="how many, often"),
        pytest.param("(只|条|头)[大小](狗|猫|猪|熊猫)", "", "只可爱的熊猫", id="大熊猫 is a species"),
        pytest.param("(我们|他们)的(毛衣|朋友|笔)", "", "我的毛衣", id="what several people do not share"),
        pytest.param("骑了[两三四]", "", "骑了一", id="one rides one at a time"),
        pytest.param("(会|想).*(写|做)哪", "", "(会|想).*买哪", id="which of what is not made yet"),
        pytest.param("箱子里有.*箱子", "", "床下面有.*箱子", id="a box in itself"),
        pytest.param("下个星期会[吃喝]", "", "明天会[吃喝]", id="eating next week what stands there now"),
    ],
)
def test_nobody_says_so(draws: list[SentencePair], pattern: str, unless: str, near: str) -> None:
    assert any(re.search(near, pair.source) for pair in draws), "what one does say is drawn no more"
    said = [pair.source for pair in draws if re.search(pattern, pair.source)]
    assert [source for source in said if not (unless and re.search(unless, source))] == []


def test_nobody_stands_twice_in_a_sentence(draws: list[SentencePair]) -> None:
    people = [name for name, _ in (*NAMES, *KIN)]
    assert [pair.source for pair in draws if any(pair.source.count(name) > 1 for name in people)] == []


def test_no_tense_contradicts_a_relative_clause_in_the_progressive(draws: list[SentencePair]) -> None:
    ongoing = [pair for pair in draws if Fact("ongoing") in pair.facts]
    assert ongoing
    for pair in ongoing:
        assert pair.source.count("正在") == 1
        # "did" and "were" would go on: who is swimming, or was?
        assert not re.search(r"\b(did|was|were|yesterday|last)\b", pair.target, re.IGNORECASE), pair.target


def test_the_vocabulary_is_modest(corpus: EmbeddedCorpus) -> None:
    words = {fact.word for pair in corpus.train for fact in pair.facts}
    assert 150 <= len(words) <= 250


def test_two_is_liang_before_classifiers(draws: list[SentencePair]) -> None:
    # 二 is left to tens (二十) and to what follows them (十二).
    for pair in draws:
        if "二" in pair.source:
            before, after = pair.source.split("二", 1)
            assert before.endswith("十") or after.startswith("十"), pair.source


@pytest.mark.parametrize(
    ("number", "zh", "en"),
    [
        (1, "一", "one"),
        (2, "两", "two"),
        (9, "九", "nine"),
        (10, "十", "ten"),
        (12, "十二", "twelve"),
        (20, "二十", "twenty"),
        (22, "二十二", "twenty-two"),
        (40, "四十", "forty"),
        (99, "九十九", "ninety-nine"),
    ],
)
def test_numbers(number: int, zh: str, en: str) -> None:
    assert (chinese_number(number), english_number(number)) == (zh, en)


@pytest.mark.parametrize(
    ("noun", "classifier", "number", "zh", "en"),
    [
        ("猫", "只", 1, "一只猫", "a cat"),
        ("苹果", "个", 1, "一个苹果", "an apple"),
        ("学生", "个", 2, "两个学生", "two students"),
        ("书", "本", 3, "三本书", "three books"),
        ("羊", "只", 3, "三只羊", "three sheep"),
        ("刀", "把", 4, "四把刀", "four knives"),
        ("茶", "杯", 2, "两杯茶", "two cups of tea"),
        ("水", "杯", 1, "一杯水", "a glass of water"),
        ("苹果", "袋", 1, "一袋苹果", "a bag of apples"),
        ("鞋", "双", 5, "五双鞋", "five pairs of shoes"),
        ("面包", "条", 2, "两条面包", "two loaves of bread"),
    ],
)
def test_counting(noun: str, classifier: str, number: int, zh: str, en: str) -> None:
    phrase = counted(NOUN[noun], classifier, number)
    assert (phrase.zh, phrase.en) == (zh, en)


def action(subject: str, verb: Verb, tense: Tense, thing: Phrase, **parts: Phrase) -> Clause:
    return Clause(subject=pronoun(subject), verb=verb, tense=tense, object=thing, **parts)  # type: ignore[arg-type]


A_BOOK = counted(NOUN["书"], "本", 1)
CATS = bare(NOUN["猫"], "generic")
AT_SCHOOL = Phrase("在学校", "at school")
YESTERDAY = Phrase("昨天", "yesterday")
TOMORROW = Phrase("明天", "tomorrow")
OFTEN = Phrase("常常", "often")


@pytest.mark.parametrize(
    ("clause", "mood", "zh", "en"),
    [
        (
            action("我", READ, Tense.PAST, A_BOOK, time=YESTERDAY, place=AT_SCHOOL),
            Mood.TOLD,
            "我昨天在学校看了一本书。",
            "I read a book at school yesterday.",
        ),
        (
            action("她", READ, Tense.PAST, bare(NOUN["书"], "none"), time=YESTERDAY),
            Mood.DENIED,
            "她昨天没有看书。",
            "She did not read a book yesterday.",
        ),
        (
            action("她", READ, Tense.PROGRESSIVE, A_BOOK, place=AT_SCHOOL),
            Mood.TOLD,
            "她正在学校看一本书。",
            "She is reading a book at school.",
        ),
        (
            action("他们", VERB["喂"], Tense.HABIT, CATS, adverb=OFTEN),
            Mood.ASKED,
            "他们常常喂猫吗？",
            "Do they often feed cats?",
        ),
        (
            action("他", VERB["喜欢"], Tense.STATE, CATS),
            Mood.DENIED,
            "他不喜欢猫。",
            "He does not like cats.",
        ),
        (
            action("他", VERB["有"], Tense.STATE, bare(NOUN["猫"], "none")),
            Mood.DENIED,
            "他没有猫。",
            "He does not have a cat.",
        ),
        (
            action("他", VERB["有"], Tense.STATE, bare(NOUN["水"], "none")),
            Mood.ASKED,
            "他有水吗？",
            "Does he have any water?",
        ),
        (
            action("我", VERB["吃"], Tense.PERFECT, bare(NOUN["饺子"], "generic")),
            Mood.DENIED,
            "我没吃过饺子。",
            "I have never eaten dumplings.",
        ),
        (
            action("他们", VERB["吃"], Tense.PERFECT, bare(NOUN["饺子"], "generic")),
            Mood.ASKED,
            "他们吃过饺子吗？",
            "Have they ever eaten dumplings?",
        ),
        (
            action("我们", VERB["画"], Tense.FUTURE, CATS, time=TOMORROW),
            Mood.TOLD,
            "我们明天会画猫。",
            "We will draw cats tomorrow.",
        ),
        (
            action("我们", VERB["画"], Tense.ABILITY, CATS),
            Mood.DENIED,
            "我们不会画猫。",
            "We cannot draw cats.",
        ),
        (
            action("她", VERB["买"], Tense.WISH, A_BOOK),
            Mood.TOLD,
            "她想买一本书。",
            "She wants to buy a book.",
        ),
        (
            action("她", VERB["帮助"], Tense.PAST, pronoun("我")),
            Mood.ASKED,
            "她帮助了我吗？",
            "Did she help me?",
        ),
        (
            action("我", VERB["买"], Tense.PAST, A_BOOK, recipient=Phrase("给他", "for him")),
            Mood.TOLD,
            "我给他买了一本书。",
            "I bought a book for him.",
        ),
    ],
)
def test_clauses(clause: Clause, mood: Mood, zh: str, en: str) -> None:
    assert say(clause, mood)[:2] == (zh, en)


def test_questions_with_a_question_word() -> None:
    what, who = Phrase("什么", "what"), Phrase("谁", "who")
    bought = action("你", VERB["买"], Tense.PAST, what, time=YESTERDAY)
    likes = Clause(subject=who, verb=VERB["喜欢"], tense=Tense.STATE, object=CATS)
    awaited = action("你", VERB["等"], Tense.PROGRESSIVE, who)
    assert ask(bought, about="object")[:2] == ("你昨天买了什么？", "What did you buy yesterday?")
    assert ask(likes, about="subject")[:2] == ("谁喜欢猫？", "Who likes cats?")
    assert ask(awaited, about="object")[:2] == ("你正在等谁？", "Who are you waiting for?")


def test_relative_clauses() -> None:
    bought = Clause(subject=pronoun("我"), verb=VERB["买"], tense=Tense.PAST, time=YESTERDAY)
    book = that_is_acted_on(NOUN["书"], bought)
    books = that_is_acted_on(NOUN["书"], bought, "本", 3)
    likes = Clause(verb=VERB["喜欢"], tense=Tense.STATE, object=CATS)
    expensive = Phrase("很贵", "expensive")
    assert is_so(book, expensive)[:2] == (
        "我昨天买的书很贵。",
        "The book I bought yesterday is expensive.",
    )
    assert is_so(books, expensive)[:2] == (
        "我昨天买的三本书很贵。",
        "The three books I bought yesterday are expensive.",
    )
    student = NOUN["学生"]
    assert that_acts(student, likes)[:2] == ("喜欢猫的学生", "the student who likes cats")
    assert that_acts(student, likes, "个", 1)[:2] == ("一个喜欢猫的学生", "a student who likes cats")
    assert that_acts(student, likes, "个", 2)[:2] == ("喜欢猫的两个学生", "the two students who like cats")
    assert Fact("object", "买", "书") in book.facts
    assert Fact("relative") in book.facts


def test_ba_puts_the_object_before_the_verb() -> None:
    put = Verb("放在", "put", "put", "put", "", (), (Tense.PAST,), (), "", "放")
    goal = Phrase("桌子上", "on the table")
    clause = Clause(
        subject=pronoun("他"),
        verb=put,
        tense=Tense.PAST,
        object=bare(NOUN["书"], "the"),
        goal=goal,
        time=YESTERDAY,
        ba=True,
    )
    assert say(clause, Mood.TOLD)[:2] == (
        "他昨天把书放在桌子上了。",
        "He put the book on the table yesterday.",
    )
    assert say(clause, Mood.DENIED)[0] == "他昨天没有把书放在桌子上。"
    assert say(clause, Mood.ASKED)[1] == "Did he put the book on the table yesterday?"


def test_a_request_does_not_speak_of_its_subject() -> None:
    close = Verb("关上", "close", "closed", "closed", "", (), (Tense.PAST,), (), "", "关上")
    door = bare(NOUN["门"], "the")
    clause = Clause(subject=pronoun("他"), verb=close, tense=Tense.PAST, object=door, ba=True)
    assert request(clause, Mood.TOLD)[:2] == ("请把门关上。", "Please close the door.")
    assert request(clause, Mood.DENIED)[:2] == ("请不要把门关上。", "Please do not close the door.")


def test_each_noun_has_verbs_and_a_classifier_unless_it_is_a_language() -> None:
    for noun in NOUNS:
        assert bool(noun.units) != ("language" in noun.kinds)
        assert noun.number is not Number.COUNT or None in noun.units.values()
        assert any(noun in verb.objects for verb in VERBS), noun.zh


# The splits


def test_sizes(corpus: EmbeddedCorpus) -> None:
    parts = (corpus.train, corpus.valid, corpus.test_seen, corpus.test_new, corpus.test)
    assert [len(part) for part in parts] == [24_000, 500, 500, 500, 1_000]


def test_no_sentence_of_either_language_is_in_two_places(corpus: EmbeddedCorpus) -> None:
    pairs = corpus.train + corpus.valid + corpus.test
    assert len({pair.source for pair in pairs}) == len(pairs)
    assert len({pair.target for pair in pairs}) == len(pairs)


def test_no_held_out_combination_is_trained(corpus: EmbeddedCorpus) -> None:
    for pair in corpus.train + corpus.valid + corpus.test_seen:
        assert not combinations_of(pair) & corpus.held_out, pair


def test_held_out_verbs_and_nouns_never_meet_in_the_written_training_text(corpus: EmbeddedCorpus) -> None:
    # By string and not by structure, for words that are inside no other word (and 好吃 is no 吃).
    words = {fact.word for pair in corpus.train for fact in pair.facts}
    alone = [word for word in words if not any(word in other for other in words - {word})]
    verb_noun = [held for held in corpus.held_out if held.kind == "verb-noun"]
    held_out = [held for held in verb_noun if held.first in alone and held.second in alone]
    sources = [pair.source.replace("好吃", "") for pair in corpus.train]
    assert len(held_out) > 5
    for held in held_out:
        assert not any(held.first in source and held.second in source for source in sources), held


def test_held_out_classifiers_are_not_written_before_their_noun(corpus: EmbeddedCorpus) -> None:
    text = "\n".join(pair.source for pair in corpus.train)
    for held in corpus.held_out:
        if held.kind == "classifier-noun":
            assert held.first + held.second not in text


def test_held_out_relative_clauses_are_in_no_such_training_question(corpus: EmbeddedCorpus) -> None:
    held = {(one.first, one.second) for one in corpus.held_out if one.kind == "relative-question"}
    assert {word for _, word in held} == {"吗", "什么", "哪里"}
    met: Counter[str] = Counter()
    for pair in corpus.train:
        asked = [word for word in QUESTION_WORDS if word in pair.source and pair.source.endswith("？")]
        for fact in pair.facts:
            if fact.kind == "relative verb":
                met[fact.word] += 1
                assert not any((fact.word, word) in held for word in asked[:1])
    # The verb is in relative clauses of training all the same, and relative clauses are in its questions.
    assert all(met[verb] >= 5 for verb, _ in held), met


def test_each_new_sentence_holds_a_held_out_combination_of_each_kind(corpus: EmbeddedCorpus) -> None:
    kinds: Counter[str] = Counter()
    for pair in corpus.test_new:
        held = close_combinations_of(pair) & corpus.held_out
        assert held, pair
        kinds.update({combination.kind for combination in held})
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) >= len(corpus.test_new) // 3


def test_many_different_combinations_are_tested(corpus: EmbeddedCorpus) -> None:
    tested = Counter(
        held for pair in corpus.test_new for held in close_combinations_of(pair) & corpus.held_out
    )
    assert len(tested) >= 0.8 * len(corpus.held_out)
    assert max(tested.values()) < 0.1 * len(corpus.test_new)


def test_seen_combinations_are_seen(corpus: EmbeddedCorpus) -> None:
    trained = frozenset().union(*(close_combinations_of(pair) for pair in corpus.train))
    for pair in corpus.valid + corpus.test_seen:
        assert close_combinations_of(pair) <= trained, pair


def english_words(pair: SentencePair) -> list[str]:
    return pair.target[:-1].lower().replace("-", " ").split()


def test_each_word_of_the_test_is_well_known_from_training(corpus: EmbeddedCorpus) -> None:
    trained = Counter(fact.word for pair in corpus.train for fact in pair.facts)
    tested = {fact.word for pair in corpus.test for fact in pair.facts}
    assert {word: trained[word] for word in tested if trained[word] < 20} == {}
    english = Counter(word for pair in corpus.train for word in english_words(pair))
    wanted = {word for pair in corpus.test for word in english_words(pair)}
    assert {word: english[word] for word in wanted if english[word] < 5} == {}


def test_each_construction_is_well_known_from_training(corpus: EmbeddedCorpus) -> None:
    trained = Counter(pair.construction for pair in corpus.train)
    assert min(trained[name] for name in CONSTRUCTIONS) > 200
    relatives = sum(Fact("relative") in pair.facts for pair in corpus.train)
    questions = sum(Fact("question") in pair.facts for pair in corpus.train)
    assert min(relatives, questions) > 2_000


def test_the_named_sentences_are_in_the_test_and_not_in_training(corpus: EmbeddedCorpus) -> None:
    assert I_HAVE_A_CAT[:2] == ("我有一只猫。", "I have a cat.")
    assert I_AM_A_STUDENT[:2] == ("我是一个学生。", "I am a student.")
    assert set(NAMED_PAIRS) <= set(corpus.test)
    trained = {pair.target for pair in corpus.train} | {pair.source for pair in corpus.train}
    for pair in NAMED_PAIRS:
        assert not trained & set(pair[:2])


def test_the_named_sentences_are_what_the_grammar_makes() -> None:
    cat = say(action("我", VERB["有"], Tense.STATE, counted(NOUN["猫"], "只", 1)), Mood.TOLD)
    student = counted(NOUN["学生"], "个", 1)
    job = is_so(pronoun("我"), student._replace(zh=f"是{student.zh}"))
    for made, named in ((cat, I_HAVE_A_CAT), (job, I_AM_A_STUDENT)):
        assert (made.source, made.target, set(made.facts)) == (named.source, named.target, set(named.facts))
        assert named.construction in CONSTRUCTIONS


SMALL = {"train_size": 1_000, "valid_size": 20, "test_size": 40}


@pytest.fixture(scope="module")
def small() -> EmbeddedCorpus:
    return build_corpus(**SMALL)


def test_the_seed_decides(small: EmbeddedCorpus) -> None:
    assert build_corpus(seed=0, **SMALL) == small
    other = build_corpus(seed=4, **SMALL)
    assert other.train != small.train
    assert other.held_out != small.held_out


@pytest.mark.parametrize("seed", [1, 2])
def test_other_seeds_keep_the_promises(seed: int) -> None:
    corpus = build_corpus(seed=seed, **SMALL)
    trained = {text for pair in corpus.train for text in pair[:2]}
    assert not trained & {text for pair in corpus.test + corpus.valid for text in pair[:2]}
    assert not any(combinations_of(pair) & corpus.held_out for pair in corpus.train)
    assert all(close_combinations_of(pair) & corpus.held_out for pair in corpus.test_new)


def test_the_corpus_does_not_depend_on_how_strings_hash(small: EmbeddedCorpus, tmp_path: Path) -> None:
    code = (
        "import sys; from vanilla_transformer.training.embedded_corpus import build_corpus, write_corpus;"
        f"write_corpus(build_corpus(**{SMALL}), sys.argv[1])"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "other")], check=True, env=environment)
    write_corpus(small, tmp_path / "this")
    for path in sorted((tmp_path / "this").iterdir()):
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"train_size": 0}, "`train_size` must be positive, but is 0 instead."),
        ({"valid_size": -1}, "`valid_size` must be positive, but is -1 instead."),
        ({"test_size": 7}, "`test_size` must be even and at least 4, but is 7 instead."),
        ({"test_size": 2}, "`test_size` must be even and at least 4, but is 2 instead."),
    ],
)
def test_sizes_that_cannot_be(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_corpus(**sizes)


def test_too_few_sentences_to_have_the_words_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_corpus, "_PATIENCE", 500)
    with pytest.raises(InputError, match="`train_size` is too small"):
        build_corpus(train_size=10, valid_size=20, test_size=40)


# The files


def test_the_files(small: EmbeddedCorpus, tmp_path: Path) -> None:
    write_corpus(small, tmp_path / "new" / "folder")
    parts = {
        "train": small.train,
        "valid": small.valid,
        "test": small.test,
        "test_seen_combinations": small.test_seen,
        "test_new_combinations": small.test_new,
    }
    folder = tmp_path / "new" / "folder"
    expected = {f"{name}.{language}" for name in parts for language in ("zh", "en")}
    assert {path.name for path in folder.iterdir()} == expected
    for name, pairs in parts.items():
        lines = [
            (folder / f"{name}.{language}").read_bytes().decode().split("\n") for language in ("zh", "en")
        ]
        assert lines == [[pair.source for pair in pairs] + [""], [pair.target for pair in pairs] + [""]]


def test_nothing_half_written_stays_when_the_disk_is_full(
    small: EmbeddedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(small, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path: Path, lines: object) -> None:
        path.write_text("half a")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vanilla_transformer.training.embedded_corpus._write_lines", full)
    with pytest.raises(OSError, match="No space left"):
        write_corpus(small, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def arguments(folder: Path, **changes: int) -> list[str]:
    options = SMALL | changes
    return [
        "--output_dir",
        str(folder),
        *(word for name, size in options.items() for word in (f"--{name}", str(size))),
    ]


def test_the_script_writes_what_the_library_builds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_demo_corpus.main([*arguments(tmp_path / "script"), "--seed", "9"]) == 0
    assert "1000 training, 20 validation and 40 test pairs" in capsys.readouterr().out
    write_corpus(build_corpus(seed=9, **SMALL), tmp_path / "library")
    for path in sorted((tmp_path / "library").iterdir()):
        assert path.read_bytes() == (tmp_path / "script" / path.name).read_bytes(), path.name


def test_the_script_says_in_one_line_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_demo_corpus.main(arguments(tmp_path, test_size=5)) == 2
    assert capsys.readouterr().err == "error: `test_size` must be even and at least 4, but is 5 instead.\n"
    file = tmp_path / "file"
    file.touch()
    assert make_demo_corpus.main(arguments(file)) == 2
    assert capsys.readouterr().err == f"error: `{file}` is not a folder.\n"
    assert make_demo_corpus.main(arguments(file / "below")) == 2
    assert capsys.readouterr().err.startswith("error: ")
