"""The page in a browser: what it answers, and the whole of it in a headless Chromium."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import parallel_sentences, word_tokenizer

from vanilla_transformer import InputError
from vanilla_transformer.inspection.app import LONGEST, Translator, build_app

from ..modeling.toy import toy_model

PAIRS = parallel_sentences(4)
SOURCE = PAIRS[0][0]
# Nothing but the page itself is fetched.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --window-size=1200,1600"
)


@pytest.fixture(scope="module")
def translator() -> Translator:
    tokenizer: Any = word_tokenizer(text for pair in PAIRS for text in pair)
    return Translator(toy_model(vocab_size=len(tokenizer), tie_word_embeddings=False), tokenizer)


def test_hypotheses_are_those_of_the_beam(translator: Translator) -> None:
    found = translator.translate(SOURCE, 3)
    scores = [one.score for one in found]
    assert len(found) == 3
    assert scores == sorted(scores, reverse=True)
    batch = translator.tokenizer([SOURCE], return_tensors="pt")
    best = translator.model.generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], num_beams=4
    )
    assert found[0].text == translator.tokenizer.decode(best[0], skip_special_tokens=True)


@pytest.mark.parametrize(
    ("sentence", "message"), [("  ", "Please type a sentence"), ("x" * (LONGEST + 1), "at most 200")]
)
def test_bad_sentences_are_answered_kindly(translator: Translator, sentence: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        translator.translate(sentence, 1)
    with pytest.raises(InputError, match=message):
        translator.attention(sentence, "cross", 1, 1)


def test_pictures_are_of_the_models_translation(translator: Translator) -> None:
    explanation = translator.explain(SOURCE)
    assert explanation.translation == translator.translate(SOURCE, 1)[0].text
    assert translator.explain(SOURCE) is explanation
    assert translator.attention(SOURCE, "cross", 3, 2).axes[0].get_title() == "layer 3, head 2"
    assert translator.positions(SOURCE) is not None


@pytest.fixture
def page(translator: Translator) -> Iterator[str]:
    pytest.importorskip("gradio", reason="gradio is not installed: pip install '.[demo]'")
    app = build_app(translator.model, translator.tokenizer, examples=[SOURCE])
    _, address, _ = app.launch(prevent_thread_lock=True, quiet=True, share=False)
    yield address
    app.close()


class Browser:
    """A session of chromedriver, spoken to in the WebDriver protocol itself."""

    def __init__(self, address: str, profile: Path):
        flags = [*FLAGS.split(), f"--user-data-dir={profile}"]
        self.address = address
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": flags}}
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/session/{answer['sessionId']}"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def run(self, script: str, *args: Any) -> Any:
        return self.call("POST", f"{self.session}/execute/sync", {"script": script, "args": list(args)})

    def wait(self, condition: str, *args: Any) -> Any:
        """What a script returns as soon as that is true."""
        for _ in range(240):
            if found := self.run(f"return {condition}", *args):
                return found
            time.sleep(0.5)
        raise AssertionError(f"never true: {condition}\n{self.run('return document.body.innerText')}")

    def type(self, selector: str, text: str) -> None:
        """Replace the text of a field, so that the page notices."""
        script = (
            "const field = document.querySelector(arguments[0]);"
            "Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value').set"
            ".call(field, arguments[1]); field.dispatchEvent(new Event('input', {bubbles: true}));"
        )
        self.run(script, selector, text)

    def click(self, text: str) -> None:
        self.run(
            "[...document.querySelectorAll('button')]"
            ".find(one => one.innerText.trim() === arguments[0]).click()",
            text,
        )


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    driver = shutil.which("chromedriver")
    if driver is None or not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no browser: install Debian's packages chromium and chromium-driver")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL)
    for _ in range(240):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.25)
    one = Browser(f"http://127.0.0.1:{port}", tmp_path / "profile")
    yield one
    one.call("DELETE", one.session)
    process.terminate()
    process.wait()


@pytest.mark.slow
def test_the_page_in_a_browser(page: str, browser: Browser, translator: Translator) -> None:
    field = "#sentence textarea"
    browser.call("POST", f"{browser.session}/url", {"url": page})
    browser.wait("document.querySelector(arguments[0])", field)
    browser.type(field, SOURCE)
    browser.click("Translate")
    best = translator.translate(SOURCE, 4)
    result = "document.querySelector('#translation textarea').value"
    assert browser.wait(result) == best[0].text
    shown = browser.wait("document.querySelector('#nbest').innerText")
    assert f"{best[0].score:.3f}" in shown
    for tab, button in (
        ("Cross-attention", "cross-attention"),
        ("Self-attention", "self-attention"),
        ("Positions", "positions"),
        ("Step by step", "decoding"),
    ):
        browser.run(
            "[...document.querySelectorAll('[role=tab]')]"
            ".find(one => one.innerText.trim() === arguments[0]).click()",
            tab,
        )
        browser.click(f"Show {button}")
        browser.wait("document.querySelector(arguments[0])", f"#plot-{button} img")
    browser.type(field, " ")
    browser.click("Translate")
    browser.wait("document.body.innerText.includes('Please type a sentence')")
    if folder := os.environ.get("VT_SCREENSHOTS"):
        import base64

        shot = browser.call("GET", f"{browser.session}/screenshot")
        Path(folder, "page.png").write_bytes(base64.b64decode(shot))
