"""The words of the embedded Chinese-English corpus: tables only, and the English endings of each word.

A word has one English meaning in a given place, so that whoever knows the tables knows the translation.
Where a Chinese verb has two (看 is "read" for books, "watch" for movies), the noun beside it decides.

Nouns belong to *kinds* (person, pet, book, drink, ...). Verbs and adjectives list what they go with as a line
of kinds and single nouns: 洗 "wash" takes "clothing fruit 杯子 汽车".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache

__all__ = [
    "ADJECTIVES",
    "ADULT_AGES",
    "AGES",
    "BA_VERBS",
    "DIGITS",
    "GO",
    "INTRANSITIVES",
    "KIN",
    "FREQUENCIES",
    "NAMES",
    "NOUNS",
    "PLACES",
    "PRONOUNS",
    "SPOTS",
    "TIMES",
    "VERBS",
    "Adjective",
    "Number",
    "Noun",
    "Place",
    "Pronoun",
    "Spot",
    "Tense",
    "Verb",
    "nouns_of",
    "plural_of",
]


class Number(Enum):
    """How English counts a noun: one cat and two cats, (some) tea, always-plural shoes."""

    COUNT = "count"
    MASS = "mass"
    PLURAL = "plural"


class Tense(Enum):
    """What the Chinese marks around the verb, and English in the verb. Each has a Chinese sign of its own."""

    STATE = "喜欢: likes"
    HABIT = "每天喝: drinks every day"
    PROGRESSIVE = "正在喝: is drinking"
    PAST = "喝了: drank"
    PERFECT = "喝过: has drunk"
    FUTURE = "明天会喝: will drink tomorrow"
    WISH = "想喝: wants to drink"
    ABILITY = "会喝 without a time: can drink"


@dataclass(frozen=True, slots=True, eq=False)
class Noun:
    """A noun with the classifiers it takes.

    Attributes:
        zh: The Chinese word.
        singular: English for one (or for any amount of it, if it is not counted).
        plural: English for several.
        units: Classifier -> None where English has no word for it (一本书 "a book"), or the English
            measure word (一杯茶 "a cup of tea").
        kinds: The kinds that verbs and adjectives select by.
        number: How English counts it.
    """

    zh: str
    singular: str
    plural: str
    units: dict[str, str | None]
    kinds: frozenset[str]
    number: Number


@dataclass(frozen=True, slots=True, eq=False)
class Verb:
    """A verb of either language, with all it needs to be inflected and to be given a fitting sentence.

    Attributes:
        zh: The Chinese word.
        base, past, participle: English forms without the particle.
        particle: What English adds behind the verb (look *for*), with its leading space, or "".
        objects: The nouns it may act on.
        tenses: The tenses it is used in.
        places: The places (their Chinese words) where it happens.
        units: Which measure words its objects may come in: "" none, "made" (bowls, loaves), "serving" (also
            cups and slices) or "any".
        key: The word that the splits know it by (修 for 修好).
    """

    zh: str
    base: str
    past: str
    participle: str
    particle: str
    objects: tuple[Noun, ...]
    tenses: tuple[Tense, ...]
    places: tuple[str, ...]
    units: str
    key: str

    @property
    def third(self) -> str:
        """he likes, she watches, it flies."""
        irregular = {"have": "has", "go": "goes"}
        return irregular.get(self.base) or plural_of(self.base)

    @property
    def ing(self) -> str:
        """making, swimming, reading."""
        if self.base in {"swim", "run", "put"}:
            return f"{self.base}{self.base[-1]}ing"
        return f"{self.base.removesuffix('e')}ing"


@dataclass(frozen=True, slots=True, eq=False)
class Adjective:
    """An adjective, the nouns it can be said of, and the form it takes before a noun (None: it never is)."""

    zh: str
    en: str
    nouns: tuple[Noun, ...]
    attributive: str | None
    passing: bool


@dataclass(frozen=True, slots=True, eq=False)
class Pronoun:
    """A personal pronoun in its three English cases; `agreement` is "first", "singular" or "plural"."""

    zh: str
    subject: str
    object: str
    possessive: str
    agreement: str


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A place: where something happens (在`inside` "at ...") and where one goes (去`zh` "to ...")."""

    zh: str
    inside: str
    at: str
    to: str


