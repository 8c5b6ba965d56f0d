"""What may go to the Hub, and how: one list of files, one commit, one clear line on a failure."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, ModelCardData
from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id
from transformers.utils import PushToHubMixin

from .saving_vanilla_transformer import (
    ADAPTER_CONFIG_FILE,
    auto_classes,
    check_safetensors,
    files_written_whole,
    source_files,
    weights_variant,
    write_code,
)

CARD_FILE = "README.md"
# Beside our own code nothing else is ever sent: no optimizer state, no log, no cache, nothing pickled.
SENT_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-?????-of-?????.safetensors",
    "model.safetensors.index.json",
    # Of a `variant`, "fp16" for instance, whole or in shards.
    "model.*.safetensors",
    "model.safetensors.index.*.json",
    ADAPTER_CONFIG_FILE,
    "adapter_model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    # Of the tokenizers that converted models come with: ours for fairseq's, Marian's and FSMT's.
    "vocab.json",
    "target_vocab.json",
    "merges.txt",
    "source.spm",
    "target.spm",
    "vocab-src.json",
    "vocab-tgt.json",
    # Of the tokenizers of transformers' other models: M2M100's, T5's, ProphetNet's ...
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spiece.model",
    "spm.model",
    "spm_char.model",
    "tokenizer.model",
    "prophetnet.tokenizer",
    "vocab.txt",
    "training_curves.png",
    CARD_FILE,
)
# A Space holds the page of a model, and the package's code instead of weights.
SPACE_FILES = (
    "app.py",
    "packages.txt",
    "requirements.txt",
    "vanilla_transformer/*.py",
    CARD_FILE,
)
# The Hub's name of what the models do that an Auto class loads.
_TASKS = {
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForSeq2SeqLM": "translation",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
}
_HUB_OPTIONS = ("repo_id", "commit_message", "private", "token", "revision", "create_pr")
# What a tokenizer of words has beside its vocabulary, or has not.
_VOCABULARY = "vocab.json"
_BESIDE_A_VOCABULARY = ("target_vocab.json", "merges.txt")
# What would be applied to a whole model that is sent into the repository of an adapter.
_ADAPTER = (ADAPTER_CONFIG_FILE, "adapter_model.safetensors")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")
_REASONS = {
    401: "the Hub does not know you: log in with `hf auth login`, or give a valid token",
    403: "your token may not write there",
    404: "there is no such repository or revision, or you may not see it",
    409: "the repository was changed by somebody else at the same time",
    412: "the repository was changed by somebody else at the same time",
    429: "the Hub has had too many requests from you",
}


def check_repo_id(repo_id: str) -> None:
    """Refuse a name that cannot be that of a repository, before the network is used.

    Raises:
        ValueError: not `name` or `owner/name` in the characters that the Hub allows.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"`repo_id` must be the name of a repository, but is {repo_id!r} instead ({reason})."
        ) from None


def files_to_send(folder: str | Path, repo_type: str = "model") -> list[str]:
    """Names of the files in `folder` that may be sent, sorted; all others stay here.

    Args:
        folder: a saved model, or what a Space is to hold.
        repo_type: "model" or "space".
    """
    return sorted(_listed(relative_files(folder), repo_type))


def relative_files(folder: str | Path) -> list[str]:
    """Names of all files below a folder, relative to it."""
    return [path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()]


def _listed(names: Sequence[str], repo_type: str = "model") -> list[str]:
    """Those that are on the list of what may be sent."""
    allowed = SPACE_FILES if repo_type == "space" else (*SENT_FILES, *(path.name for path in source_files()))
    return [name for name in names if any(fnmatch(name, pattern) for pattern in allowed)]


def check_contents(folder: str | Path, names: Sequence[str], origin: str | Path | None = None) -> None:
    """Look into the files to be sent.

    Args:
        folder: where they lie.
        names: their names there.
        origin: the folder that they were taken from, which they must not name either.

    Raises:
        ValueError: weights that are not safetensors, or text with an access token or a path of this machine.
    """
    places = (Path.home(), Path(folder).absolute(), Path(origin or folder).absolute())
    private = [f"{path}/" for path in places if len(path.parts) > 1]
    for name in names:
        path = Path(folder) / name
        if path.suffix == ".safetensors":
            check_safetensors(path)
        elif path.suffix not in (".png", ".spm", ".model"):
            text = text_of(path)
            if _TOKEN.search(text):
                raise ValueError(f"`{name}` holds an access token and is not sent.")
            if found := next((place for place in private if place in text), None):
                raise ValueError(f"`{name}` names a folder of this machine ({found}) and is not sent.")


