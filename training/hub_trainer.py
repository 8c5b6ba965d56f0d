"""How a run goes to the Hub: as `publish` sends a model, never with the Trainer's own state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers import Seq2SeqTrainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

from ..configuration import VanillaTransformerConfig
from ..files import read_json
from ..modeling.hub_vanilla_transformer import check_repo_id, readable_hub_errors
from ..modeling.saving_vanilla_transformer import files_written_whole
from . import publishing


class HubTrainer(Seq2SeqTrainer):
    """`Seq2SeqTrainer` that sends our card and whole checkpoints; a subclass calls `push_checkpoint`."""

    # What the Trainer annotates as possibly absent, or only in general.
    args: Any

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._hub = HfApi()

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository `hub_model_id` if there is none.

        Raises:
            ValueError: a name that no repository can have.
            OSError: the Hub refused, or could not be reached; the message is one line.
        """
        name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        check_repo_id(name)
        with readable_hub_errors(name):
            super().init_hf_repo(token=token, private=private)

    def create_model_card(self, license: str | None = None, **kwargs: Any) -> None:  # type: ignore[override]
        """Write our model card, see `render_model_card`, to README.md in `output_dir`.

        Of a model that is not of ours, and of an adapter, the Trainer's own.

        Args:
            license: identifier of the licence that the card states.
            kwargs: `finetuned_from`, the Hub name of the base model; all else is ignored.
        """
        if not self.is_world_process_zero():
            return
        folder = Path(self.args.output_dir)
        path = folder / "config.json"
        if not path.is_file() or read_json(path).get("model_type") != VanillaTransformerConfig.model_type:
            super().create_model_card(license=license, **kwargs)
            return
        name = self.hub_model_id or self.args.hub_model_id or folder.absolute().name
        base_model = kwargs.get("finetuned_from")
        card = publishing.render_model_card(folder, name, license=license, base_model=base_model)
        with files_written_whole(folder) as beside:
            (beside / publishing.CARD_FILE).write_text(str(card), "utf-8")

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Save the model into `output_dir` and send it as `publish` does, with our card and nothing else.

        Args:
            commit_message, token, revision, private: of the commit; by default as `args` say.
            blocking: wait until all has arrived.
            kwargs: `license`, which the card states.

        Returns:
            The commit, or its `Future` where `blocking` is off; `None` on other processes than the main one.

        Raises:
            ValueError, OSError: as `upload`.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self._finish_current_push()
        options = {"commit_message": commit_message, "token": token or self.args.hub_token}
        options["revision"] = revision or self.args.hub_revision
        job = self._push_in_background(Path(self.args.output_dir), kwargs.get("license"), **options)  # type: ignore[arg-type]
        return job.result() if blocking else job

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing yet: the checkpoint is still being written, see `push_checkpoint`."""

    def push_checkpoint(self, checkpoint: Path) -> None:
        """Send the model of a whole checkpoint in the background, and never the Trainer's own state.

        With the strategies "checkpoint" and "all_checkpoints" the model is also kept in a folder of its own.
        """
        strategy = self.args.hub_strategy
        busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        skipped = strategy == HubStrategy.END or (busy and not self.args.hub_always_push)
        if skipped or not self.is_world_process_zero():
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        folders = {
            HubStrategy.CHECKPOINT: ["last-checkpoint"],
            HubStrategy.ALL_CHECKPOINTS: [checkpoint.name],
        }
        jobs = [
            self._push_in_background(
                checkpoint,
                path_in_repo=folder,
                commit_message=f"Training in progress, step {self.state.global_step}",
                token=self.args.hub_token,
                revision=self.args.hub_revision,
                tolerant=True,
            )
            for folder in ["", *folders.get(strategy, [])]
        ]
        jobs = [job for job in jobs if job is not None]
        unfinished = self.push_in_progress.jobs if self.push_in_progress is not None and busy else []  # type: ignore[var-annotated]
        self.push_in_progress = PushInProgress([*unfinished, *jobs])  # type: ignore[arg-type, assignment]

    def _push_in_background(
        self, folder: Path, license: str | None = None, tolerant: bool = False, **options: Any
    ) -> Any:
        """Take what may be sent of `folder`, and send it while this process goes on, one after another."""
        name = str(self.hub_model_id)
        with publishing.tolerated(tolerant):
            ready = publishing.stage(folder, name, license=license, run_dir=self.args.output_dir)
            return self._hub.run_as_future(publishing.send, ready, name, tolerant=tolerant, **options)
        return None
