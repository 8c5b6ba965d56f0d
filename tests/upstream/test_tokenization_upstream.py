"""transformers' own tests of tokenizers, run on ours."""

import string
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest.mock import patch

from helpers import parallel_sentences
from transformers_tests import test_tokenization_common
from transformers_tests.test_tokenization_common import TokenizerTesterMixin
from transformers_tests.test_tokenizers_backend_mixin import TokenizersBackendTesterMixin

from vanilla_transformer import VanillaTransformerTokenizer


def save_tokenizer(folder: str) -> None:
    """Train a tokenizer on words and on every ASCII character, and save it."""
    lines = [text for pair in parallel_sentences(200) for text in pair] + [string.printable] * 2
    VanillaTransformerTokenizer.train_from_iterator(lines, vocab_size=1000).save_pretrained(folder)


class SavedTokenizer:
    """Lets transformers' tests load a tokenizer of this class from a folder rather than from the Hub."""

    tokenizer_class = VanillaTransformerTokenizer
    from_pretrained_id: str

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)  # type: ignore[attr-defined]  # of unittest.TestCase
        save_tokenizer(folder.name)
        cls.from_pretrained_id = folder.name
        super().setUpClass()  # type: ignore[misc]


class TokenizerTest(SavedTokenizer, TokenizerTesterMixin, unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        with tempfile.TemporaryDirectory() as folder:
            # It is read, but no test uses it.
            sample = Path(folder, "fixtures", "sample_text.txt")
            sample.parent.mkdir()
            sample.touch()
            with patch.object(test_tokenization_common, "get_tests_dir", return_value=folder):
                super().setUpClass()


class RoomyTokenizer(VanillaTransformerTokenizer):
    """Trains with room for the 256 byte tokens, which the 100 entries of transformers' tests do not have."""

    def train_new_from_iterator(
        self, text_iterator: Any, vocab_size: int, *args: Any, **kwargs: Any
    ) -> VanillaTransformerTokenizer:
        return super().train_new_from_iterator(text_iterator, vocab_size + 256, *args, **kwargs)


class TokenizersBackendTest(SavedTokenizer, TokenizersBackendTesterMixin, unittest.TestCase):
    tokenizer_class = RoomyTokenizer

    def get_tokenizer(self, **kwargs: Any) -> VanillaTransformerTokenizer:
        tokenizer: VanillaTransformerTokenizer = self.get_rust_tokenizer(**kwargs)
        return tokenizer
