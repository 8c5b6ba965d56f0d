"""The page in a browser: what it answers, and the whole of it in a headless Chromium."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import parallel_sentences, word_tokenizer

from vanilla_transformer import InputError
from vanilla_transformer.inspection.app import (
    LONGEST,
    MAX_PIECES,
    Translator,
    build_app,
    score_formula,
)
from vanilla_transformer.modeling.translation_vanilla_transformer import Translation

from ..modeling.toy import toy_model

PAIRS = parallel_sentences(4)
SOURCE, EXAMPLE = PAIRS[0][0], PAIRS[1][0]
# Nothing but the page itself is fetched.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --window-size=1280,1600"
)


@pytest.fixture(scope="module")
def translator() -> Translator:
    tokenizer: Any = word_tokenizer(text for pair in PAIRS for text in pair)
    model = toy_model(vocab_size=len(tokenizer), tie_word_embeddings=False)
    model.generation_config.update(max_length=8, max_length_beyond_source=None)
    return Translator(model, tokenizer)


def test_hypotheses_are_those_of_the_beam(translator: Translator) -> None:
    found = translator.translate(SOURCE, 3)
    scores = [one.score or 0.0 for one in found]
    assert len(found) == 3
    assert scores == sorted(scores, reverse=True)
    batch = translator.tokenizer([SOURCE], return_tensors="pt")
    best = translator.model.generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], num_beams=4
    )
    assert found[0].text == translator.tokenizer.decode(best[0], skip_special_tokens=True)


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        ("  ", "Please type a sentence"),
        ("x" * (LONGEST + 1), "has 201 characters; this page takes at most 200"),
        ("x " * MAX_PIECES, "has 101 pieces; this page takes at most 100"),
    ],
)
def test_bad_sentences_are_answered_kindly(translator: Translator, sentence: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        translator.translate(sentence, 1)
    with pytest.raises(InputError, match=message):
        translator.attention(sentence, "cross", 1, 1)


def test_a_translation_too_long_to_draw_is_answered_kindly(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    translator.explain.cache_clear()
    monkeypatch.setattr("vanilla_transformer.inspection.app.MAX_PIECES", 4)
    monkeypatch.setattr(translator, "translate", lambda *args: [Translation("w1 w2 w3 w4")])
    with pytest.raises(InputError, match=r"The translation has \d pieces; this page shows at most 4"):
        translator.alignment(SOURCE)
    translator.explain.cache_clear()


def test_pictures_are_of_the_models_translation(translator: Translator) -> None:
    explanation = translator.explain(SOURCE)
    assert explanation.translation == translator.translate(SOURCE, 1)[0].text
    assert translator.explain(SOURCE) is explanation
    assert translator.attention(SOURCE, "cross", 3, 2).axes[0].get_title() == "layer 3, head 2"
    assert translator.positions(SOURCE) is not None


def test_the_score_is_that_of_the_search(translator: Translator) -> None:
    config = translator.model.generation_config
    assert "log-probability / ((5 + tokens) / 6)^0.6;" in score_formula(config)
    assert "log-probability / tokens^1.0;" in score_formula(type(config)(length_penalty=1.0))


@pytest.fixture
def page(translator: Translator) -> Iterator[str]:
    pytest.importorskip("gradio", reason="gradio is not installed: pip install '.[demo]'")
    app = build_app(translator.model, translator.tokenizer, examples=[EXAMPLE])
    _, address, _ = app.launch(prevent_thread_lock=True, quiet=True, share=False)
    yield address
    app.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator["Browser"]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no browser: install Debian's packages chromium and chromium-driver")
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: pip install '.[dev]'"
    )
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    chromium = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield Browser(chromium)
    chromium.quit()


class Browser:
    """What a person does on the page, and sees."""

    def __init__(self, chromium: Any):
        self.chromium = chromium

    def see(self, expression: str, *args: Any) -> Any:
        """What an expression of JavaScript gives as soon as that is true."""
        from selenium.webdriver.support.ui import WebDriverWait

        def evaluate(chromium: Any) -> Any:
            return chromium.execute_script(f"return {expression}", *args)

        return WebDriverWait(self.chromium, 240).until(evaluate, f"never true: {expression} of {args}")

    def find(self, selector: str, text: str) -> Any:
        """Wait for the element of a CSS selector that shows this text."""
        same = "one => one.innerText.trim() === arguments[1]"
        return self.see(f"[...document.querySelectorAll(arguments[0])].find({same})", selector, text)

    def click(self, selector: str, text: str) -> None:
        self.find(selector, text).click()

    def translate(self, sentence: str) -> None:
        """Type a sentence in the place of what is there, and press the button."""
        from selenium.webdriver.common.keys import Keys

        field = self.see("document.querySelector('#sentence textarea')")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(Keys.DELETE, sentence)
        self.click("button", "Translate")

    def choose(self, name: str, value: int) -> None:
        """Choose an entry of a list."""
        self.see("document.querySelector(arguments[0])", f"#{name} input").click()
        # Not by a click: the list moves while it opens.
        press = "arguments[0].dispatchEvent(new MouseEvent('mousedown', {bubbles: true}))"
        self.chromium.execute_script(press, self.find("[role=option]", str(value)))

    def translation(self, text: str) -> None:
        self.see("document.querySelector('#translation textarea').value === arguments[0]", text)

    def picture(self, name: str, *, after: int = 0) -> int:
        """Wait for a whole picture, of another size in bytes than `after`; returns that size."""
        image = "document.querySelector(arguments[0])"
        whole = f"{image} && {image}.naturalWidth > 200 && {image}.src.length"
        size: int = self.see(f"{whole} !== arguments[1] && {whole}", f"#plot-{name} img", after)
        return size

    def told(self, message: str) -> None:
        self.see("document.body.innerText.includes(arguments[0])", message)


@pytest.mark.slow
def test_the_page_in_a_browser(page: str, browser: Browser, translator: Translator) -> None:
    best = translator.translate(SOURCE, 4)
    browser.chromium.get(page)
    browser.translate(SOURCE)
    browser.translation(best[0].text)
    for one in best:
        browser.see("document.querySelector('#nbest').innerText.includes(arguments[0])", f"{one.score:.3f}")
    picture = browser.picture("cross")
    browser.picture("alignment")
    browser.choose("head-cross", 2)
    other = browser.picture("cross", after=picture)
    browser.click("button[role=tab]", "Self-attention")
    browser.picture("encoder")
    browser.picture("decoder")
    browser.click("button[role=tab]", "Positions")
    browser.picture("positions")
    browser.click("button[role=tab]", "Step by step")
    browser.picture("decoding")
    browser.told("Every stage in numbers")
    browser.told("Encoder input: ")
    browser.translate("")
    browser.told("Please type a sentence.")
    browser.translate("x" * (LONGEST + 1))
    browser.told(f"this page takes at most {LONGEST}.")
    browser.translation(best[0].text)
    browser.click("button", EXAMPLE)
    browser.translation(translator.translate(EXAMPLE, 4)[0].text)
    browser.click("button[role=tab]", "Cross-attention")
    browser.picture("cross", after=other)
