"""transformers' own tests of models and configurations, run on every class of ours."""

import unittest
from typing import ClassVar

import pytest
from transformers_tests import test_fsdp_mixin, test_tensor_parallel_mixin
from transformers_tests.test_configuration_common import ConfigTester
from transformers_tests.test_fsdp_mixin import FSDPTesterMixin
from transformers_tests.test_modeling_common import ModelTesterMixin
from transformers_tests.test_tensor_parallel_mixin import TensorParallelTesterMixin
from transformers_tests.test_training_mixin import TrainingTesterMixin

from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerDecoderModel,
    VanillaTransformerEncoderModel,
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
    VanillaTransformerModel,
)

from .testers import DecoderTester, EncoderDecoderTester, EncoderTester, ModelTester


@pytest.fixture(autouse=True)
def every_model_type_is_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers runs its distributed tests on a list of its own models; `None` stands for all."""
    monkeypatch.setattr(test_tensor_parallel_mixin, "TP_DISTRIBUTED_TEST_MODEL_TYPES", None)
    monkeypatch.setattr(test_fsdp_mixin, "FSDP_DISTRIBUTED_TEST_MODEL_TYPES", None)


class FamilyMixin(ModelTesterMixin, TrainingTesterMixin, TensorParallelTesterMixin):
    """What the families of classes share; each has a tester of its own."""

    family: ClassVar[type[ModelTester]]
    model_tester = None
    # Otherwise transformers leaves this test out, for a file that does not say of which year it is.
    test_can_init_all_missing_weights_before_2023 = True

    def setUp(self) -> None:
        self.model_tester = self.family()

    def _get_tp_config(self, tie_word_embeddings: bool | None = None) -> VanillaTransformerConfig:
        """Without dropout, which would make one model compute something else than its copy in parts."""
        config: VanillaTransformerConfig = super()._get_tp_config(tie_word_embeddings)
        config.dropout = 0.0
        return config

    def test_config(self) -> None:
        ConfigTester(self, VanillaTransformerConfig, **self.family.changes).run_common_tests()


class EncoderDecoderTest(FamilyMixin, unittest.TestCase):
    family = EncoderDecoderTester
    all_model_classes = (VanillaTransformerModel, VanillaTransformerForConditionalGeneration)
    is_encoder_decoder = True

    def _get_trainable_model_class(self) -> type[VanillaTransformerForConditionalGeneration]:
        return VanillaTransformerForConditionalGeneration


class EncoderTest(FamilyMixin, unittest.TestCase):
    family = EncoderTester
    all_model_classes = (
        VanillaTransformerEncoderModel,
        VanillaTransformerForMaskedLM,
        VanillaTransformerForSequenceClassification,
        VanillaTransformerForTokenClassification,
    )

    def _get_trainable_model_class(self) -> type[VanillaTransformerForMaskedLM]:
        return VanillaTransformerForMaskedLM


class DecoderTest(FamilyMixin, FSDPTesterMixin, unittest.TestCase):
    family = DecoderTester
    all_model_classes = (VanillaTransformerDecoderModel, VanillaTransformerForCausalLM)
