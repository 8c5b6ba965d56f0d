"""Folders of exported models: whole or as they were, whatever stops the export."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from vanilla_transformer.interop import save_ctranslate2, save_marian, save_onnx, save_torch

from ..modeling.toy import toy_model

# CTranslate2 has as many heads in both stacks.
SMALL = {"encoder_layers": 1, "decoder_layers": 1, "decoder_attention_heads": 4}
EXPORTS: list[Callable[..., None]] = [save_ctranslate2, save_marian, save_onnx, save_torch]


class TokenizerOnAFullDisk:
    """What is written last, when no more fits."""

    model_max_length = 99

    def get_vocab(self) -> dict[str, int]:
        return {}

    def save_pretrained(self, folder: str | Path) -> NoReturn:
        Path(folder, "tokenizer.json").write_text("{")
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
@pytest.mark.parametrize("export", EXPORTS)
def test_an_export_that_stops_leaves_nothing_of_it(
    export: Callable[..., None], there: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    tokenizer: Any = TokenizerOnAFullDisk()
    if there:
        folder.mkdir()
        (folder / "config.json").write_text("old")
    with pytest.raises(OSError, match="No space left"):
        export(toy_model(dtype=torch.float32, **SMALL), folder, tokenizer)
    left = {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == ({"config.json": "old"} if there else {})