@dataclass(frozen=True, slots=True, eq=False)
class Spot:
    """A spot where things are: 桌子上 "on the table", the noun in it, and the nouns found there."""

    zh: str
    en: str
    noun: str
    contents: tuple[Noun, ...]


def plural_of(word: str) -> str:
    """The regular English ending -s: cats, boxes, dictionaries, loaves, and of verbs: watches, studies."""
    if word.endswith("f"):
        return f"{word[:-1]}ves"
    if word.endswith(("ch", "sh", "s", "x")):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"


def _noun(
    zh: str, en: str, units: str, kinds: str, *, number: Number = Number.COUNT, plural: str = ""
) -> Noun:
    if number is not Number.COUNT:
        plural = en
    parts = [unit.partition("=") for unit in units.split()]
    by_classifier = {classifier: measure or None for classifier, _, measure in parts}
    return Noun(zh, en, plural or plural_of(en), by_classifier, frozenset(kinds.split()), number)


def _mass(zh: str, en: str, units: str, kinds: str) -> Noun:
    return _noun(zh, en, units, kinds, number=Number.MASS)


def _plural(zh: str, en: str, units: str, kinds: str) -> Noun:
    return _noun(zh, en, units, kinds, number=Number.PLURAL)


# Chinese, English, classifiers (=measure word where English has one), kinds.
NOUNS: tuple[Noun, ...] = (
    _noun("学生", "student", "个 名", "person job relation"),
    _noun("老师", "teacher", "个 位 名", "person job relation adult"),
    _noun("医生", "doctor", "个 位 名", "person job adult"),
    _noun("护士", "nurse", "个 位 名", "person job adult"),
    _noun("司机", "driver", "个 位 名", "person job adult"),
    _noun("警察", "police officer", "个 位 名", "person job adult"),
    _noun("工程师", "engineer", "个 位 名", "person job adult"),
    _noun("作家", "writer", "个 位 名", "person job adult"),
    _noun("演员", "actor", "个 位 名", "person job adult"),
    _noun("朋友", "friend", "个 位", "person relation"),
    _noun("邻居", "neighbor", "个 位", "person relation"),
    _noun("客人", "guest", "个 位", "person relation"),
    _noun("孩子", "child", "个", "person", plural="children"),
    _noun("男人", "man", "个", "person adult", plural="men"),
    _noun("女人", "woman", "个", "person adult", plural="women"),
    _noun("猫", "cat", "只", "animal pet"),
    _noun("狗", "dog", "只 条", "animal pet"),
    _noun("鸟", "bird", "只", "animal pet"),
    _noun("兔子", "rabbit", "只", "animal pet"),
    _noun("鱼", "fish", "条", "animal pet", plural="fish"),
    _noun("马", "horse", "匹", "animal farm"),
    _noun("羊", "sheep", "只 头", "animal farm", plural="sheep"),
    _noun("猪", "pig", "头 只", "animal farm"),
    _noun("牛", "cow", "头", "animal farm"),
    _noun("猴子", "monkey", "只", "animal wild"),
    _noun("大象", "elephant", "头 只", "animal wild"),
    _noun("熊猫", "panda", "只", "animal wild"),
    _noun("书", "book", "本", "book own"),
    _noun("杂志", "magazine", "本 份", "book own"),
    _noun("小说", "novel", "本 部", "book own"),
    _noun("词典", "dictionary", "本 部", "book own"),
    _noun("报纸", "newspaper", "份", "book own"),
    _noun("信", "letter", "封", "paper own"),
    _noun("照片", "photo", "张", "paper own"),
    _noun("票", "ticket", "张", "paper own"),
    _noun("地图", "map", "张 份", "paper own"),
    _noun("电影", "movie", "部", "movie"),
    _noun("衬衫", "shirt", "件", "clothing own"),
    _noun("外套", "coat", "件", "clothing own"),
    _noun("毛衣", "sweater", "件", "clothing own"),
    _noun("裙子", "skirt", "条", "clothing own"),
    _noun("帽子", "hat", "顶 个", "clothing own"),
    _plural("鞋", "shoes", "双=pair", "clothing own"),
    _plural("袜子", "socks", "双=pair", "clothing own"),
    _plural("手套", "gloves", "双=pair", "clothing own"),
    _noun("钥匙", "key", "把", "thing own"),
    _noun("雨伞", "umbrella", "把", "thing own"),
    _noun("笔", "pen", "支", "thing own"),
    _noun("铅笔", "pencil", "支", "thing own"),
    _noun("刀", "knife", "把", "thing own", plural="knives"),
    _noun("手表", "watch", "块 只", "thing own"),
    _noun("杯子", "cup", "个 只", "thing own"),
    _noun("箱子", "box", "个 只", "thing own"),
    _noun("包", "bag", "个", "thing own"),
    _noun("手机", "phone", "部 个", "device own"),
    _noun("相机", "camera", "台 部", "device own"),
    _noun("电脑", "computer", "台 部", "device own"),
    _noun("桌子", "table", "张", "furniture own"),
    _noun("椅子", "chair", "把 张", "furniture own"),
    _noun("床", "bed", "张", "furniture own"),
    _noun("自行车", "bicycle", "辆", "vehicle own"),
    _noun("汽车", "car", "辆 部", "vehicle own"),
    _noun("船", "boat", "条 艘", "vehicle own"),
    _noun("房子", "house", "座", "building own"),
    _noun("门", "door", "扇", "opening"),
    _noun("窗户", "window", "扇", "opening"),
    _noun("花", "flower", "朵 束=bunch", "flower"),
    _noun("树", "tree", "棵", "tree"),
    _noun("苹果", "apple", "个 袋=bag 箱=case", "fruit edible"),
    _noun("橙子", "orange", "个 袋=bag 箱=case", "fruit edible"),
    _noun("香蕉", "banana", "根 个 袋=bag 箱=case", "fruit edible"),
    _noun("鸡蛋", "egg", "个 盒=box 袋=bag", "edible"),
    _noun("三明治", "sandwich", "个 盘=plate", "edible cooked"),
    _noun("汉堡", "hamburger", "个", "edible cooked"),
    _noun("饼干", "cookie", "块 盒=box 袋=bag 盘=plate", "edible cooked"),
    _mass("面包", "bread", "条=loaf 片=slice 袋=bag", "edible cooked"),
    _mass("巧克力", "chocolate", "块=piece", "edible"),
    _mass("肉", "meat", "块=piece 片=slice 盘=plate", "edible"),
    _mass("米饭", "rice", "碗=bowl 盘=plate", "edible"),
    _plural("面条", "noodles", "碗=bowl 盘=plate", "edible cooked"),
    _plural("饺子", "dumplings", "碗=bowl 盘=plate", "edible cooked"),
    _mass("茶", "tea", "杯=cup 壶=pot", "drink"),
    _mass("咖啡", "coffee", "杯=cup 壶=pot", "drink"),
    _mass("水", "water", "杯=glass 瓶=bottle 箱=case", "drink"),
    _mass("牛奶", "milk", "杯=glass 瓶=bottle 箱=case", "drink"),
    _mass("果汁", "juice", "杯=glass 瓶=bottle 箱=case", "drink"),
    _mass("啤酒", "beer", "杯=glass 瓶=bottle 箱=case", "drink"),
    _mass("中文", "Chinese", "", "language"),
    _mass("英语", "English", "", "language"),
    _mass("法语", "French", "", "language"),
    _mass("日语", "Japanese", "", "language"),
)


