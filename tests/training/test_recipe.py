"""Recipes: reading, overriding, validation, and what is written back."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from vanilla_transformer.errors import InputError
from vanilla_transformer.modeling.generation_vanilla_transformer import PAPER_DECODING
from vanilla_transformer.training.recipe import (
    RECIPES,
    ClassifierRecipe,
    LanguageModelRecipe,
    TrainRecipe,
    available_recipes,
    load_recipe,
)
from vanilla_transformer.training.recipe_values import comment_lines, parse_overrides


def recipe_file(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_the_papers() -> None:
    recipe = TrainRecipe()
    assert (recipe.tokens_per_update, recipe.vocab_size, recipe.warmup_steps) == (25_000, 37_000, 4000)
    assert (recipe.adam_beta1, recipe.adam_beta2, recipe.adam_epsilon) == (0.9, 0.98, 1e-9)
    assert (recipe.label_smoothing, recipe.weight_decay, recipe.max_grad_norm) == (0.1, 0.0, 0.0)
    assert recipe.generation == PAPER_DECODING


def test_every_key_says_its_meaning_and_default() -> None:
    for kind, item in [(one, item) for one in RECIPES for item in dataclasses.fields(one)]:
        comment = " ".join(line.removeprefix("# ") for line in comment_lines(item.name, kind))
        assert comment.startswith(item.metadata["help"])
        assert "Default: " in comment
        assert all(choice in comment for choice in item.metadata["choices"])
        assert max(map(len, comment_lines(item.name, kind))) <= 110


@pytest.mark.parametrize("comments", [False, True])
def test_a_recipe_survives_its_yaml(tmp_path: Path, comments: bool) -> None:
    recipe = TrainRecipe(
        train_file="a b: c.tsv",
        target_lang="no",
        max_steps=3,
        adam_epsilon=1e-9,
        model={"d_model": 64, "encoder_attention_heads": 4},
        tokenizer="词表",
    )
    assert load_recipe(recipe_file(tmp_path, recipe.to_yaml(comments=comments))) == recipe


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_recipe(recipe_file(tmp_path, "# nothing\n")) == TrainRecipe()


def test_numbers_are_read_as_yaml_1_2_has_them(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, "adam_epsilon: 1e-7\nlearning_rate_scale: 2\n"))
    assert recipe.adam_epsilon == 1e-7
    assert isinstance(recipe.learning_rate_scale, float)


def test_overrides_of_every_form(tmp_path: Path) -> None:
    path = recipe_file(tmp_path, "seed: 1\nmodel: {d_model: 512, dropout: 0.1}\n")
    words = "--seed 7 --model.d_model=256 --warmup-steps 10 --streaming true --max_steps 5 --tokenizer null"
    recipe = load_recipe(path, words.split())
    assert (recipe.seed, recipe.warmup_steps, recipe.streaming, recipe.tokenizer) == (7, 10, True, None)
    assert recipe.model == {"d_model": 256, "dropout": 0.1}


def test_strings_stay_as_they_are_typed() -> None:
    words = "--target_lang no --output_dir 2024 --source_column 1e3 --train_split= --dataset ~"
    assert parse_overrides(words.split(), TrainRecipe) == {
        "target_lang": "no",
        "output_dir": "2024",
        "source_column": "1e3",
        "train_split": "",
        "dataset": None,
    }


def test_inner_keys_start_from_the_default(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, "seed: 1\n"), ["--generation.num_beams", "1"])
    assert recipe.generation == PAPER_DECODING | {
        "num_beams": 1,
        "length_penalty": None,
        "early_stopping": None,
    }
    recipe = load_recipe(recipe_file(tmp_path, "seed: 1\n"), ["--generation.num_beams", "5"])
    assert recipe.generation == PAPER_DECODING | {"num_beams": 5}


def test_one_length_of_training_replaces_the_other(tmp_path: Path) -> None:
    path = recipe_file(tmp_path, "num_train_epochs: 3\n")
    assert load_recipe(path, ["--max_steps", "9"]).num_train_epochs is None
    assert load_recipe(path, ["--num_train_epochs", "9"]).num_train_epochs == 9
    with pytest.raises(InputError, match="must not both be given"):
        load_recipe(path, ["--max_steps", "9", "--num_train_epochs", "9"])


def test_one_kind_of_corpus_replaces_the_other(tmp_path: Path) -> None:
    two = recipe_file(tmp_path, "train_source: a\ntrain_target: b\nvalid_source: c\nvalid_target: d\n")
    recipe = load_recipe(two, ["--train_file", "pairs.tsv"])
    assert (recipe.train_file, recipe.train_source, recipe.train_target) == ("pairs.tsv", None, None)
    assert (recipe.valid_file, recipe.valid_source, recipe.valid_target) == (None, "c", "d")
    one = recipe_file(tmp_path, "train_file: pairs.tsv\nvalid_file: valid.tsv\n")
    recipe = load_recipe(one, ["--valid_source", "c", "--valid_target", "d"])
    assert (recipe.train_file, recipe.valid_file, recipe.valid_source) == ("pairs.tsv", None, "c")
    with pytest.raises(InputError, match="must not both be given"):
        load_recipe(one, ["--train_file", "x.tsv", "--train_source", "a", "--train_target", "b"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--modle.d_model", "3"], "unknown key `modle`; did you mean `model`?"),
        (["--model.d_modle", "3"], "unknown key `model.d_modle`; did you mean `model.d_model`?"),
        (["--generation.beams", "3"], "unknown key `generation.beams`; did you mean `generation.num_beams`?"),
        (["--xyzzy", "3"], "unknown key `xyzzy`."),
        (["--seed"], "`--seed` needs a value"),
        (["--seed", "--max_steps", "3"], "`--seed` needs a value"),
        (["seed", "3"], "expected `--key value`, but found 'seed'"),
        (["--seed", "1", "2"], "expected `--key value`, but found '2'"),
        (["--seed.x", "3"], "`seed` has no keys of its own"),
        (["--model.", "3"], "`model` has no keys of its own"),
        (["--model", "{1: 2}"], "`model` must be a mapping of keys to values, but is {1: 2} instead"),
        (["--generation", "{1: 2}"], "`generation` must be a mapping of keys to values, but is {1: 2}"),
        (["--model", "{[a]: 1}"], "`--model` has the value '{[a]: 1}', which is not YAML"),
        (["--model", "[1"], "`--model` has the value '[1', which is not YAML"),
        (["--seed", "1.5"], "`seed` must be a whole number, but is 1.5 instead"),
        (["--seed", "true"], "`seed` must be a whole number, but is true instead"),
        (["--seed", "null"], "`seed` must be a whole number, but is null instead"),
        (["--seed", str(2**32)], "`seed` must be at least 0 and below 4294967296, but is 4294967296 instead"),
        (["--streaming", "1"], "`streaming` must be true or false, but is 1 instead"),
        (["--model", "base"], "`model` must be a mapping of keys to values, but is base instead"),
        (["--max_steps", "0"], "`max_steps` must be positive, but is 0 instead"),
        (["--max_source_length", "1"], "`max_source_length` must be finite and at least 2, but is 1 instead"),
        (["--max_target_length", "1"], "`max_target_length` must be finite and at least 2, but is 1 instead"),
        (["--label_smoothing", "1"], "`label_smoothing` must be at least 0 and below 1, but is 1.0 instead"),
        (["--weight_decay", ".nan"], "`weight_decay` must be finite and not negative, but is nan instead"),
        (["--metric", "rouge"], "`metric` must be one of bleu, chrf, loss, but is 'rouge' instead"),
        (["--preset", "huge"], "`preset` must be one of base, .*big.*, but is 'huge' instead"),
        (["--model.norm_position", "mid"], "`norm_position` must be one of post, pre, but is 'mid'"),
        (["--model.encoder_attention_heads", "3"], "128 is not divisible by 3"),
        (["--model.d_model", "wide"], "Field 'd_model' expected int"),
        (["--generation.num_beams", "0"], "`generation.num_beams` must be positive, but is 0 instead"),
        (["--generation.num_beams", "true"], "`generation.num_beams` must be a whole number, but is true"),
        (["--generation.length_penalty", "0,6"], "`generation.length_penalty` must be a number, but is"),
        (["--generation.top_p", "true"], "`generation.top_p` must be a number, but is true instead"),
        (["--generation.max_length", "8.5"], "`generation.max_length` must be a whole number, but is 8.5"),
        (["--generation.no_repeat_ngram_size", "'3'"], "must be a whole number, but is '3' instead"),
        (["--generation.return_dict_in_generate", "1"], "must be true or false, but is 1 instead"),
        (["--generation.num_beam_groups", "2"], "a search that transformers no longer includes"),
        (["--generation.early_stopping", "yess"], "`early_stopping` must be a boolean or 'never'"),
        (["--generation.length_penalty_type", "google"], "`length_penalty_type` must be one of gnmt, power"),
        (["--generation.max_length_beyond_source", "-1"], "must be a whole number, 0 or more, but is -1"),
        (["--model.vocab_size", "9"], "set `vocab_size` instead"),
        (
            ["--train_file", "x.tsv", "--train_source", "x.en", "--train_target", "x.de"],
            "`train_source` and `train_file` must not both be given",
        ),
        (["--train_target", "null"], "`train_source` is given without `train_target`"),
        (["--valid_split", "dev", "--valid_source", "null", "--valid_target", "null"], "`dataset` is null"),
        (["--max_steps", "null", "--streaming", "true"], "`streaming` needs `max_steps`"),
        (
            ["--max_steps", "5", "--streaming", "true", "--bpe_dropout", "0.1"],
            "`bpe_dropout` must be 0 for a stream: set it so, or `streaming` to false.",
        ),
        (["--vocab_size", "261"], "`vocab_size` must be at least 262, but is 261 instead."),
        (
            ["--dataset", "some", "--train_split", "train[:9%]", "--valid_split", "dev"]
            + ["--valid_source", "null", "--valid_target", "null"],
            "`train_source` and `train_split` must not both say what to train on: set `train_source` to null",
        ),
        (
            ["--dataset", "some", "--train_file", "x.tsv", "--train_source", "x.en", "--valid_split", "dev"]
            + ["--train_target", "x.de", "--valid_source", "null", "--valid_target", "null"],
            "`train_source` and `train_file` must not both be given",
        ),
        (["--dataset", "some"], "`train_source` and `dataset` must not both be given"),
        (
            ["--final_model", "best", "--eval_steps", "30", "--save_steps", "50"],
            "`save_steps` must be null or a multiple of `eval_steps`",
        ),
        (["--num_train_epochs", "0"], "`num_train_epochs` must be positive"),
        (["--output_dir", "~/run"], "`output_dir` must be written out, but begins with `~`"),
        (["--report_to", "[1]"], "`report_to` must be a list of strings"),
        (["--output_dir", ""], "`output_dir` must not be empty."),
        (["--tokenizer", ""], "`tokenizer` must not be empty: null is none."),
        (["--max_steps", "1" + 23 * "0"], "`max_steps` must be below 2.63, but has 24 digits."),
        (["--learning_rate_scale", "1" + 400 * "0"], "`learning_rate_scale` must be below 2.63"),
        (["--generation.top_k", "1" + 23 * "0"], "`generation.top_k` must be below 2.63"),
        (["--lowercase", "true", "--tokenizer", "mine"], "`lowercase` is for .* but `tokenizer` gives one"),
    ],
)
def test_what_cannot_be_is_an_error(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?").replace("[", r"\[")):
        load_recipe("demo", words)


def test_a_given_tokenizer_has_a_vocabulary_of_its_own() -> None:
    assert TrainRecipe(tokenizer="folder", vocab_size=9).vocab_size == 9


def test_nothing_may_stand_for_a_number_of_the_search() -> None:
    recipe = load_recipe("demo", ["--generation.length_penalty", "null", "--generation.top_k", "null"])
    assert recipe.generation["length_penalty"] is recipe.generation["top_k"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nsed: 2\n", "unknown key `sed`; did you mean `seed`"),
        ("seed: 1\nseed: 2\n", "line 2: `seed` is given twice"),
        ("seed: [1\n", "line 2 is not YAML"),
        ("seed: 1\n[a]: 1\n", "line 2 is not YAML: found unhashable key"),
        ("- seed\n", "must be a YAML mapping"),
        ("1: 2\n", "must be a YAML mapping"),
        ("target_lang: no\n", "`target_lang` must be a string .put it in quotes., but is false instead"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_recipe(recipe_file(tmp_path, text))
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"output_dir: caf\xe9\n")
    with pytest.raises(InputError, match="latin.yaml is not UTF-8"):
        load_recipe(tmp_path / "latin.yaml")
    with pytest.raises(InputError, match="missing.yaml cannot be read: No such file"):
        load_recipe(str(tmp_path / "missing.yaml"))
    with pytest.raises(InputError, match="cannot be read"):
        load_recipe(tmp_path)


def test_an_unknown_recipe_names_the_closest() -> None:
    with pytest.raises(
        InputError, match="no recipe is named 'multi30k_en_dee'; did you mean `multi30k_en_de`"
    ):
        load_recipe("multi30k_en_dee")


def test_a_bare_name_is_never_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text("seed: 99\n")
    Path("demo.yaml").write_text("seed: 98\n")
    assert load_recipe("demo").seed == 1
    assert load_recipe("demo.yaml").seed == 98
    assert load_recipe("./demo").seed == 99


def test_a_run_needs_data_and_a_length() -> None:
    with pytest.raises(InputError, match="no training data"):
        TrainRecipe(max_steps=1).require_trainable()
    with pytest.raises(InputError, match="both are null"):
        TrainRecipe(train_file="a.tsv").require_trainable()
    with pytest.raises(InputError, match="`early_stopping_patience` needs validation data"):
        TrainRecipe(train_file="a.tsv", max_steps=1, early_stopping_patience=3).require_trainable()
    TrainRecipe(train_file="a.tsv", max_steps=1).require_trainable()


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"do_sample": True, "temperature": 0.0}, "`temperature` .* strictly positive"),
        ({"do_sample": True, "top_k": -1}, "`top_k` has to be a strictly positive integer, but is -1"),
        ({"repetition_penalty": 0.0}, "`penalty` has to be a strictly positive float, but is 0.0"),
        ({"bad_words_ids": [[-1]]}, "bad_words_ids"),
        ({"stop_strings": ["."]}, "stop strings"),
    ],
)
def test_a_search_that_cannot_be_is_told_before_training(generation: dict[str, Any], message: str) -> None:
    """What `generate()` alone looks at would otherwise stop the run at its first validation."""
    pairs = TrainRecipe(train_file="a.tsv", max_steps=1, generation=generation)
    texts = LanguageModelRecipe(train_text="a", max_steps=1, generation=generation)
    state = torch.get_rng_state()
    for recipe in (pairs, texts):
        with pytest.raises(InputError, match=f"^`generation` cannot be used: .*{message}"):
            recipe.require_trainable()
    # A masked model does not generate.
    dataclasses.replace(texts, objective="masked").require_trainable()
    sampled = {"num_beams": 1, "do_sample": True, "top_p": 0.9, "max_length_beyond_source": 7}
    dataclasses.replace(pairs, generation=sampled).require_trainable()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_search_is_looked_at_as_it_will_be_saved() -> None:
    """A mapping replaces the default: what it does not name is transformers' own."""
    with pytest.raises(InputError, match="`length_penalty`: `num_beams` is set to None"):
        TrainRecipe(train_file="a.tsv", max_steps=1, generation={"length_penalty": 0.8})
    with pytest.raises(InputError, match="`temperature`: `do_sample` is not set to `True`"):
        LanguageModelRecipe(train_text="a", max_steps=1, generation={"temperature": 0.8})
    # What a model to start from says of its beams is not known yet.
    TrainRecipe(
        train_file="a.tsv", max_steps=1, generation={"length_penalty": 0.8}, init_from="some", model={}
    )


