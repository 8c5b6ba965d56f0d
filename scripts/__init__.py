"""What the scripts share: errors in one line, text files line by line, and models by name.

Nothing heavy is imported before it is needed, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vanilla_transformer.errors import InputError, first_line, missing_package
from vanilla_transformer.files import is_path, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STANDARD_INPUT = "-"
CORPUS_FILES = ("train_source", "train_target", "valid_source", "valid_target")
BACKENDS = ("ctranslate2", "onnx")
DTYPES = ("auto", "float32", "bfloat16", "float16")


def run_script(body: Callable[[], int | None]) -> int:
    """Run the body of a script and turn what the user can mend into one line on standard error.

    Standard streams that the caller closed hold nothing and take everything. What `body` prints is written
    when this returns or raises.

    Returns:
        The exit status: 0, or what `body` returns; 2 for wrong input and files that cannot be read or
        written; 130 after Ctrl-C; 141 when the reader of the output went away.
    """
    _open_absent_streams()
    _escape_unknown_letters()
    try:
        try:
            return body() or 0
        finally:
            sys.stdout.flush()
    except InputError as error:
        return fail(str(error))
    except ImportError as error:
        if error.name is None:  # a library that misses another one, and says so
            return fail(first_line(error))
        package = error.name.partition(".")[0]
        if not isinstance(error, ModuleNotFoundError) or package == __name__.partition(".")[0]:
            raise
        return fail(missing_package(package, "train"))
    except BrokenPipeError:
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return fail(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        _tell("interrupted")
        return 130
    finally:
        _close_broken_streams()


def _open_absent_streams() -> None:
    # In the order of their numbers: each gets its own back, which no file that is opened later then takes.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (for good)


def _escape_unknown_letters() -> None:
    """Print an escape such as \\u732b for a letter that the encoding of the output lacks."""
    for stream in (sys.stdout, sys.stderr):
        # What else the user or Python chose stays.
        if isinstance(stream, TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _close_broken_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Python would try to flush once more at exit, and complain.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fail(message: str) -> int:
    """Print `error: ` and the message, in a line of its own, on standard error; the exit status 2."""
    _tell("error: " + " ".join(message.split()))
    return 2


def _end_progress_bars() -> None:
    """End the line of each open progress bar, so that what is printed next begins on a new one."""
    # Only who draws bars has imported tqdm; their list is shared by all kinds of them, and a private name.
    bars = getattr(getattr(sys.modules.get("tqdm"), "tqdm", None), "_instances", ())
    for bar in list(bars):
        with suppress(OSError, ValueError):  # as in `_tell`
            bar.close()


def _tell(line: str) -> None:
    _end_progress_bars()
    # Where nobody reads the errors, the exit status tells.
    with suppress(OSError):
        print(line, file=sys.stderr)


def say(title: str) -> None:
    """A title of what follows, seen at once."""
    print(f"\n{title}", flush=True)


class Parser(argparse.ArgumentParser):
    """Takes `--num-beams` for `--num_beams`, and the other way round."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse."""
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._spelt(word) for word in words], namespace)

    def _spelt(self, word: str) -> str:
        name, equals, value = word.partition("=")
        spellings = (name, f"--{name[2:].replace('-', '_')}", f"--{name[2:].replace('_', '-')}")
        known = (one for one in spellings if name.startswith("--") and one in self._option_string_actions)
        return f"{next(known, name)}{equals}{value}"


def parser_of(doc: str | None, **options: Any) -> argparse.ArgumentParser:
    """A parser whose help begins with a module's docstring."""
    _escape_unknown_letters()  # the help is printed before `run_script` begins
    return Parser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **options,
    )


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, but is {text!r} instead.")
    return number


def random_seed(text: str) -> int:
    """A seed that NumPy takes, for argparse."""
    number = int(text) if text.isdecimal() else -1
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 0 to 2^32 - 1, but is {text!r} instead."
        )
    return number