@cache
def nouns_of(line: str) -> tuple[Noun, ...]:
    """The nouns of a line of kinds and Chinese nouns ("clothing 杯子"), in the order of `NOUNS`."""
    wanted = set(line.split())
    return tuple(noun for noun in NOUNS if noun.zh in wanted or noun.kinds & wanted)


PRONOUNS: tuple[Pronoun, ...] = (
    Pronoun("我", "I", "me", "my", "first"),
    Pronoun("你", "you", "you", "your", "plural"),
    Pronoun("他", "he", "him", "his", "singular"),
    Pronoun("她", "she", "her", "her", "singular"),
    Pronoun("我们", "we", "us", "our", "plural"),
    Pronoun("他们", "they", "them", "their", "plural"),
)

NAMES: tuple[tuple[str, str], ...] = (("小明", "Xiaoming"), ("李华", "Li Hua"), ("王芳", "Wang Fang"))

# Kinship terms stand directly behind the pronoun: 我妈妈 "my mother".
KIN: tuple[tuple[str, str], ...] = (
    ("妈妈", "mother"),
    ("爸爸", "father"),
    ("哥哥", "older brother"),
    ("妹妹", "younger sister"),
    ("爷爷", "grandfather"),
    ("奶奶", "grandmother"),
)

# How old, in years, the people are whom a sentence gives an age.
AGES: dict[str, tuple[int, int]] = {
    "妈妈": (28, 59),
    "爸爸": (28, 59),
    "哥哥": (12, 39),
    "妹妹": (2, 25),
    "爷爷": (60, 95),
    "奶奶": (60, 95),
    "学生": (7, 25),
    "孩子": (2, 12),
}
ADULT_AGES = (20, 69)