@pytest.mark.parametrize(
    ("asked", "without_validation"),
    [("best", "last"), ("average_best", "average_last"), ("average_last", "average_last"), ("last", "last")],
)
def test_without_validation_the_last_stand_for_the_best(asked: str, without_validation: str) -> None:
    assert TrainRecipe(final_model=asked).effective_final_model == without_validation
    assert TrainRecipe(final_model=asked, valid_file="v.tsv").effective_final_model == asked


def test_differences_are_the_keys_that_differ() -> None:
    one = TrainRecipe(seed=1, model={"d_model": 8}, max_steps=3)
    assert one.differences(TrainRecipe(seed=2, model={"d_model": 16}, max_steps=3)) == ["model", "seed"]
    assert one.differences(dataclasses.replace(one)) == []


def test_packaged_recipes_are_listed_with_a_line_each() -> None:
    recipes = available_recipes()
    assert list(recipes) == [
        *("classifier", "demo", "demo_student", "lm_causal", "lm_masked"),
        *("multi30k_en_de", "multi30k_en_de_student", "multi30k_en_fr"),
        *("tvsub_zh_en", "wmt14_en_de_base", "wmt14_en_de_big", "wmt14_en_fr_big"),
    ]
    assert all(len(summary) > 20 for summary in recipes.values())


