"""A Space: what it holds, and its page run from that alone."""

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bare_environment import bare_python
from hub_client import hub_client
from hub_server import TOKEN, Hub, running_hub
from huggingface_hub import SpaceCard

from vanilla_transformer import InputError, VanillaTransformerTokenizer
from vanilla_transformer.inspection.app import Translator
from vanilla_transformer.inspection.space import GRADIO_VERSION
from vanilla_transformer.scripts import cli
from vanilla_transformer.training.publishing import EXAMPLES, publish

from ..modeling.toy import toy_model

SENTENCE = "a cat sleeps"
ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("configuration", "inspection", "modeling", "tokenization")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub, hub_client(hub, monkeypatch):
        yield hub


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A model that translates from Chinese, as its recipe says, among files that are nobody's business."""
    tokenizer = VanillaTransformerTokenizer.train_from_iterator([SENTENCE] * 3, vocab_size=276)
    toy_model(vocab_size=len(tokenizer), tie_word_embeddings=False).float().save_pretrained(tmp_path / "run")
    tokenizer.save_pretrained(tmp_path / "run")
    (tmp_path / "run" / "recipe.yaml").write_text("train_source: a.zh\ntrain_target: a.en\nsource_lang: zh\n")
    (tmp_path / "run" / "app.py").write_text("secret")
    return tmp_path / "run"


def test_a_space_is_sent_beside_the_model(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    words = ["publish", str(run), "me/zh-en", "--space", "--license", "mit"]
    assert cli.main([*words, "--dry-run"]) == 0
    dry = capsys.readouterr().out
    assert not hub.requests
    assert cli.main([*words, "--private", "--revision", "v1"]) == 0
    space = hub.repositories["spaces/me/zh-en"]
    sent = {name: content.decode() for name, content in space.files().items() if name != ".gitattributes"}
    assert space.private
    package = {f"vanilla_transformer/{path.name}" for path in (ROOT / "vanilla_transformer").glob("*.py")}
    for folder in FOLDERS:
        package |= {f"vanilla_transformer/{path.relative_to(ROOT)}" for path in (ROOT / folder).glob("*.py")}
    assert set(sent) == package | {"README.md", "app.py", "packages.txt", "requirements.txt"}
    assert all(f"  {name}\n" in dry for name in sent)
    assert "model.safetensors" in hub.repositories["me/zh-en"].files("v1")
    assert "model.safetensors" not in hub.repositories["me/zh-en"].files()
    card = SpaceCard(sent["README.md"], ignore_metadata_errors=False).data.to_dict()
    assert (card["sdk"], card["app_file"], card["models"]) == ("gradio", "app.py", ["me/zh-en"])
    assert (card["license"], card["sdk_version"]) == ("mit", GRADIO_VERSION)
    assert f"gradio=={GRADIO_VERSION}\n" in (ROOT / "constraints.txt").read_text()
    assert "MODEL = 'me/zh-en'\nREVISION = 'v1'\n" in sent["app.py"]
    assert EXAMPLES["zh"][0] in sent["app.py"]
    assert sent["requirements.txt"].splitlines() == [
        "matplotlib>=3.8", "tokenizers>=0.22", "torch>=2.9", "transformers<6,>=5.17",
    ]  # fmt: skip
    assert sent["packages.txt"] == "fonts-noto-cjk\nfonts-noto-core\n"


def test_a_space_of_a_converted_model_has_its_tokenizers_libraries(hub: Hub, run: Path) -> None:
    settings = json.loads((run / "tokenizer_config.json").read_text())
    (run / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": "MarianTokenizer"}))
    publish(run, "me/zh-en", space=True, token=TOKEN)
    wanted = hub.repositories["spaces/me/zh-en"].files()["requirements.txt"].decode()
    assert {"sacremoses", "sentencepiece"} <= set(re.findall(r"^\w+", wanted, re.MULTILINE))


def test_a_space_needs_a_model_that_translates(hub: Hub, run: Path) -> None:
    with pytest.raises(InputError, match="a Space loads its model by `owner/name`, but 'x' has no owner"):
        publish(run, "x", space=True, token=TOKEN)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"architectures": ["VanillaTransformerModel"]}))
    with pytest.raises(
        InputError, match="a Space is for a model that translates, .* `VanillaTransformerModel`"
    ):
        publish(run, "me/x", space=True, token=TOKEN)
    assert not hub.requests


@contextmanager
def serving(folder: Path, python: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run `app.py` as a Space does, and yield the address of its page."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = environment | {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    process = subprocess.Popen(
        [python, "-u", "app.py"],
        cwd=folder,
        env=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    watchdog = threading.Timer(300, process.kill)
    watchdog.start()
    try:
        told = []
        for line in process.stdout:
            told.append(line)
            if "Running on" in line:
                break
        else:
            raise AssertionError("".join(told))
        yield f"http://127.0.0.1:{port}"
    finally:
        watchdog.cancel()
        process.terminate()
        process.communicate()


@pytest.mark.slow
def test_a_space_runs_from_what_was_sent(hub: Hub, run: Path, tmp_path: Path) -> None:
    client: Any = pytest.importorskip(
        "gradio_client", reason="gradio is not installed: pip install '.[demo]'"
    )
    from vanilla_transformer.scripts.support.models import load_model

    publish(run, "me/zh-en", space=True, token=TOKEN)
    expected = Translator(*load_model(str(run), device="cpu")).translate(SENTENCE, 3)
    for name, content in hub.repositories["spaces/me/zh-en"].files().items():
        (tmp_path / "space" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "space" / name).write_bytes(content)
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_HUB_OFFLINE")}
    environment = kept | {
        "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    with serving(tmp_path / "space", bare_python(tmp_path), environment) as address:
        best, table = client.Client(address, verbose=False).predict(SENTENCE, 3, api_name="/translate")
    assert best == expected[0].text != ""
    assert table["data"] == [[one.text, f"{one.score:.3f}"] for one in expected]
    assert hub.sent("GET", "/me/zh-en/resolve/") > 2
