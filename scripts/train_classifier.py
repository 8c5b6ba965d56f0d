"""Train a classifier of texts on files with labels; accuracy and F1 are measured on validation data.

    vanilla-transformer train-classifier --train_file train.csv --valid_file valid.csv
    vanilla-transformer train-classifier --train_file train.jsonl --text_column review --label_column stars

RECIPE is `classifier` if the options come first, or a YAML file; any key of it can be replaced by
`--key value`. The labels in the training data are the classes, and are saved with the model. The same command
given again goes on from the last checkpoint of a run that was stopped. Texts to try it with, from a small
grammar:

    vanilla-transformer make-demo-corpus --output_dir corpus --labels
    vanilla-transformer train-classifier --train_file corpus/train.csv --valid_file corpus/valid.csv

`--init_from FOLDER` starts from the encoder of a trained model, whose shape the recipe must have
(`--model "{}"` takes it over), and `--freeze "[embeddings, encoder.layers.0-3]"` keeps parts of it as they
are. Several GPUs and machines as for `vanilla-transformer train`.
"""

from __future__ import annotations

from collections.abc import Sequence

from vanilla_transformer.scripts.train import train_by_recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    return train_by_recipe(argv, doc=__doc__, kind="ClassifierRecipe", default=lambda words: "classifier")


if __name__ == "__main__":
    raise SystemExit(main())