@pytest.mark.parametrize(
    ("name", "kind", "command"),
    [("lm_causal", TrainRecipe, "train-lm"), ("demo", LanguageModelRecipe, "train"),
     ("classifier", LanguageModelRecipe, "train-classifier")],
)  # fmt: skip
def test_a_recipe_of_another_kind_names_its_command(name: str, kind: type, command: str) -> None:
    with pytest.raises(InputError, match=f"^recipe {name} is for `vanilla-transformer {command}`"):
        load_recipe(name, [], kind)


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        (LanguageModelRecipe, ["--objective", "both"], "`objective` must be one of causal, masked"),
        (LanguageModelRecipe, ["--mask_probability", "0", "--objective", "masked"], "must be positive"),
        (LanguageModelRecipe, ["--generation.beams", "2"], "unknown key `generation.beams`"),
        (ClassifierRecipe, ["--train_text", "a"], "unknown key `train_text`"),
        (ClassifierRecipe, ["--metric", "bleu"], "`metric` must be one of accuracy, f1, loss"),
    ],
)
def test_what_cannot_be_of_the_other_kinds(kind: type, words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe("lm_causal" if kind is LanguageModelRecipe else "classifier", words, kind)


def test_the_other_kinds_need_their_own_data() -> None:
    with pytest.raises(InputError, match=r"^no training data: give `train_text`\.$"):
        load_recipe("lm_masked", [], LanguageModelRecipe).require_trainable()
    with pytest.raises(InputError, match=r"^no training data: give `train_file`\.$"):
        load_recipe("classifier", [], ClassifierRecipe).require_trainable()


@pytest.mark.parametrize(
    ("kind", "objective", "key", "stack"),
    [
        (LanguageModelRecipe, "causal", "encoder_layers", "encoder"),
        (LanguageModelRecipe, "masked", "decoder_ffn_dim", "decoder"),
        (ClassifierRecipe, None, "decoder_start_token_id", "decoder"),
    ],
)
def test_fields_of_a_stack_that_is_not_there_are_refused(
    kind: type, objective: str | None, key: str, stack: str
) -> None:
    data = {"train_file": "a.csv"} if objective is None else {"train_text": "a", "objective": objective}
    other = key.replace(stack, "encoder" if stack == "decoder" else "decoder")
    known = {} if other == "encoder_start_token_id" else {other: 2}
    kind(max_steps=1, model=known, **data).require_trainable()
    message = rf"^`model\.{key}` has no effect: this model has no {stack}\.$"
    with pytest.raises(InputError, match=message):
        kind(max_steps=1, model=known | {key: 2}, **data).require_trainable()


def test_a_width_need_not_suit_the_heads_of_a_stack_that_is_not_there() -> None:
    recipe = LanguageModelRecipe(model={"d_model": 100, "decoder_attention_heads": 5})
    assert recipe.model_fields == recipe.model | {"encoder_attention_heads": 5}
    with pytest.raises(InputError, match="100 is not divisible by 8"):
        TrainRecipe(model=recipe.model)


def test_a_model_to_start_from_has_its_own_shape() -> None:
    assert TrainRecipe(init_from="folder", model={"encoder_attention_heads": 3}).init_from == "folder"


def test_a_string_that_looks_like_a_number_is_read_back(tmp_path: Path) -> None:
    recipe = load_recipe("demo", ["--output_dir", "1e-4"])
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml(), "utf-8")
    assert load_recipe(path) == recipe


