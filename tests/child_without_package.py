"""What somebody does who has transformers and not our package; run by `test_without_package.py`.

Reads from standard input, in JSON, where things are; prints what happened, in JSON, as its last line.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, MarianMTModel, pipeline

# No question is asked where nobody can answer.
transformers.dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
LIMIT = 8


def message(action: Callable[[], Any]) -> str:
    """The type and text of the error that an action ends in."""
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def translate(model: Any, tokenizer: Any, text: str, **options: Any) -> str:
    batch = tokenizer([text], return_tensors="pt")
    ids = model.generate(**batch, max_length=LIMIT, **options)
    return str(tokenizer.batch_decode(ids, skip_special_tokens=True)[0])


def steps_of(model: Any, action: Callable[[], Any]) -> int:
    """How many steps of the fast loop, in the file that came with the model, an action takes."""
    folder = type(model).__module__.rpartition(".")[0]
    decoder: Any = sys.modules[f"{folder}.generation_vanilla_transformer"].IncrementalDecoder
    with mock.patch.object(decoder, "step", autospec=True, side_effect=decoder.step) as step:
        action()
    return step.call_count


def refusals(given: dict[str, Any]) -> dict[str, str]:
    """Every call that cannot work without trust, or without our package at all."""
    repo, marian = given["repo"], given["marian"]
    foreign = MarianMTModel.from_pretrained(marian)
    return {
        "model": message(lambda: AutoModelForSeq2SeqLM.from_pretrained(repo)),
        "tokenizer": message(lambda: AutoTokenizer.from_pretrained(repo)),
        "path": message(lambda: pipeline("translation", model=repo)),  # type: ignore[call-overload]
        "marian path": message(lambda: pipeline("translation", model=marian)),  # type: ignore[call-overload]
        "marian path, trust": message(lambda: pipeline("translation", model=marian, trust_remote_code=True)),  # type: ignore[call-overload]
        "marian object": message(lambda: pipeline("translation", model=foreign)),  # type: ignore[call-overload]
        "marian object, trust": message(
            lambda: pipeline("translation", model=foreign, trust_remote_code=True)  # type: ignore[call-overload]
        ),
    }


def use(given: dict[str, Any]) -> dict[str, Any]:
    """Load from the Hub, translate, fine-tune, save, publish, and load that."""
    trusted: dict[str, Any] = {"trust_remote_code": True}
    model = AutoModelForSeq2SeqLM.from_pretrained(given["repo"], revision=given["revision"], **trusted)
    tokenizer = AutoTokenizer.from_pretrained(given["repo"], **trusted)
    pipe = pipeline("translation", model=given["repo"], device="cpu", **trusted)  # type: ignore[call-overload]
    found = {
        "object, trust": message(lambda: pipeline("translation", model=model, **trusted)),  # type: ignore[call-overload]
        "module": type(model).__module__.partition(".")[0],
        "generate": translate(model, tokenizer, given["text"]),
        "pipeline": pipe(given["text"], max_length=LIMIT),
        "fast steps": {
            "greedy": steps_of(model, lambda: translate(model, tokenizer, given["text"], num_beams=1)),
            "beams": steps_of(model, lambda: translate(model, tokenizer, given["text"], num_beams=4)),
            "pipeline": steps_of(pipe.model, lambda: pipe(given["text"], max_length=LIMIT)),
            "plain": steps_of(model, lambda: translate(model, tokenizer, given["text"], fast=False)),
        },
        "files of the Hub": sorted(path.name for path in Path(given["folder"]).iterdir()),
    }
    batch = tokenizer([given["text"]], text_target=["a"], return_tensors="pt")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for _ in range(2):
        model(**batch).loss.backward()
        optimizer.step()
    model.eval()
    tuned = Path(given["tuned"])
    tokenizer.save_pretrained(tuned)
    model.save_pretrained(tuned)
    found["files"] = sorted(path.name for path in tuned.iterdir())
    model.push_to_hub("me/tuned")
    tokenizer.push_to_hub("me/tuned")
    again = pipeline("translation", model="me/tuned", device="cpu", **trusted)  # type: ignore[call-overload]
    found["tuned"] = [translate(model, tokenizer, given["text"]), again(given["text"], max_length=LIMIT)]
    foreign = pipeline("translation", model=given["marian with code"], device="cpu", **trusted)  # type: ignore[call-overload]
    found["marian with code"] = foreign(given["text"], max_length=LIMIT)
    return found


def heads(given: dict[str, str]) -> dict[str, list[float]]:
    """The first numbers that each head gives, loaded by its Auto class."""
    found = {}
    for folder, auto in given.items():
        model = getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True).eval()
        with torch.no_grad():
            output = model(input_ids=torch.tensor([[5, 6, 7, 2]]))
        values = output[0].flatten()[:4].tolist()
        found[f"{auto} {type(model).__name__}"] = [round(value, 4) for value in values]
    return found


def main() -> None:
    given = json.load(sys.stdin)
    found: dict[str, Any] = {"hidden": importlib.util.find_spec("vanilla_transformer") is None}
    found["refusals"] = refusals(given)
    found |= use(given)
    found["heads"] = heads(given["heads"])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