PLACES: dict[str, Place] = {
    place.zh: place
    for place in (
        Place("家", "家", "at home", "home"),
        Place("学校", "学校", "at school", "to school"),
        Place("图书馆", "图书馆", "at the library", "to the library"),
        Place("教室", "教室里", "in the classroom", "to the classroom"),
        Place("办公室", "办公室", "in the office", "to the office"),
        Place("医院", "医院", "at the hospital", "to the hospital"),
        Place("饭馆", "饭馆", "at the restaurant", "to the restaurant"),
        Place("商店", "商店", "at the store", "to the store"),
        Place("市场", "市场", "at the market", "to the market"),
        Place("车站", "车站", "at the station", "to the station"),
        Place("机场", "机场", "at the airport", "to the airport"),
        Place("公园", "公园", "in the park", "to the park"),
        Place("花园", "花园里", "in the garden", "to the garden"),
        Place("厨房", "厨房里", "in the kitchen", "to the kitchen"),
        Place("海边", "海边", "at the beach", "to the beach"),
        Place("北京", "北京", "in Beijing", "to Beijing"),
        Place("上海", "上海", "in Shanghai", "to Shanghai"),
    )
}

# Time words stand before the Chinese verb and behind the English sentence; each belongs to one tense.
TIMES: dict[Tense, tuple[tuple[str, str], ...]] = {
    Tense.PAST: (
        ("昨天", "yesterday"),
        ("前天", "the day before yesterday"),
        ("昨天晚上", "last night"),
        ("昨天下午", "yesterday afternoon"),
        ("上个星期", "last week"),
    ),
    Tense.HABIT: (("每天", "every day"), ("每天早上", "every morning"), ("每天晚上", "every night")),
    Tense.FUTURE: (
        ("明天", "tomorrow"),
        ("后天", "the day after tomorrow"),
        ("明天早上", "tomorrow morning"),
        ("明天下午", "tomorrow afternoon"),
        ("下个星期", "next week"),
    ),
}

# Frequency stands before the verb in both languages.
FREQUENCIES: tuple[tuple[str, str], ...] = (("常常", "often"), ("有时候", "sometimes"))

_TENSE_LETTERS = {
    "S": Tense.STATE,
    "H": Tense.HABIT,
    "G": Tense.PROGRESSIVE,
    "P": Tense.PAST,
    "E": Tense.PERFECT,
    "F": Tense.FUTURE,
    "W": Tense.WISH,
    "A": Tense.ABILITY,
}


def _verb(
    zh: str, en: str, tenses: str, *, objects: str = "", places: str = "", units: str = "", key: str = ""
) -> Verb:
    """`en` is "base past participle" and, if there is one, the particle: "look looked looked for"."""
    base, past, participle, *rest = en.split()
    particle = "".join(f" {word}" for word in rest)
    when = tuple(_TENSE_LETTERS[letter] for letter in tenses)
    where = tuple(places.split())
    return Verb(zh, base, past, participle, particle, nouns_of(objects), when, where, units, key or zh)


_GOODS = "book clothing device furniture vehicle building fruit edible drink 花 票 地图"
_GOODS += " 雨伞 笔 铅笔 刀 手表 杯子 箱子 包"
_CARRIED = "thing device book clothing paper"

