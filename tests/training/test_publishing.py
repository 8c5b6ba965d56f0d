"""Publishing: what is sent and what never, the card, refusals and interruptions, and the Trainer's ways."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2.meta
import pytest
import sentencepiece
import torch
import transformers
from helpers import parallel_sentences
from hub_client import hub_client
from hub_server import TOKEN, Hub, running_hub
from huggingface_hub import ModelCard
from training_toy import collate, copy_dataset, toy_arguments, toy_model, write_recipe
from transformers import M2M100Config, M2M100ForConditionalGeneration, M2M100Tokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from vanilla_transformer import (
    FairseqTokenizer,
    VanillaTransformerConfig,
    VanillaTransformerDecoderModel,
    VanillaTransformerEncoderModel,
    VanillaTransformerForCausalLM,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
    VanillaTransformerModel,
    VanillaTransformerTokenizer,
    VanillaTransformerTrainer,
    pipeline,
)
from vanilla_transformer.errors import InputError
from vanilla_transformer.modeling.generation_vanilla_transformer import PAPER_DECODING
from vanilla_transformer.modeling.hub_vanilla_transformer import (
    SENT_FILES,
    files_to_send,
    short_card,
    upload,
)
from vanilla_transformer.modeling.saving_vanilla_transformer import source_files
from vanilla_transformer.scripts import cli
from vanilla_transformer.training import load_recipe
from vanilla_transformer.training.model_card import metadata_of, render_model_card
from vanilla_transformer.training.publishing import EXAMPLES, examples_for, publish
from vanilla_transformer.training.recipe import ClassifierRecipe, LanguageModelRecipe, RunRecipe

CODE = {path.name for path in source_files()}
MODEL = {"config.json", "generation_config.json", "model.safetensors"}
TOKENIZER = {"tokenizer.json", "tokenizer_config.json"}
RESULTS: dict[str, Any] = {
    "steps": 1500,
    "parameters": 1,
    "scores": {"final": {"loss": 1.25, "bleu": 27.5, "chrf": 55.125}},
    "signatures": {"bleu": "nrefs:1|case:mixed", "chrf": "nrefs:1"},
    "training_pairs": 24000,
    "training_seconds": 233.4,
    "hardware": "CPU, 2 threads",
    "software": "torch 2.13.0",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub, hub_client(hub, monkeypatch):
        yield hub


def make_run(folder: Path, **recipe: Any) -> Path:
    """A finished run with all that training leaves, so far as publishing is concerned."""
    values = {"source_lang": "zh", "target_lang": "en"} | recipe
    run = folder / "run"
    text = load_recipe(write_recipe(folder, **values)).to_yaml()
    tokenizer = VanillaTransformerTokenizer.train_from_iterator(["a cat sleeps"] * 3, vocab_size=276)
    toy_model(vocab_size=len(tokenizer)).save_pretrained(run)
    tokenizer.save_pretrained(run)
    (run / "recipe.yaml").write_text(text)
    (run / "results.json").write_text(json.dumps(RESULTS))
    (run / "training_curves.png").write_bytes(b"\x89PNG")
    for name in ("optimizer.pt", "training_args.bin", "logs/events.1", "checkpoint-9/optimizer.pt", ".env"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(b"secret")
    return run


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_run_is_published_whole_and_nothing_else_is_sent(hub: Hub, tmp_path: Path, capsys: Any) -> None:
    run = make_run(tmp_path)
    before = digest(run)
    monkey = pytest.MonkeyPatch()
    monkey.setenv("HF_TOKEN", TOKEN)
    try:
        assert cli.main(["publish", str(run), "me/zh-en", "--dry-run"]) == 0
        dry = capsys.readouterr().out
        assert not hub.requests
        assert cli.main(["publish", str(run), "me/zh-en", "--private", "--license", "apache-2.0"]) == 0
    finally:
        monkey.undo()
    shown = capsys.readouterr().out
    sent = hub.repositories["me/zh-en"].files()
    assert set(sent) - {".gitattributes"} == MODEL | TOKENIZER | CODE | {"README.md", "training_curves.png"}
    assert hub.repositories["me/zh-en"].private
    assert all(f"  {name}\n" in shown and f"  {name}\n" in dry for name in MODEL | TOKENIZER | CODE)
    assert digest(run) == before
    assert sent["model.safetensors"] == (run / "model.safetensors").read_bytes()
    assert not any(str(tmp_path).encode() in content for content in sent.values())
    check_card(sent["README.md"].decode(), license="apache-2.0")


def check_card(card: str, *, license: str | None) -> None:
    data = metadata_of(card)
    assert data["language"] == ["zh", "en"]
    assert data.get("license") == license
    assert (data["pipeline_tag"], data["library_name"]) == ("translation", "transformers")
    (measured,) = data["model-index"][0]["results"]
    assert [(one["type"], one["value"]) for one in measured["metrics"]] == [("bleu", 27.5), ("chrf", 55.125)]
    assert measured["metrics"][0]["args"] == {"signature": "nrefs:1|case:mixed"}
    for text in ("Chinese into English", "24,000 pairs", "3.9 min", "CPU, 2 threads", "![Loss", "1,500"):
        assert text in card, text


def test_the_card_of_a_checkpoint_has_the_languages_of_its_run(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    toy_model().save_pretrained(run / "checkpoint-9")
    card = str(render_model_card(run / "checkpoint-9", "me/x"))
    assert metadata_of(card)["language"] == ["zh", "en"]
    assert "27.5" not in card and "3.9 min" not in card  # of the run's final model


def test_what_was_not_measured_is_not_in_the_card(tmp_path: Path) -> None:
    toy_model().save_pretrained(tmp_path)
    card = str(render_model_card(tmp_path, "me/x"))
    data = metadata_of(card)
    assert not {"model-index", "language", "license", "metrics", "datasets"} & set(data)
    for word in ("## Training", "## Evaluation", "Licence", "Languages", "None", "{{", "{%"):
        assert word not in card, word


def make_text_run(run: Path, recipe: RunRecipe, model_class: Any, scores: dict[str, float]) -> Path:
    tokenizer = VanillaTransformerTokenizer.train_from_iterator(["a cat sleeps"] * 3, vocab_size=276)
    config = toy_model(vocab_size=len(tokenizer), encoder_layers=2, decoder_layers=2).config
    model_class(config).save_pretrained(run)
    tokenizer.save_pretrained(run)
    (run / "recipe.yaml").write_text(recipe.to_yaml())
    results = RESULTS | {"scores": {"final": scores}, "signatures": {}}
    (run / "results.json").write_text(json.dumps(results))
    return run


@pytest.mark.parametrize(
    ("model_class", "objective", "auto_class", "task"),
    [
        (VanillaTransformerForCausalLM, "causal", "AutoModelForCausalLM", "text-generation"),
        (VanillaTransformerForMaskedLM, "masked", "AutoModelForMaskedLM", "fill-mask"),
    ],
)
def test_a_language_model_is_published_with_its_card(
    tmp_path: Path, model_class: Any, objective: str, auto_class: str, task: str
) -> None:
    recipe = LanguageModelRecipe(
        objective=objective, train_text=str(tmp_path / "book.txt"), valid_text=str(tmp_path / "end.txt"),
        word_vectors=str(tmp_path / "glove.txt"), output_dir=str(tmp_path / "run"), max_steps=2,
    )  # fmt: skip
    run = make_text_run(tmp_path / "run", recipe, model_class, {"loss": 3.5, "perplexity": 33.1})
    assert "README.md" in publish(run, "me/x", dry_run=True).files
    card = str(render_model_card(run, "me/x"))
    data = metadata_of(card)
    assert data["pipeline_tag"] == task
    assert not {"language", "metrics", "model-index", "datasets"} & set(data)
    assert f"{auto_class}.from_pretrained" in card
    assert "**Data**: book.txt, 24,000 pieces of text\n" in card
    assert "| end.txt | loss per token (nats) | 3.5 |" in card
    assert "word_vectors: glove.txt" in card
    assert "| Shape | 2 layers, width" in card
    assert str(tmp_path) not in card


def test_a_classifier_is_published_with_its_card(tmp_path: Path) -> None:
    recipe = ClassifierRecipe(
        train_file=str(tmp_path / "train.csv"), valid_file=str(tmp_path / "valid.csv"),
        output_dir=str(tmp_path / "run"), max_steps=2,
    )  # fmt: skip
    scores = {"loss": 0.5, "accuracy": 0.75, "f1": 0.7}
    run = make_text_run(tmp_path / "run", recipe, VanillaTransformerForSequenceClassification, scores)
    assert "README.md" in publish(run, "me/x", dry_run=True).files
    card = str(render_model_card(run, "me/x"))
    data = metadata_of(card)
    assert (data["pipeline_tag"], data["metrics"]) == ("text-classification", ["accuracy", "f1"])
    (measured,) = data["model-index"][0]["results"]
    assert [(one["type"], one["value"]) for one in measured["metrics"]] == [("accuracy", 0.75), ("f1", 0.7)]
    assert "from transformers import AutoModelForSequenceClassification, AutoTokenizer" in card
    assert "**Data**: train.csv, 24,000 texts\n" in card
    assert "| valid.csv | loss per text (nats) | 0.5 |" in card
    assert "per token" not in card
    assert str(tmp_path) not in card


def test_the_template_asks_for_what_it_is_given_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = (Path(__file__).parents[2] / "model_card.md").read_text("utf-8")
    asked = jinja2.meta.find_undeclared_variables(jinja2.Environment().parse(template))
    given: dict[str, Any] = {}
    monkeypatch.setattr(ModelCard, "from_template", lambda data, **values: given.update(values))
    render_model_card(make_run(tmp_path), "me/x")
    assert given.pop("template_str") == template
    assert {*given, "card_data"} == asked


@pytest.mark.parametrize("name", ["me/corpus", None])
def test_the_card_names_the_dataset_that_the_run_found_on_the_hub(
    name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, train_source=None, train_target=None, dataset="me/corpus")
    (run / "results.json").write_text(json.dumps(RESULTS | {"hub_dataset": name}))
    (tmp_path / "me" / "corpus").mkdir(parents=True)
    for folder in (tmp_path, run):
        monkeypatch.chdir(folder)
        assert metadata_of(str(render_model_card(run, "me/x"))).get("datasets") == (name and [name])


def test_the_card_is_escaped(tmp_path: Path) -> None:
    run = make_run(tmp_path, dataset_config="```\n<script>", source_lang="x|<b>")
    card = str(render_model_card(run, "me/x"))
    assert "x\\|\\<b\\>" in card
    prose, block = card.split("````yaml\n")
    assert "<script>" not in prose
    assert "<script>" in block.split("\n````\n")[0]
    assert str(tmp_path) not in card
    ModelCard(card, ignore_metadata_errors=False)


@pytest.mark.parametrize("name", ["me/zh/en", "me/zh en", "../zh", "me/x--y", "me/x.git", ""])
def test_a_name_is_refused_before_the_network_is_used(hub: Hub, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"`repo_id` must be the name of a repository"):
        publish(tmp_path, name, token=TOKEN)
    with pytest.raises(ValueError, match="`repo_id` must be"):
        toy_model().push_to_hub(name, token=TOKEN)
    assert not hub.requests


def test_weights_that_were_sent_before_are_not_loaded_instead(hub: Hub, tmp_path: Path) -> None:
    """Of one file and of shards, transformers loads the one; and PEFT's adapter before either."""
    first, second = toy_model(), toy_model()
    torch.nn.init.normal_(second.lm_head.weight)
    first.push_to_hub("me/zh-en", token=TOKEN)
    (tmp_path / "adapter_config.json").write_text("{}")
    upload(tmp_path, "me/zh-en", token=TOKEN)
    second.push_to_hub("me/zh-en", max_shard_size="20KB", token=TOKEN)
    files = hub.repositories["me/zh-en"].files()
    assert "model.safetensors" not in files and "adapter_config.json" not in files
    assert "model.safetensors.index.json" in files
    first.push_to_hub("me/zh-en", token=TOKEN)
    files = hub.repositories["me/zh-en"].files()
    assert [name for name in files if name.startswith("model") and ".safetensors" in name] == [
        "model.safetensors"
    ]