def text_of(path: Path) -> str:
    """What a text file says.

    Raises:
        ValueError: it is not UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"`{path.name}` is not UTF-8: {error.reason}.") from None


def upload(
    folder: str | Path,
    repo_id: str,
    *,
    repo_type: str = "model",
    names: Sequence[str] | None = None,
    path_in_repo: str = "",
    card: str | None = None,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> CommitInfo:
    """Send what `folder` holds and may be sent as one commit; the repository is made if there is none.

    Weights that have arrived are not sent a second time when a failed upload is repeated.

    Args:
        folder: a saved model, tokenizer or both; or what a Space is to hold.
        repo_id: `owner/name`, or `name` in your own account.
        repo_type: "model" or "space" (one of Gradio).
        names: these of its files, each of which must be on the list; by default all that are.
        path_in_repo: folder in the repository; by default its root.
        card: text of a model card for a repository that has none, where `folder` has none either.
        commit_message, commit_description: of the commit.
        private: whether a new repository is private; by default as the account says.
        token: access token; by default the one that `hf auth login` keeps.
        revision: branch to commit to; it is made if there is none.
        create_pr: open a pull request instead.

    Raises:
        ValueError: a name or a file that is refused, see `check_repo_id` and `check_contents`; or one of
            `names` is not on the list.
        OSError: the Hub refused, or could not be reached; the message is one line.
    """
    check_repo_id(repo_id)
    names = files_to_send(folder, repo_type) if names is None else sorted(names)
    if unlisted := sorted(set(names) - set(_listed(names, repo_type))):
        raise ValueError(
            f"`{unlisted[0]}` is not on the list of files that may be sent, and without it the {repo_type} is"
            " not whole: nothing is sent."
        )
    check_contents(folder, names)
    prefix = f"{path_in_repo}/" if path_in_repo else ""
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(f"{prefix}{name}", str(Path(folder) / name)) for name in names
    ]
    api = HfApi()
    with readable_hub_errors(repo_id):
        repo_id = api.create_repo(
            repo_id,
            repo_type=repo_type,
            space_sdk="gradio" if repo_type == "space" else None,
            private=private,
            token=token,
            exist_ok=True,
        ).repo_id
        if revision is not None and not revision.startswith("refs/pr"):
            api.create_branch(repo_id, repo_type=repo_type, branch=revision, token=token, exist_ok=True)
        lacking = card is not None and CARD_FILE not in names
        if lacking and not api.file_exists(
            repo_id, CARD_FILE, repo_type=repo_type, revision=revision, token=token
        ):
            operations.append(CommitOperationAdd(CARD_FILE, str(card).encode()))
        if any(weights_variant(name) is not None for name in names) or _VOCABULARY in names:
            there = api.list_repo_files(repo_id, repo_type=repo_type, revision=revision, token=token)
            operations += [CommitOperationDelete(name) for name in _superseded(there, names, prefix)]
        return api.create_commit(
            repo_id,
            operations,
            repo_type=repo_type,
            commit_message=commit_message or f"Upload {repo_type}",
            commit_description=commit_description,
            token=token,
            revision=revision,
            create_pr=create_pr,
        )


def _superseded(there: Sequence[str], names: Sequence[str], prefix: str) -> list[str]:
    """Files of a repository that would be loaded instead of what is sent now, or beside it."""
    variants = {weights_variant(name) for name in names} - {None}
    old = {name.removeprefix(prefix) for name in there if name.startswith(prefix)} - set(names)
    return [
        f"{prefix}{name}"
        for name in sorted(old)
        if weights_variant(name) in variants
        or ("" in variants and name in _ADAPTER)
        or (_VOCABULARY in names and name in _BESIDE_A_VOCABULARY)
    ]


@contextmanager
def readable_hub_errors(repo_id: str) -> Iterator[None]:
    """Turn whatever a refused or interrupted request raises into one `OSError` of one line."""
    try:
        yield
    except Exception as error:
        reason = _failure(error)
        if reason is None:
            raise
        raise OSError(
            f"`{repo_id}` could not be written: {reason}. Nothing here was changed; the same call goes on"
            " where this one stopped."
        ) from error


def _failure(error: BaseException | None) -> str | None:
    """Why a request failed, from the error or what caused it; `None` for an error of another kind."""
    if error is None:
        return None
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        message = getattr(error, "server_message", None) or "no reason given"
        trouble = "the Hub has trouble" if status >= 500 else f"the Hub says: {message.partition(chr(10))[0]}"
        return f"{_REASONS.get(status, trouble)} (status {status})"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    library = type(error).__module__.partition(".")[0]
    if isinstance(error, ConnectionError | TimeoutError) or library.startswith(("http", "hf_xet")):
        return f"the connection was cut ({type(error).__name__})"
    return _failure(error.__cause__)


class SharedOnHub(PushToHubMixin):
    """Saves whole or not at all, with the code beside, and sends nothing that is not on the list.

    To be the first base of a class that has a `save_pretrained` of its own.
    """

    def save_pretrained(
        self, save_directory: str | Path, *args: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> Any:
        """Save into a folder, so that `from_pretrained` loads it with or without our package.

        Args:
            save_directory: the folder; what it holds otherwise stays.
            push_to_hub: also send what was saved to `repo_id` (default: the name of the folder).
            args, kwargs: as transformers' method of the same name takes them.
        """
        hub = {name: kwargs.pop(name) for name in _HUB_OPTIONS if push_to_hub and name in kwargs}
        if push_to_hub:
            hub.setdefault("repo_id", Path(save_directory).absolute().name)
            check_repo_id(hub["repo_id"])
        writes = kwargs.get("is_main_process", True)
        if hasattr(self, "should_save_on_this_rank"):  # models: of many processes that save, one writes
            writes = self.should_save_on_this_rank(writes)
        if not writes or kwargs.get("distributed_checkpoint"):
            return super().save_pretrained(save_directory, *args, **kwargs)
        with files_written_whole(save_directory) as folder:
            saved = super().save_pretrained(folder, *args, **kwargs)
            write_code(folder)
            written = relative_files(folder)
        if push_to_hub:
            upload(save_directory, names=written, card=self._card(hub["repo_id"]), **hub)
        if isinstance(saved, tuple):
            saved = tuple(str(Path(save_directory) / Path(name).relative_to(folder)) for name in saved)
        return saved

    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        max_shard_size: int | str = "50GB",
        tags: list[str] | None = None,
    ) -> CommitInfo:
        """Save into a temporary folder and send it; a repository without a model card gets a short one.

        Args:
            repo_id: `owner/name`, or `name` in your own account.
            max_shard_size: most bytes of one file of weights.
            tags: further tags for the short model card.
            commit_message, commit_description, private, token, revision, create_pr: as `upload` takes them.

        Raises:
            ValueError, OSError: as `upload`.
        """
        check_repo_id(repo_id)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, max_shard_size=max_shard_size)
            return upload(
                folder,
                repo_id,
                names=relative_files(folder),
                card=self._card(repo_id, tags or []),
                commit_message=commit_message,
                commit_description=commit_description,
                private=private,
                token=token,
                revision=revision,
                create_pr=create_pr,
            )

    def _card(self, repo_id: str, tags: Sequence[str] = ()) -> str | None:
        """A short model card, if this is something that needs one."""
        return None


def short_card(model: Any, repo_id: str, tags: Sequence[str] = ()) -> str:
    """A model card that says what can be read off a model: `publish` writes a whole one from a training run.

    Args:
        model: any model of ours.
        repo_id: the repository, as it is to be loaded from.
        tags: further tags.
    """
    auto_class = _auto_class(model)
    task = _TASKS.get(auto_class)
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=task,
        tags=[model.config.model_type, *tags],
    )
    imported, call = auto_class, f'{auto_class}.from_pretrained("{repo_id}", trust_remote_code=True)'
    if task == "translation":
        imported, call = "pipeline", f'pipeline("translation", model="{repo_id}", trust_remote_code=True)'
    return f"""---
{data.to_yaml()}
---

# {repo_id.rpartition("/")[2]}

A `{type(model).__name__}` of {model.num_parameters():,} parameters: the Transformer of
[Attention Is All You Need](https://arxiv.org/abs/1706.03762). What it was trained on is not recorded here.

With transformers 5.17 or newer:

```python
from transformers import {imported}

{call}
```
"""


def head_of(architecture: str) -> tuple[str, str | None]:
    """The Auto class that loads a model with its head, and the Hub's name of what it does, by its class."""
    own = auto_classes()
    for auto_class, task in _TASKS.items():
        if architecture in {cls.__name__ for cls in own[auto_class]}:
            return auto_class, task
    return "AutoModel", None


def _auto_class(model: Any) -> str:
    """The Auto class that loads a model with its head; told by names, as a class may be of another copy."""
    if model.config.is_encoder_decoder and model.can_generate():
        return "AutoModelForSeq2SeqLM"
    names = {cls.__name__ for cls in type(model).__mro__}
    own = auto_classes().items()
    return next((auto for auto, classes in own if names & {cls.__name__ for cls in classes}), "AutoModel")