VERBS: tuple[Verb, ...] = (
    _verb(
        "吃", "eat ate eaten", "HGPFWE", objects="edible", places="家 学校 饭馆 公园 厨房", units="serving"
    ),
    _verb("喝", "drink drank drunk", "HGPFW", objects="drink", places="家 办公室 饭馆 厨房", units="serving"),
    _verb(
        "买", "buy bought bought", "PFW", objects=f"{_GOODS} pet", places="商店 市场 北京 上海", units="any"
    ),
    _verb(
        "卖",
        "sell sold sold",
        "HP",
        objects="fruit edible 花 drink book clothing",
        places="商店 市场 车站",
        units="any",
    ),
    _verb("卖", "sell sold sold", "P", objects="device furniture vehicle pet farm 房子", places="市场"),
    _verb(
        "看",
        "read read read",
        "HGPFWE",
        objects="书 杂志 小说 报纸 信",
        places="家 学校 图书馆 教室 办公室 公园",
    ),
    _verb("看", "watch watched watched", "GPFWE", objects="movie", places="家 学校 北京"),
    _verb("写", "write wrote written", "GPFW", objects="信", places="家 图书馆 办公室 教室"),
    _verb("写", "write wrote written", "GW", objects="书 小说", places="家 图书馆 办公室"),
    _verb("画", "draw drew drawn", "GPFWHA", objects="animal 花 树 房子 船", places="家 学校 教室 公园 花园"),
    _verb("做", "make made made", "GPFWA", objects="cooked", places="家 厨房 饭馆", units="made"),
    _verb("洗", "wash washed washed", "GPF", objects="clothing 苹果 橙子 杯子 汽车 自行车", places="家"),
    _verb(
        "修",
        "repair repaired repaired",
        "GPFA",
        objects="device furniture vehicle opening 手表 雨伞",
        places="家 商店 学校",
    ),
    _verb(
        "找", "look looked looked for", "G", objects=f"{_CARRIED} pet", places="家 学校 教室 办公室 公园 花园"
    ),
    _verb("找到", "find found found", "P", objects=f"{_CARRIED} pet", places="家 学校 教室 办公室 公园 花园"),
    _verb(
        "丢",
        "lose lost lost",
        "P",
        objects="device 钥匙 雨伞 手表 包 票 词典 帽子 手套",
        places="学校 图书馆 车站 机场 公园 海边",
    ),
    _verb(
        "看见",
        "see saw seen",
        "P",
        objects="person animal vehicle",
        places="公园 海边 北京 上海",
    ),
    _verb(
        "用",
        "use used used",
        "GPHF",
        objects="device 笔 铅笔 词典 雨伞 刀 地图",
        places="家 学校 办公室 教室",
    ),
    _verb("骑", "ride rode ridden", "PFWA", objects="马 自行车", places="公园 海边"),
    _verb("喂", "feed fed fed", "GPHF", objects="pet farm", places="家 花园"),
    _verb("喂", "feed fed fed", "GPHF", objects="wild", places="公园"),
    _verb("帮助", "help helped helped", "GPFWH", objects="job relation 孩子", places="学校 医院 车站 机场"),
    _verb(
        "等", "wait waited waited for", "GF", objects="person", places="学校 图书馆 医院 车站 机场 公园 饭馆"
    ),
    _verb(
        "喜欢",
        "like liked liked",
        "S",
        objects="animal book movie clothing edible drink vehicle 花 language",
    ),
    _verb("讨厌", "hate hated hated", "S", objects="animal movie edible 茶 咖啡 牛奶 果汁 啤酒"),
    _verb("认识", "know knew known", "S", objects="job 孩子 男人 女人 邻居 客人"),
    _verb(
        "有",
        "have had had",
        "S",
        objects="pet farm book thing device clothing furniture vehicle building paper fruit edible drink",
        units="any",
    ),
    _verb(
        "需要",
        "need needed needed",
        "S",
        objects="thing device book clothing furniture 票 地图 drink",
        units="any",
    ),
    _verb(
        "想要",
        "want wanted wanted",
        "S",
        objects="pet device clothing vehicle book building furniture fruit drink 马 花",
        units="any",
    ),
    _verb("说", "speak spoke spoken", "A", objects="language"),
    _verb("学", "learn learned learned", "GW", objects="language", places="家 学校 图书馆 北京 上海"),
    _verb("学", "study studied studied", "H", objects="language", places="家 学校 图书馆 北京 上海"),
)

GO = _verb("去", "go went been", "HPEFW")

_INDOORS = "家 学校 图书馆 办公室 教室"
_CITIES = "北京 上海"