def test_a_range_of_layers_on_the_command_line() -> None:
    words = ["--learning-rate-factors.encoder.layers.0-1", "0.5", "--model.d-model", "64"]
    wanted = {"learning_rate_factors.encoder.layers.0-1": 0.5, "model.d_model": 64}
    assert parse_overrides(words, TrainRecipe) == wanted


@pytest.mark.parametrize("text", ["output_dir: 2024-02-30", "model: {id2label: 3}"])
def test_values_that_no_library_can_read_are_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="^[^\n]*$"):
        load_recipe(path)


def test_a_preset_is_not_hidden_by_the_fields_of_a_recipe() -> None:
    message = r"`--preset big` would be hidden by what the recipe says under `model` \(.*d_model.*`?--model"
    with pytest.raises(InputError, match=message):
        load_recipe("wmt14_en_de_base", ["--preset", "big"])
    with pytest.raises(InputError, match="would be hidden"):
        load_recipe("wmt14_en_de_base", ["--preset", "big", "--model.d_model", "64"])
    assert load_recipe("wmt14_en_de_base", ["--preset", "big", "--model", "{}"]).model == {}
    for fitting in ("base", "E"):  # learned positions are no field of the recipe's own
        assert load_recipe("wmt14_en_de_base", ["--preset", fitting]).preset == fitting