def test_shards_of_a_variant_take_the_place_of_its_one_file(hub: Hub, tmp_path: Path) -> None:
    options: dict[str, Any] = {"push_to_hub": True, "repo_id": "me/x", "token": TOKEN}
    toy_model().save_pretrained(tmp_path / "whole", **options)
    for size in ("50GB", "5KB"):
        toy_model().save_pretrained(tmp_path / size, variant="fp16", max_shard_size=size, **options)
    sent = hub.repositories["me/x"].files()
    assert "model.fp16.safetensors" not in sent and "model.safetensors.index.fp16.json" in sent
    assert "model.safetensors" in sent


def test_what_an_earlier_tokenizer_of_words_left_is_not_read_beside_a_new_one(hub: Hub) -> None:
    vocab = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "the": 4}
    FairseqTokenizer(vocab=vocab, target_vocab=vocab | {"le": 5}, merges=["t h", "th e</w>"]).push_to_hub(
        "me/zh-en", token=TOKEN
    )
    assert {"target_vocab.json", "merges.txt"} <= hub.repositories["me/zh-en"].files().keys()
    FairseqTokenizer(vocab=vocab).push_to_hub("me/zh-en", token=TOKEN)
    assert not {"target_vocab.json", "merges.txt"} & hub.repositories["me/zh-en"].files().keys()