INTRANSITIVES: tuple[Verb, ...] = (
    _verb("睡觉", "sleep slept slept", "GP", places="家 公园 海边 医院"),
    _verb("休息", "rest rested rested", "GPHF", places="家 办公室 公园 花园 海边"),
    _verb("游泳", "swim swam swum", "GPHFWA", places="海边 学校"),
    _verb("跑步", "run ran run", "GPHFW", places="公园 学校 海边"),
    _verb("散步", "take took taken a walk", "GPHFW", places="公园 花园 海边"),
    _verb("唱歌", "sing sang sung", "GPHFWA", places="家 学校 教室 公园 花园"),
    _verb("跳舞", "dance danced danced", "GPHFWA", places="家 学校 公园 海边"),
    _verb(
        "工作",
        "work worked worked",
        "GPHFW",
        places=f"学校 图书馆 办公室 医院 饭馆 商店 市场 机场 车站 {_CITIES}",
    ),
    _verb("学习", "study studied studied", "GPHFW", places=f"{_INDOORS} {_CITIES}"),
    _verb("做饭", "cook cooked cooked", "GPHFWA", places="家 厨房 饭馆"),
    _verb("看电视", "watch watched watched TV", "GPHFW", places="家 饭馆"),
    _verb("听音乐", "listen listened listened to music", "GPHFW", places="家 办公室 公园 厨房 花园"),
    _verb("打篮球", "play played played basketball", "GPHFWA", places="学校 公园"),
    _verb("踢足球", "play played played soccer", "GPHFWA", places="学校 公园 海边"),
)

# 把 puts the object before the verb, which then says what becomes of it; its second word is the result.
BA_VERBS: tuple[Verb, ...] = (
    _verb("放在", "put put put", "P", objects=f"{_CARRIED} fruit 鸡蛋 汉堡", key="放"),
    _verb(
        "忘在",
        "leave left left",
        "P",
        objects="钥匙 雨伞 手机 包 书 词典 票 帽子 外套 手套 相机 电脑",
        key="忘",
    ),
    _verb("给", "give gave given", "P", objects=f"{_CARRIED} 花", key="给"),
    _verb("还给", "return returned returned", "P", objects="book thing device 照片 地图", key="还"),
    _verb("寄给", "send sent sent", "P", objects="book paper clothing", key="寄"),
    _verb("吃", "eat ate eaten", "P", objects="edible", units="serving", key="吃"),
    _verb("喝", "drink drank drunk", "P", objects="drink", units="serving", key="喝"),
    _verb("卖", "sell sold sold", "P", objects="device furniture vehicle book building farm 手表", key="卖"),
    _verb("洗", "wash washed washed", "P", objects="clothing 苹果 橙子 杯子 汽车 自行车", key="洗"),
    _verb(
        "修好",
        "repair repaired repaired",
        "P",
        objects="device furniture vehicle opening 手表 雨伞",
        key="修",
    ),
    _verb("打开", "open opened opened", "P", objects="opening 箱子 包", key="打开"),
    _verb("关上", "close closed closed", "P", objects="opening 箱子", key="关上"),
)


def _adjective(
    zh: str, en: str, nouns: str, *, before: str | None = None, passing: bool = False
) -> Adjective:
    return Adjective(zh, en, nouns_of(nouns), before, passing)


_MADE = "book clothing thing device furniture vehicle building"
_SIZED = "pet farm 猴子 熊猫 furniture building fruit 箱子 包 树 帽子 衬衫 船 汉堡"
_KEPT_CLEAN = "clothing 杯子 汽车 自行车 窗户 床 桌子"
_COLORED = "clothing vehicle 雨伞 笔 包 箱子 花 杯子 手机 椅子 桌子"