def positive_number(text: str) -> float:
    """A finite number above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, but is {text!r} instead.")
    return number


def at_least_two(text: str) -> int:
    """A whole number above 1, for argparse."""
    if (number := positive(text)) == 1:
        raise argparse.ArgumentTypeError("must be 2 or more, as the token that starts a translation counts.")
    return number


def penalty_exponent(text: str) -> float:
    """A length penalty that `generate()` takes, for argparse."""
    from vanilla_transformer.modeling.generation_vanilla_transformer import MOST_ALPHA

    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not -MOST_ALPHA <= number <= MOST_ALPHA:
        raise argparse.ArgumentTypeError(
            f"must be a number from -{MOST_ALPHA} to {MOST_ALPHA}, but is {text!r} instead."
        )
    return number


def sentence(text: str) -> str:
    """Text of the command line, for argparse; Python hands on bytes that are not UTF-8 as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"must be UTF-8, but is {text!r} instead.") from None
    return text


def is_stream(path: str) -> bool:
    """Whether a pipe, a device or the like has that name: it hands on what it is given, and holds nothing."""
    place = Path(path)
    return place.exists() and not (place.is_file() or place.is_dir())


def read_only_once(path: str) -> bool:
    """Whether `read_lines` finds the lines no second time: in standard input and in a named pipe."""
    return path == STANDARD_INPUT or is_stream(path)


def read_lines(path: str) -> Iterator[str]:
    """The lines of a UTF-8 file, as training reads them, or of standard input, for "-", without their ends.

    A file named .gz, .bz2 or .xz is unpacked. Only a line feed (or carriage return and line feed) ends a
    line, so that line n stays line n whatever else a sentence holds.

    Raises:
        InputError: the file cannot be read, or a line is not UTF-8; the message names file and line.
    """
    from vanilla_transformer.training import parallel_files

    if not read_only_once(path):
        yield from parallel_files.read_lines(Path(path))
        return
    name = "standard input" if path == STANDARD_INPUT else path
    try:
        with nullcontext(sys.stdin.buffer) if path == STANDARD_INPUT else open(path, "rb") as file:
            yield from parallel_files.decoded_lines(file, name)  # each line as soon as it comes
    except OSError as error:
        raise InputError(f"`{name}` cannot be read: {error.strerror or error}.") from None


def read_aligned(paths: Sequence[str]) -> list[list[str]]:
    """The lines of files that must be equally long.

    Raises:
        InputError: as `read_lines`, and if the files are empty or of unequal length.
    """
    texts = [list(read_lines(path)) for path in paths]
    for path, text in zip(paths, texts, strict=True):
        if not text:
            raise InputError(f"`{path}` is empty.")
        if len(text) != len(texts[0]):
            raise InputError(
                f"`{paths[0]}` and `{path}` must have equally many lines, but have {len(texts[0])} and"
                f" {len(text)} instead."
            )
    return texts


def check_output(path: str | None, inputs: Iterable[str | None] = ()) -> None:
    """Refuse, before any work is done, a file that could not be written or that is read.

    Args:
        path: the file to be; `None` is standard output.
        inputs: names of the files that are read, `None` for one that is not given.

    Raises:
        InputError: `path` is a folder or one of `inputs`, no file can be made in its own folder, or its name
            promises a packed file.
    """
    if path is None or is_stream(path):
        return
    from vanilla_transformer.training.parallel_files import compression

    if packed := compression(Path(path)):
        raise InputError(f"`{path}` must not end in {packed}: what is written is plain text.")
    if Path(path).is_dir():
        raise InputError(f"`{path}` is a folder, not a file.")
    if Path(path).exists() and any(
        Path(path).samefile(name) for name in inputs if name and Path(name).exists()
    ):
        raise InputError(f"`--output` must not be a file that is read, but is `{path}`.")
    try:
        tempfile.TemporaryFile(dir=_behind_link(path).parent).close()
    except OSError as error:
        raise InputError(f"`{path}` cannot be written: {error.strerror or error}.") from None