def test_a_licence_is_in_the_card_of_the_folder_or_refused(hub: Hub, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "README.md").write_text("---\nlanguage: zh\n---\n# Mine\n")
    publish(run, "me/x", license="mit", token=TOKEN)
    sent = hub.repositories["me/x"].files()["README.md"].decode()
    assert metadata_of(sent) == {"language": "zh", "license": "mit"} and sent.endswith("# Mine\n")
    assert "license" not in (run / "README.md").read_text()
    (run / "README.md").write_text(sent)
    with pytest.raises(InputError, match=r"is to be apache-2.0, but `README.md` of the folder says mit"):
        publish(run, "me/x", license="apache-2.0", token=TOKEN)


def test_a_card_that_is_not_utf_8_is_named(hub: Hub, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "README.md").write_bytes("---\nlanguage: zh\n---\ncafé".encode("latin-1"))
    with pytest.raises(ValueError, match=r"`README.md` is not UTF-8"):
        publish(run, "me/x", token=TOKEN)
    assert not hub.repositories


def test_a_folder_of_links_is_published_whole(hub: Hub, tmp_path: Path) -> None:
    """As in the cache of the Hub's client, where each file is a link to a blob."""
    run, links = make_run(tmp_path), tmp_path / "links"
    links.mkdir()
    for path in filter(Path.is_file, run.iterdir()):
        (links / path.name).symlink_to(Path("..", "run", path.name))
    publish(links, "me/zh-en", token=TOKEN)
    sent = hub.repositories["me/zh-en"].files()
    assert sent["model.safetensors"] == (run / "model.safetensors").read_bytes()


