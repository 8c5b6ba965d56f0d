"""The four files of a corpus: the user's own, or those of the embedded one."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.options import positive
from vanilla_transformer.text_files import short_digest

# Those of the embedded corpus, by the options that name others.
LANGUAGES = {"source_lang": "zh", "target_lang": "en"}
CORPUS_FILES = ("train_source", "train_target", "valid_source", "valid_target")


def add_corpus_options(parser: argparse.ArgumentParser, *, train_size: int) -> None:
    """The options for text of the user's own, instead of `train_size` pairs of the embedded corpus."""
    for name in CORPUS_FILES:
        parser.add_argument(f"--{name}", metavar="FILE", help="text of your own, all four or none")
    parser.add_argument(
        "--train_size",
        type=positive,
        help=f"training pairs of the embedded corpus; default: {train_size}",
    )
    parser.set_defaults(embedded_train_size=train_size)


def corpus_files(args: argparse.Namespace) -> dict[str, str]:
    """The four files that are given, or those of the embedded corpus, written into `args.output_dir`.

    The languages and the size among `args` that are not given become those of the embedded corpus.

    Raises:
        InputError: some of the four are given, but not all, without their languages, or with a size; or the
            folder holds a corpus of another size.
    """
    default_size = vars(args).pop("embedded_train_size", None)
    given = {name: getattr(args, name) for name in CORPUS_FILES}
    own = all(given.values())
    for name, language in LANGUAGES.items():
        if getattr(args, name, language) is None:
            if own:
                raise InputError(f"`--{name}` must be given for files of your own.")
            setattr(args, name, language)
    if own:
        if args.train_size is not None:
            raise InputError("`--train_size` is for the embedded corpus: leave it out for files of your own.")
        args.train_size = default_size  # as earlier runs on such files have noted it
        return given
    if any(given.values()):
        raise InputError(f"give all of {', '.join(f'`--{name}`' for name in CORPUS_FILES)}, or none.")
    from vanilla_transformer.training.embedded_corpus import build_corpus, write_corpus
    from vanilla_transformer.training.reports import check_settings

    folder = Path(args.output_dir, "corpus")
    settings = folder / "settings.json"
    if args.train_size is None:
        args.train_size = default_size
    if not settings.is_file():  # which is written last
        write_corpus(build_corpus(train_size=args.train_size), folder)
    check_settings(settings, {"train_size": args.train_size})
    names = ("train.zh", "train.en", "valid.zh", "valid.en")
    return {side: str(folder / name) for side, name in zip(CORPUS_FILES, names, strict=True)}


def corpus_digests(files: Mapping[str, str]) -> dict[str, str]:
    """A digest of each of the `corpus_files`, for settings that results of another corpus do not share."""
    return {name: short_digest(Path(path)) for name, path in files.items()}