# `before` is the form before a noun; `passing` states last a day: 他昨天很忙 "He was busy yesterday".
ADJECTIVES: tuple[Adjective, ...] = (
    _adjective("贵", "expensive", _GOODS, before="很贵的"),
    _adjective("便宜", "cheap", _GOODS, before="便宜的"),
    _adjective("新", "new", _MADE, before="新"),
    _adjective("旧", "old", _MADE, before="旧"),
    _adjective("大", "big", _SIZED, before="大"),
    _adjective("小", "small", _SIZED, before="小"),
    _adjective("漂亮", "beautiful", "clothing flower building 手表 鸟 马 杯子", before="漂亮的"),
    _adjective("有意思", "interesting", "书 小说 杂志 movie", before="有意思的"),
    _adjective("好吃", "delicious", "edible", before="好吃的"),
    _adjective("重", "heavy", "furniture 箱子 包 电脑 词典"),
    _adjective("干净", "clean", _KEPT_CLEAN, before="干净的"),
    _adjective("脏", "dirty", _KEPT_CLEAN),
    _adjective("可爱", "cute", "pet 熊猫 猴子 孩子", before="可爱的"),
    _adjective("聪明", "smart", "person 狗 猴子 猪", before="聪明的"),
    _adjective("年轻", "young", "adult 学生 朋友", before="年轻的"),
    _adjective("有名", "famous", "作家 演员 医生 小说 movie", before="有名的"),
    _adjective("高", "tall", "person tree"),
    _adjective("忙", "busy", "person", passing=True),
    _adjective("累", "tired", "person", passing=True),
    _adjective("饿", "hungry", "person pet", passing=True),
    _adjective("高兴", "happy", "person", passing=True),
    _adjective("生气", "angry", "person", passing=True),
    _adjective("红色的", "red", _COLORED, before="红色的"),
    _adjective("白色的", "white", f"{_COLORED} pet farm", before="白色的"),
    _adjective("黑色的", "black", f"{_COLORED} pet farm", before="黑色的"),
    _adjective("蓝色的", "blue", _COLORED, before="蓝色的"),
)


def _spots(rows: Iterable[tuple[str, str, str, str]]) -> tuple[Spot, ...]:
    return tuple(
        Spot(zh, en, noun, tuple(thing for thing in nouns_of(contents) if thing.zh != noun))
        for zh, en, noun, contents in rows
    )


_SMALL = f"{_CARRIED} fruit 鸡蛋"
_PORTABLE = "book clothing paper device fruit 钥匙 雨伞 笔 铅笔 刀 手表 杯子 鸡蛋"

# Chinese, English, the noun in it, what is found there.
SPOTS: tuple[Spot, ...] = _spots(
    (
        ("桌子上", "on the table", "桌子", f"{_SMALL} edible drink 花 猫"),
        ("椅子上", "on the chair", "椅子", f"{_CARRIED} 猫"),
        ("床上", "on the bed", "床", f"{_CARRIED} 猫 狗"),
        ("箱子里", "in the box", "箱子", _SMALL),
        ("包里", "in the bag", "包", f"{_PORTABLE} 三明治 饼干"),
        ("冰箱里", "in the fridge", "冰箱", "fruit edible 水 牛奶 果汁 啤酒"),
        ("桌子下面", "under the table", "桌子", f"{_CARRIED} 猫 狗 兔子"),
        ("椅子下面", "under the chair", "椅子", f"{_CARRIED} 猫 狗 兔子"),
        ("床下面", "under the bed", "床", f"{_CARRIED} 猫 狗 兔子"),
        ("门后面", "behind the door", "门", "雨伞 箱子 包 猫 狗 椅子 孩子"),
        ("房子后面", "behind the house", "房子", "树 汽车 自行车 狗 猫 马 牛 孩子"),
        ("汽车里", "in the car", "汽车", f"{_CARRIED} 狗 孩子"),
        ("树下面", "under the tree", "树", "猫 狗 马 牛 羊 兔子 椅子 桌子 自行车 孩子"),
        ("花园里", "in the garden", "花园", "花 树 椅子 桌子 猫 狗 鸟 兔子 孩子"),
        ("公园里", "in the park", "公园", "花 树 椅子 鸟 狗 孩子 男人 女人 警察"),
        ("教室里", "in the classroom", "教室", "桌子 椅子 电脑 学生 老师 孩子"),
        ("医院里", "in the hospital", "医院", "医生 护士 孩子 椅子"),
        ("厨房里", "in the kitchen", "厨房", "桌子 椅子 刀 杯子 edible drink 猫"),
    )
)

DIGITS: tuple[tuple[str, str], ...] = (
    ("一", "one"),
    ("二", "two"),
    ("三", "three"),
    ("四", "four"),
    ("五", "five"),
    ("六", "six"),
    ("七", "seven"),
    ("八", "eight"),
    ("九", "nine"),
)