def test_an_adapter_of_a_folder_of_this_machine_is_not_published(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path)}))
    with pytest.raises(
        InputError, match=f"needs the folder `{tmp_path}` of this machine: publish that model"
    ):
        publish(folder, "me/adapter", token=TOKEN)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "me/zh-en"}))
    with pytest.raises(InputError, match="`.*adapter_model.safetensors` is missing"):
        publish(folder, "me/adapter", token=TOKEN)
    assert not hub.repositories


def test_contents_are_refused(hub: Hub, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "README.md").write_text(f"---\nlicense: mit\n---\nmy token is {TOKEN}\n")
    with pytest.raises(InputError, match=r"`README.md` holds an access token"):
        publish(run, "me/x", token=TOKEN)
    (run / "README.md").write_text(f"---\nlicense: mit\n---\n{Path.home()}/corpus\n")
    with pytest.raises(InputError, match=r"`README.md` names a folder of this machine"):
        publish(run, "me/x", token=TOKEN)
    (run / "README.md").write_text(f"---\nlicense: mit\n---\n{run}/logs\n")
    with pytest.raises(InputError, match=r"`README.md` names a folder of this machine"):
        publish(run, "me/x", token=TOKEN)
    (run / "README.md").write_text("# My model\n")
    with pytest.raises(
        InputError, match=r"the model card has no usable metadata: it must begin with a block"
    ):
        publish(run, "me/x", token=TOKEN)
    (run / "README.md").unlink()
    torch.save({}, run / "model.safetensors")
    with pytest.raises(InputError, match=r"model.safetensors` is cut short or damaged"):
        publish(run, "me/x", token=TOKEN)
    (run / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model.safetensors` is missing"):
        publish(run, "me/x", token=TOKEN)
    assert not hub.requests


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "the Hub does not know you: log in with `hf auth login`"),
        (403, "your token may not write there"),
        (409, "the repository was changed by somebody else"),
        (503, "the Hub has trouble (status 503)"),
        (0, "the connection was cut"),
    ],
)
def test_a_refused_upload_is_one_line_and_a_repeat_goes_on(
    hub: Hub, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, status: int, reason: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    run = make_run(tmp_path)
    before = digest(run)
    hub.refuse = lambda method, path: status if "/commit/" in path else None
    assert cli.main(["publish", str(run), "me/x"]) == 2
    shown = capsys.readouterr().err
    lines = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert reason in lines[0] and "Traceback" not in shown
    assert digest(run) == before
    assert hub.sent("PUT", "/large/") == 2
    hub.refuse = lambda method, path: None
    assert cli.main(["publish", str(run), "me/x"]) == 0
    assert hub.sent("PUT", "/large/") == 2, "what had arrived was sent again"
    assert "model.safetensors" in hub.repositories["me/x"].files()


def test_weights_that_do_not_arrive(hub: Hub, tmp_path: Path) -> None:
    hub.refuse = lambda method, path: 0 if method == "PUT" else None
    with pytest.raises(InputError, match="the connection was cut"):
        publish(make_run(tmp_path), "me/x", token=TOKEN)
    assert set(hub.repositories["me/x"].files()) == {".gitattributes"}


def test_a_branch_and_the_card_of_the_model_itself(hub: Hub) -> None:
    model = toy_model()
    model.push_to_hub("me/x", token=TOKEN, revision="v1")
    files = hub.repositories["me/x"].files("v1")
    assert set(files) - {".gitattributes"} == MODEL | CODE | {"README.md"}
    assert metadata_of(files["README.md"].decode())["pipeline_tag"] == "translation"
    assert set(hub.repositories["me/x"].files()) == {".gitattributes"}
    hub.repositories["me/x"].commit("v1", {**files, "README.md": b"---\nlicense: mit\n---\nmine\n"})
    model.push_to_hub("me/x", token=TOKEN, revision="v1")
    assert hub.repositories["me/x"].files("v1")["README.md"].endswith(b"mine\n")


def test_a_pipeline_sends_model_tokenizer_and_code(hub: Hub) -> None:
    tokenizer = VanillaTransformerTokenizer.train_from_iterator(["a cat sleeps"] * 3, vocab_size=276)
    pipe = pipeline("translation", toy_model(vocab_size=len(tokenizer)), tokenizer, device="cpu")
    pipe.push_to_hub("me/x", token=TOKEN)
    files = hub.repositories["me/x"].files()
    assert set(files) - {".gitattributes"} == CODE | MODEL | TOKENIZER | {"README.md"}
    assert (
        "TranslationPipeline" in json.loads(files["config.json"])["custom_pipelines"]["translation"]["impl"]
    )


def test_the_tokenizer_of_another_model_is_sent_whole(hub: Hub, tmp_path: Path) -> None:
    """Loaded from what was sent, it is what it was."""
    texts = iter([text for pair in parallel_sentences(200) for text in pair])
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts, model_prefix=str(tmp_path / "sp"), vocab_size=60, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "sp.model"))
    names = ["<s>", "<pad>", "</s>", "<unk>", *(pieces.id_to_piece(k) for k in range(3, len(pieces)))]
    (tmp_path / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    tokenizer: Any = M2M100Tokenizer(
        str(tmp_path / "vocab.json"), str(tmp_path / "sp.model"), src_lang="en", tgt_lang="fr"
    )
    sizes: dict[str, Any] = {
        f"{stack}_{name}": size
        for stack in ("encoder", "decoder")
        for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 8))
    }
    model = M2M100ForConditionalGeneration(M2M100Config(vocab_size=len(tokenizer), d_model=8, **sizes))
    pipeline("translation", model, tokenizer, device="cpu").push_to_hub("me/x", token=TOKEN)
    sent = hub.repositories["me/x"].files()
    assert {"sentencepiece.bpe.model", "vocab.json", "model.safetensors"} <= set(sent)
    (tmp_path / "again").mkdir()
    for name, content in sent.items():
        (tmp_path / "again" / name).write_bytes(content)
    again: Any = M2M100Tokenizer.from_pretrained(tmp_path / "again")
    assert again("w1 w2").input_ids == tokenizer("w1 w2").input_ids


def test_every_translating_tokenizer_of_transformers_is_on_the_list() -> None:
    names = {TOKENIZER_MAPPING_NAMES.get(kind) for kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES}
    classes = [getattr(transformers, str(name), None) for name in sorted(map(str, names))]
    files = {file for cls in classes for file in getattr(cls, "vocab_files_names", {}).values()}
    assert {"sentencepiece.bpe.model", "spiece.model", "prophetnet.tokenizer"} <= files <= set(SENT_FILES)


@pytest.mark.parametrize("size", ["50GB", "5KB"])
def test_weights_of_a_variant_are_sent(hub: Hub, tmp_path: Path, size: str) -> None:
    options: dict[str, Any] = {"variant": "fp16", "max_shard_size": size, "token": TOKEN}
    toy_model().save_pretrained(tmp_path / "x", push_to_hub=True, repo_id="me/x", **options)
    weights = {path.name for path in (tmp_path / "x").iterdir() if "fp16" in path.name}
    sent = set(hub.repositories["me/x"].files())
    assert weights <= sent and "model.safetensors" not in sent
    assert ("model.safetensors.index.fp16.json" in sent) is (size == "5KB")


def test_what_was_saved_and_may_not_be_sent_is_named(hub: Hub, tmp_path: Path) -> None:
    """Neither left out without a word nor sent."""
    tokenizer: Any = VanillaTransformerTokenizer()
    options: Any = {"filename_prefix": "my", "repo_id": "me/x", "token": TOKEN}
    with pytest.raises(ValueError, match=r"`my-tokenizer.json` is not on the list .* nothing is") as caught:
        tokenizer.save_pretrained(tmp_path / "x", push_to_hub=True, **options)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "x" / "my-tokenizer.json").is_file()
    assert not hub.requests


def test_all_chat_templates_of_a_tokenizer_are_sent(hub: Hub, tmp_path: Path) -> None:
    tokenizer: Any = VanillaTransformerTokenizer()
    templates = {"chat_template.jinja", "additional_chat_templates/tools.jinja"}
    tokenizer.chat_template = {"default": "{{ messages }}", "tools": "{{ tools }}"}
    tokenizer.push_to_hub("me/x", token=TOKEN)
    assert templates <= set(hub.repositories["me/x"].files())
    run = make_run(tmp_path)
    tokenizer.save_pretrained(run)
    publish(run, "me/run", token=TOKEN)
    assert templates <= set(hub.repositories["me/run"].files())


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "optimizer.safetensors", "train.txt", "run.log", "recipe.yaml", "model.pt",
             "training_args.bin", "trainer_state.json", "random.model", "model.safetensors.tmp"],
)  # fmt: skip
def test_what_is_never_sent(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    assert files_to_send(tmp_path) == []


CARDS: list[tuple[Any, str, str | None]] = [
    (VanillaTransformerModel, "AutoModel", None),
    (VanillaTransformerEncoderModel, "AutoModel", None),
    (VanillaTransformerDecoderModel, "AutoModel", None),
    (VanillaTransformerForCausalLM, "AutoModelForCausalLM", "text-generation"),
    (VanillaTransformerForMaskedLM, "AutoModelForMaskedLM", "fill-mask"),
    (
        VanillaTransformerForSequenceClassification,
        "AutoModelForSequenceClassification",
        "text-classification",
    ),
    (VanillaTransformerForTokenClassification, "AutoModelForTokenClassification", "token-classification"),
]


@pytest.mark.parametrize(("kind", "auto", "task"), CARDS)
def test_the_short_card_loads_a_model_with_its_head(
    kind: Any, auto: str, task: str | None, tmp_path: Path
) -> None:
    class Derived(kind):
        pass

    config = toy_model().config
    model = kind(VanillaTransformerConfig(**config.to_diff_dict()))
    for one in (model, Derived(model.config)):
        card = short_card(one, "me/x")
        assert f'\n{auto}.from_pretrained("me/x", trust_remote_code=True)\n' in card
        assert f"from transformers import {auto}\n" in card
        assert metadata_of(card).get("pipeline_tag") == task
    model.save_pretrained(tmp_path)
    assert type(getattr(transformers, auto).from_pretrained(tmp_path)) is kind


def test_saving_with_push_keeps_what_was_saved_when_the_push_fails(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "optimizer.pt").write_bytes(b"")
    with pytest.raises(OSError, match="the Hub does not know you"):
        toy_model().save_pretrained(tmp_path / "x", push_to_hub=True, repo_id="me/x", token="hf_wrong")
    assert (tmp_path / "x" / "model.safetensors").is_file()
    toy_model().save_pretrained(tmp_path / "x", push_to_hub=True, repo_id="me/x", token=TOKEN)
    assert set(hub.repositories["me/x"].files()) - {".gitattributes"} == MODEL | CODE | {"README.md"}


@pytest.mark.parametrize(
    ("strategy", "folders"),
    [
        ("end", set()),
        ("every_save", set()),
        ("checkpoint", {"last-checkpoint"}),
        ("all_checkpoints", {"checkpoint-1", "checkpoint-2"}),
    ],
)
def test_the_trainer_sends_the_same_list_by_every_strategy(
    hub: Hub, tmp_path: Path, strategy: str, folders: set[str]
) -> None:
    arguments = toy_arguments(
        tmp_path / "run", max_steps=2, save_strategy="steps", save_steps=1, push_to_hub=True,
        hub_model_id="me/x", hub_token=TOKEN, hub_strategy=strategy, hub_always_push=True,
    )  # fmt: skip
    trainer = VanillaTransformerTrainer(toy_model(), arguments, collate, train_dataset=copy_dataset(20))
    trainer.train()
    repository = hub.repositories["me/x"]
    early = set(repository.files()) - {".gitattributes"}
    allowed = MODEL | CODE | {"README.md"}
    expected = allowed | {f"{folder}/{name}" for folder in folders for name in allowed}
    assert early == (set() if strategy == "end" else expected)
    trainer.push_to_hub(license="mit")
    assert {name for name in repository.files() if "/" not in name} - {".gitattributes"} == allowed
    card = repository.files()["README.md"].decode()
    assert "generated" not in card
    assert "made with `vanilla-transformer`" in card
    assert not list((tmp_path / "run").glob(".incomplete-*"))


def test_a_push_that_fails_in_the_background_is_told_and_training_goes_on(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = toy_arguments(
        tmp_path / "run", max_steps=2, save_strategy="steps", save_steps=1, push_to_hub=True,
        hub_model_id="me/x", hub_token=TOKEN, hub_always_push=True,
    )  # fmt: skip
    trainer = VanillaTransformerTrainer(toy_model(), arguments, collate, train_dataset=copy_dataset(20))
    hub.refuse = lambda method, path: 403 if "/commit/" in path else None
    trainer.train()
    assert trainer.state.global_step == 2
    assert "your token may not write there" in caplog.text


@pytest.mark.parametrize(
    ("generation", "said"),
    [
        ({}, "greedy search"),
        (PAPER_DECODING, "beam search with 4 beams and the GNMT length penalty 0.6"),
        ({"num_beams": 5, "length_penalty": 1.0}, "beam search with 5 beams and length penalty 1.0"),
        ({"num_beams": 5}, "beam search with 5 beams"),
        ({"num_beams": 1, "do_sample": True}, "sampling"),
    ],
)
def test_a_card_names_the_search(generation: dict[str, Any], said: str, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "generation_config.json").write_text(json.dumps(generation))
    assert f"`generate()` uses {said} unless told otherwise." in str(render_model_card(run, "me/x"))


@pytest.mark.parametrize(
    ("recipe", "language"),
    [
        ("source_lang: zh\n", "zh"),
        ("seed: 1\nsource_lang: 'en-GB'\n", "en"),
        ("source_lang: null\n", None),
        (None, None),
    ],
)
def test_examples_are_in_the_language_of_the_recipe(
    tmp_path: Path, recipe: str | None, language: str | None
) -> None:
    if recipe is not None:
        (tmp_path / "recipe.yaml").write_text(recipe)
    assert examples_for(tmp_path) == EXAMPLES.get(str(language), ())


@pytest.mark.parametrize(
    ("final_model", "chosen"),
    [("best", True), ("average_best", True), ("average_last", False), ("last", False)],
)
def test_a_card_says_whether_its_scores_chose_the_checkpoint(
    final_model: str, chosen: bool, tmp_path: Path
) -> None:
    run = make_run(tmp_path, max_source_length=40)
    (run / "results.json").write_text(json.dumps(RESULTS | {"final_model": final_model}))
    card = str(render_model_card(run, "me/x"))
    end = ", on which the checkpoint was chosen" if chosen else ""
    assert f"Measured at the end of the training, on the validation data{end}.\n" in card
    assert "on sentences longer than 40 tokens (the limit in training), and" in card