def write_lines(lines: Iterable[str], path: str | None) -> None:
    """Write one line for each text to a file, or to standard output.

    A file is written beside and renamed when it is complete. Standard output and pipes show each line at
    once.
    """
    if path is None:
        _write_each(lines, sys.stdout.buffer)
    elif is_stream(path):
        with open(path, "wb") as file:
            _write_each(lines, file)
    else:
        with _written_whole(_behind_link(path)) as file:
            file.writelines(f"{one_line(line)}\n".encode() for line in lines)


def _write_each(lines: Iterable[str], file: IO[bytes]) -> None:
    for line in lines:
        file.write(f"{one_line(line)}\n".encode())
        file.flush()


def _behind_link(path: str) -> Path:
    """The file that a link leads to, for a file that is renamed would take the place of the link."""
    return Path(os.path.realpath(path) if os.path.islink(path) else path)


class PartialFile:
    """A file of lines that grows beside, and goes on where an interrupted run of the same job stopped.

    Beside `out`, `out.partial` holds the lines so far, and `out.partial.json` what job they are of.

    Args:
        path: the file that the lines become when all are there.
        job: what decides the lines, as JSON holds it.
        step: lines that are made together. Only whole steps of a run before count, so that this one goes on
            as if there had been no interruption.

    Attributes:
        done: how many lines are there.

    Raises:
        InputError: the lines that are there are of another job.
    """

    def __init__(self, path: str, job: dict[str, Any], step: int):
        self.path = _behind_link(path)
        self.lines, self.note = Path(f"{self.path}.partial"), Path(f"{self.path}.partial.json")
        self.step, self.done = step, 0
        if self.lines.is_file() and self.note.is_file():
            self._check(job)
            self.done = self._keep_whole_steps()
            return
        with _written_whole(self.note) as file:
            file.write(json.dumps(job, indent=2).encode())
        self.lines.unlink(missing_ok=True)

    def _check(self, job: dict[str, Any]) -> None:
        from vanilla_transformer.files import read_json

        noted = read_json(self.note)
        changed = [key for key in job | noted if job.get(key) != noted.get(key)]
        if changed:
            raise InputError(
                f"`{self.lines}` is of another job ({', '.join(changed)} differ): delete it, or give another"
                " `--output`."
            )

    def _keep_whole_steps(self) -> int:
        done = size = kept = 0
        with self.lines.open("r+b") as file:
            for number, line in enumerate(file, start=1):
                size += len(line)
                if line.endswith(b"\n") and number % self.step == 0:
                    done, kept = number, size
            file.truncate(kept)
        return done

    def write(self, lines: Iterable[str]) -> None:
        """Append one line for each text; the file gets its name when no more come."""
        with self.lines.open("ab") as file:
            for number, line in enumerate(lines, start=1):
                file.write(f"{one_line(line)}\n".encode())
                if number % self.step == 0:
                    file.flush()
        os.replace(self.lines, self.path)
        self.note.unlink()


