"""Train a language model on text files: a decoder that goes on (causal) or an encoder that fills (masked).

    vanilla-transformer train-lm --objective causal --train_text train.txt --valid_text valid.txt
    vanilla-transformer train-lm --objective masked --train_text train.txt.gz --valid_text valid.txt

If the options come first, RECIPE is lm_causal or lm_masked, as the objective says; else it is one of these
names or a YAML file. Any key of it can be replaced by `--key value`. Perplexity is measured on the validation
text, and samples are printed each time. The same command given again goes on from the last checkpoint of a
run that was stopped. A text to try it with, from a small grammar:

    vanilla-transformer make-demo-corpus --output_dir corpus
    vanilla-transformer train-lm lm_causal --train_text corpus/train.en --valid_text corpus/valid.en

`--init_from FOLDER` starts from a trained model, whose shape the recipe must have (`--model "{}"` takes it
over): from the decoder of a translation model (causal), or its encoder (masked). Several GPUs and machines as
for `vanilla-transformer train`.
"""

from __future__ import annotations

from collections.abc import Sequence

from vanilla_transformer.scripts.train import train_by_recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    return train_by_recipe(argv, doc=__doc__, kind="LanguageModelRecipe", default=recipe_for)


def recipe_for(words: Sequence[str]) -> str:
    """The packaged recipe of the objective among the options."""
    masked = "--objective=masked" in words or ("--objective", "masked") in zip(words, words[1:], strict=False)
    return "lm_masked" if masked else "lm_causal"


if __name__ == "__main__":
    raise SystemExit(main())
