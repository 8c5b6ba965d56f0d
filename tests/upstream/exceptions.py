"""Which of transformers' own common tests our classes do not run, and why.

Beside these, transformers' tests skip themselves where they ask for something that is not there: an
accelerator, flash attention, a vision tower, experts. pytest's summary counts those with their reasons.
"""

NO_GENERATION_TESTS = "asks for transformers' tests of generation, which its source distribution leaves out"
NO_DECODER_INPUTS = "gives the model nothing to decode, which it refuses"
NOT_CONTINUED = (
    "expects the prompt to be continued, but a source is translated; none was so short in training"
)
NO_WORDS = "counts words, but the tokenizer merges whole texts and knows of none"

# Test class of ours and test of transformers -> reason. Each is checked to exist (test_exceptions.py).
EXCEPTIONS: dict[str, str] = {
    "EncoderDecoderTest.test_generation_tester_mixin_inheritance": NO_GENERATION_TESTS,
    "EncoderDecoderTest.test_tp_forward_0": NO_DECODER_INPUTS,
    "EncoderDecoderTest.test_tp_forward_1": NO_DECODER_INPUTS,
    "EncoderDecoderTest.test_training_overfit": NOT_CONTINUED,
    "DecoderTest.test_generation_tester_mixin_inheritance": NO_GENERATION_TESTS,
    "TokenizersBackendTest.test_alignment_methods": NO_WORDS,
}

# File of transformers' source distribution -> reason, for those that no class of ours takes a test from.
MODULES: dict[str, str] = {
    "test_backbone_common": "backbones of vision models",
    "test_decision_head_common": "a head that our family does not have",
    "test_executorch": "tests transformers itself, on a model from the Hub",
    "test_expert_parallel_mixin": "mixtures of experts",
    "test_feature_extraction_common": "audio and vision",
    "test_image_processing_common": "vision",
    "test_image_transforms": "vision",
    "test_memory_cleanup_mixin": "has no tests: it frees the memory of an accelerator between them",
    "test_monkey_patching": "tests transformers itself",
    "test_pipeline_mixin": "needs models from the Hub, and tests that the distribution leaves out",
    "test_processing_common": "processors of several modalities",
    "test_sentencepiece_backend_mixin": "tokenizers of SentencePiece",
    "test_sequence_feature_extraction_common": "audio",
    "test_tokenization_mistral_common": "the tokenizer of another library",
    "test_video_processing_common": "video",
}