@contextmanager
def _written_whole(path: Path) -> Iterator[IO[bytes]]:
    descriptor, beside = tempfile.mkstemp(prefix=f".{path.name}.incomplete-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        # mkstemp lets nobody else read; a file written plainly has what the umask leaves.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(beside, 0o666 & ~mask)
        os.replace(beside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise


def add_loading_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """The options that say which model is loaded, and how."""
    parser.add_argument("--model", required=required, help="folder or Hub name of the model")
    parser.add_argument(
        "--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1, mps; default: auto"
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="auto",
        help="arithmetic; auto is what the weights are saved in; on a CPU, float16 means weights of half the"
        " size and arithmetic in float32, the fastest for few sentences; bfloat16 is faster for files where"
        " the processor multiplies it (AVX512-BF16, AMX); default: auto",
    )


def add_language_options(parser: argparse.ArgumentParser) -> None:
    """The options for models of several languages."""
    for side, what in (("src", "sources"), ("tgt", "translations")):
        parser.add_argument(
            f"--{side}_lang",
            metavar="LANG",
            help=f"language of the {what} as the tokenizer of a model of several names it: deu_Latn, de_DE",
        )


def add_model_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """The options that say which model translates, where, and how it searches."""
    add_loading_options(parser, required=required)
    parser.add_argument(
        "--num_beams", type=positive, help="beams of the search; default: what the model's folder says"
    )
    parser.add_argument(
        "--length_penalty",
        type=penalty_exponent,
        help="alpha of the beam search; default: what the model's folder says",
    )
    parser.add_argument(
        "--max_length",
        type=at_least_two,
        help="most tokens of a translation, that of its start counted; default: what the model's folder says,"
        " such as 50 more than its source has",
    )
    parser.add_argument(
        "--tokens_per_batch",
        type=positive,
        default=4096,
        help="most source tokens translated at once; default: %(default)s",
    )
    add_language_options(parser)
    parser.add_argument(
        "--backend", choices=BACKENDS, help="engine that --model was exported to, by `convert --to`"
    )
    parser.add_argument(
        "--compute_type",
        metavar="TYPE",
        help="arithmetic of ctranslate2 (float32, int8, ...); default: as the weights are stored",
    )


def add_corpus_options(parser: argparse.ArgumentParser, *, train_size: int) -> None:
    """The options for text of the user's own, instead of `train_size` pairs of the embedded corpus."""
    for name in CORPUS_FILES:
        parser.add_argument(f"--{name}", metavar="FILE", help="text of your own, all four or none")
    parser.add_argument(
        "--train_size",
        type=positive,
        default=train_size,
        help="training pairs of the embedded corpus; default: %(default)s",
    )


def corpus_files(args: argparse.Namespace) -> dict[str, str]:
    """The four files that are given, or those of the embedded corpus, written into `args.output_dir`.

    Raises:
        InputError: some of the four are given, but not all; or the folder holds a corpus of another size.
    """
    given = {name: getattr(args, name) for name in CORPUS_FILES}
    if all(given.values()):
        return given
    if any(given.values()):
        raise InputError(f"give all of {', '.join(f'`--{name}`' for name in CORPUS_FILES)}, or none.")
    from vanilla_transformer.training.embedded_corpus import build_corpus, write_corpus
    from vanilla_transformer.training.reports import check_settings

    folder = Path(args.output_dir, "corpus")
    settings = folder / "settings.json"
    if not settings.is_file():  # which is written last
        write_corpus(build_corpus(train_size=args.train_size), folder)
    check_settings(settings, {"train_size": args.train_size})
    names = ("train.zh", "train.en", "valid.zh", "valid.en")
    return {side: str(folder / name) for side, name in zip(CORPUS_FILES, names, strict=True)}


def generate_options(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `generate()` that were given on the command line."""
    names = ("num_beams", "length_penalty", "max_length")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def check_model_name(name: str) -> None:
    """Refuse a folder without a model, and what can only be a folder, before the Hub is asked for it.

    Raises:
        InputError: `name` is a file, a path where there is no folder, or the folder of a run that has not
            ended, of an exported model, or of something else.
    """
    folder = Path(name)
    if not folder.is_dir():
        if folder.exists() or is_path(name):
            raise InputError(f"`{name}` is not a folder with a model.")
        return
    for file, backend in (("model.bin", "ctranslate2"), ("encoder.onnx", "onnx")):
        if (folder / file).is_file() and not any(folder.glob("*.safetensors")):
            raise InputError(f"`{name}` holds an exported model: add `--backend {backend}`.")
    if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
        from vanilla_transformer.training.checkpoints import list_checkpoints

        if found := list_checkpoints(folder):
            raise InputError(
                f"`{name}` is a run that has not ended: train on, or name a checkpoint of it, such as"
                f" `{found[-1]}`."
            )
        raise InputError(f"`{name}` is not a folder with a model: it has no config.json.")


def load_model(
    name: str, *, device: str = "auto", dtype: str = "auto", quantization_config: Any = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Any sequence-to-sequence model of transformers with its tokenizer, on its device.

    `device` is "auto", a GPU if there is one, or a name of PyTorch's; the rest is as in `from_pretrained`.

    Raises:
        InputError: there is no such model, it is damaged or of another kind, or the device does not exist.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils import logging

    import vanilla_transformer  # noqa: F401 (makes the Auto classes know our model)
    from vanilla_transformer.modeling.pipelines import check_translates, check_vocabulary

    place = _device(device)
    check_model_name(name)
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSeq2SeqLM.from_pretrained(
            name,
            dtype="auto" if dtype == "auto" else getattr(torch, dtype),
            quantization_config=quantization_config,
        )
    except Exception as error:  # what a damaged or foreign folder raises is of many kinds
        here = "" if Path(name).is_dir() else "there is no such folder here, and "
        raise InputError(f"`{name}` cannot be loaded: {here}{first_line(error)}") from error
    finally:
        logging.enable_progress_bar()
    check_translates(model.config, name)
    check_vocabulary(tokenizer, model.config)
    return model.eval().to(place), tokenizer


def load_named_model(args: argparse.Namespace) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of PyTorch that the options of `add_loading_options` name, with its tokenizer.

    Raises:
        InputError: as `load_model`.
    """
    half = _half_weights(args)
    return load_model(args.model, device=args.device, dtype=args.dtype, quantization_config=half)


def load_translator(args: argparse.Namespace) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model that the options of `add_model_options` name, PyTorch's or an engine's, with its tokenizer.

    Raises:
        InputError: as `load_model`, an option is given that the engine does not have, or a language that the
            tokenizer does not know.
    """
    model, tokenizer = _load_translator(args)
    set_languages(model, tokenizer, args)
    return model, tokenizer


def set_languages(model: Any, tokenizer: Any, args: argparse.Namespace) -> None:
    """Set model and tokenizer to the languages that the options of `add_language_options` name.

    Raises:
        InputError: the tokenizer takes no languages, or does not know one of them.
    """
    from vanilla_transformer.modeling.pipeline_vanilla_transformer import known_languages, search_in

    try:
        languages = known_languages(tokenizer, src_lang=args.src_lang, tgt_lang=args.tgt_lang)
    except ValueError as error:
        raise InputError(str(error)) from None
    for name, language in languages.items():
        setattr(tokenizer, name, language)
    if search := search_in(tokenizer, languages):
        model.generation_config.update(**search)


def _load_translator(args: argparse.Namespace) -> tuple[Any, PreTrainedTokenizerBase]:
    if args.compute_type and args.backend != "ctranslate2":
        raise InputError("`--compute_type` goes together with `--backend ctranslate2`.")
    if args.backend is None:
        return load_named_model(args)
    if args.dtype != "auto":
        instead = "; use `--compute_type`" if args.backend == "ctranslate2" else ""
        raise InputError(f"`--dtype` is not available with `--backend {args.backend}`{instead}.")
    from transformers import AutoTokenizer

    from vanilla_transformer.modeling.engines import load_engine

    # onnxruntime is asked for the CPU, whatever there is.
    device = "cpu" if args.device == "auto" and args.backend == "onnx" else _device(args.device)
    model = load_engine(args.backend, args.model, device=device, compute_type=args.compute_type)
    try:
        return model, AutoTokenizer.from_pretrained(args.model)
    except Exception as error:  # what a damaged folder raises is of many kinds
        raise InputError(f"the tokenizer in `{args.model}` cannot be loaded: {first_line(error)}") from None


def _half_weights(args: argparse.Namespace) -> Any:
    """What keeps weights in float16 where that is asked for on a CPU, whose arithmetic in it is slow."""
    if args.dtype != "float16" or _device(args.device).type != "cpu":
        return None
    from vanilla_transformer.modeling.half_weights import HalfWeightsConfig, half_weights_run_here

    return HalfWeightsConfig() if half_weights_run_here() else None


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        return torch.device(torch.accelerator.current_accelerator(check_available=True) or "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a value, which `meta` cannot give
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"`device` {name!r} cannot be used: {first_line(error)}") from None
    return device
