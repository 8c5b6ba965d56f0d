"""Models exported to CTranslate2, run by it.

Shapes in trailing comments: N sentences, R translations of each, S target length, T source length.
"""

import json
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation import GenerateBeamEncoderDecoderOutput
from transformers.utils import logging

from ..errors import InputError, first_line, import_extra
from .engines import EngineModel
from .generation_vanilla_transformer import Hypothesis, LengthPenalty, padded, row_limits

logger = logging.get_logger(__name__)

COMPUTE_TYPES = (
    *("default", "auto", "float32", "float16", "bfloat16", "int16"),
    *("int8", "int8_float32", "int8_float16", "int8_bfloat16"),
)
# Fields of a generation config that the engine has, or that change nothing there.
SUPPORTED_FIELDS = {
    *("num_beams", "length_penalty", "length_penalty_type", "early_stopping", "patience"),
    *("max_length", "max_new_tokens", "max_length_beyond_source", "min_length", "min_new_tokens"),
    *("num_return_sequences", "bad_words_ids", "suppress_tokens", "no_repeat_ngram_size"),
    *("forced_bos_token_id", "renormalize_logits", "output_scores", "return_dict_in_generate"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"),
    *("use_cache", "fast", "transformers_version", "_from_model_config"),
}
# Patience of the engine's search where its hypotheses are ranked anew by other rules than its own.
RERANKING_PATIENCE = 2.0


def unsupported_fields(config: GenerationConfig) -> dict[str, Any]:
    """The fields of a generation config that ask for what CTranslate2 does not have."""
    defaults = config._get_default_generation_params()
    return {
        name: value
        for name, value in config.to_dict().items()
        if name not in SUPPORTED_FIELDS
        and value is not None
        and value is not False
        and value != defaults.get(name)
    }


def is_exact(config: GenerationConfig) -> bool:
    """Whether CTranslate2 searches by the rules of a generation config, or only near them.

    Greedy search is the same everywhere. A beam search is where `length_penalty_type` is "power" and the
    search stops by `patience`, or by `early_stopping=True`, which is a patience of 1 (without a length
    penalty CTranslate2 stops earlier).
    """
    if config.num_beams == 1:
        return True
    stops_alike = config.patience is not None or (config.early_stopping is True and config.length_penalty)
    banned = (
        _bad_words(config),
        config.suppress_tokens,
        config.no_repeat_ngram_size,
        _least_tokens(config),
    )
    return bool(
        config.length_penalty_type == "power"
        and stops_alike
        and config.forced_bos_token_id is None
        and (config.renormalize_logits or not any(banned))
    )


class CTranslate2Model(EngineModel):
    """A model exported to CTranslate2: `generate()` gives the same tokens as ours in float32.

    A beam search whose rules CTranslate2 has not (`is_exact`), the paper's GNMT penalty for instance, is
    approximated: what its own search has found, with twice the patience, is scored and ranked by the rules
    asked for. Each sentence keeps its own limit of length: those of one limit are searched together.

    Two things of the engine: a source of nothing but an end token is translated to nothing, and
    `no_repeat_ngram_size` does not count the start token.
    """

    engine_name = "CTranslate2"
    files = ("model.bin", "config.json")
    translator: Any

    def open(self, compute_type: str = "default") -> None:
        """Loads the model.

        Args:
            compute_type: how it computes, one of `COMPUTE_TYPES`; by default as its weights are stored.
        """
        if compute_type not in COMPUTE_TYPES:
            known = ", ".join(COMPUTE_TYPES)
            raise InputError(f"`compute_type` must be one of {known}, but is {compute_type!r} instead.")
        library = import_extra("ctranslate2", "ctranslate2")
        shared = (self.folder / "shared_vocabulary.json").is_file()
        source, target = (["shared"] * 2) if shared else ["source", "target"]
        self.source_tokens = self._read_vocabulary(source, self.config.vocab_size)
        self.target_tokens = self._read_vocabulary(target, self.config.decoder_vocab_size or 0)
        self.target_ids = {token: number for number, token in enumerate(self.target_tokens)}
        for name in ("decoder_start_token", "eos_token"):
            number = self.target_ids.get(str(getattr(self.config, name, None)))
            if number is None or number != getattr(self.generation_config, f"{name}_id"):
                raise InputError(
                    f"`{name}` in `{self.folder}/config.json` must be that of the generation config."
                )
        try:
            self.translator = library.Translator(
                str(self.folder),
                device=self.place.type,
                device_index=self.place.index or 0,
                compute_type=compute_type,
                intra_threads=torch.get_num_threads(),
            )
        except (RuntimeError, ValueError, MemoryError) as error:
            raise InputError(
                f"`{self.folder}` cannot be loaded by CTranslate2: {first_line(error)}"
            ) from None

    def _read_vocabulary(self, side: str, size: int) -> list[str]:
        path = self.folder / f"{side}_vocabulary.json"
        try:
            tokens = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"`{path}` cannot be read: {first_line(error)}") from None
        whole = isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)
        if not whole or len(tokens) != size or len(set(tokens)) != size:
            raise InputError(f"`{path}` must be a list of {size} different tokens, but is not.")
        return list(tokens)

    def generate(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """Translates (N, T) source tokens, as `generate()` of ours does.

        Args:
            attention_mask: (N, T), 1 at real tokens; by default all are.
            generation_config, kwargs: fields of a generation config, of those in `SUPPORTED_FIELDS`.

        Returns:
            (N * R, S) tokens, start token first; or with `return_dict_in_generate` these as `sequences`, and
            with `output_scores` their `sequences_scores`, which in greedy search are log-probabilities.

        Raises:
            InputError: a field or an option that the engine does not have, or a text too long for it.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        config = self._settings(input_ids, generation_config, kwargs)
        start = input_ids.new_full((len(input_ids), 1), config.decoder_start_token_id)
        limits = row_limits(start, config, {"attention_mask": mask})
        if "exported_positions" in vars(self.config):
            limits = limits.clamp(max=self.config.exported_positions)
        sources = [self._names(ids[real.bool()]) for ids, real in zip(input_ids, mask, strict=True)]
        found: list[list[Hypothesis]] = [[] for _ in sources]
        for limit in limits.unique().tolist():
            rows = (limits == limit).nonzero()[:, 0].tolist()
            for row, one in zip(rows, self._search([sources[k] for k in rows], limit, config), strict=True):
                found[row] = one
        return self._output([one for sentence in found for one in sentence], start, config)

    def _settings(
        self, input_ids: torch.Tensor, given: GenerationConfig | None, kwargs: dict[str, Any]
    ) -> GenerationConfig:
        """The whole generation config of a call, checked."""
        config, unknown = self._prepare_generation_config(given, **kwargs)
        unknown |= unsupported_fields(config)
        unknown |= {
            name: getattr(config, name)
            for name in ("eos_token_id", "decoder_start_token_id")
            if getattr(config, name) != getattr(self.generation_config, name)
        }
        for name, value in unknown.items():
            raise InputError(f"`{name}` {value!r} is not available with CTranslate2.")
        limits = [kwargs, vars(self.generation_config), {} if given is None else vars(given)]
        config = self._prepare_generated_length(
            generation_config=config,
            has_default_max_length=all(one.get("max_length") is None for one in limits),
            has_default_min_length=all(one.get("min_length") is None for one in limits),
            model_input_name="input_ids",
            input_ids_length=1,
            inputs_tensor=input_ids,
        )
        if not is_exact(config):
            logger.warning_once(
                "this beam search is approximate: the hypotheses that CTranslate2 finds by its own rules are"
                " ranked by those asked for (exact are `length_penalty_type='power'` with `patience`)."
            )
        return config

    def _search(
        self, sources: list[list[str]], limit: int, config: GenerationConfig
    ) -> list[list[Hypothesis]]:
        """R hypotheses of each source, none longer than `limit` tokens, the best first."""
        exact = is_exact(config)
        beams, patience = config.num_beams, config.patience or 1.0
        count = config.num_return_sequences
        # Greedy scores are sums; and 0 would stop a beam search early that is not asked to.
        alpha = config.length_penalty if beams > 1 else 0.0
        if not exact:
            patience, alpha = max(patience, RERANKING_PATIENCE), alpha or 1.0
            count = int(beams * patience)
        prefix = config.forced_bos_token_id
        try:
            results = self.translator.translate_batch(
                sources,
                None if prefix is None else [[self.target_tokens[prefix]]] * len(sources),
                beam_size=beams,
                patience=patience,
                num_hypotheses=count,
                length_penalty=alpha,
                max_decoding_length=limit,
                min_decoding_length=_least_tokens(config),
                no_repeat_ngram_size=config.no_repeat_ngram_size,
                suppress_sequences=self._banned(config),
                max_input_length=0,
                return_end_token=True,
                return_scores=beams > 1 or config.output_scores,
            )
        except (RuntimeError, ValueError) as error:
            raise InputError(f"CTranslate2 cannot translate this: {first_line(error)}") from None
        return [self._ranked(result, limit, alpha, exact, config) for result in results]

    def _ranked(
        self, result: Any, limit: int, alpha: float, exact: bool, config: GenerationConfig
    ) -> list[Hypothesis]:
        """The hypotheses of one sentence, ranked anew where the engine's rules are not those asked for."""
        ids = [[self.target_ids[token] for token in tokens] for tokens in result.hypotheses]
        scores = result.scores or [0.0] * len(ids)
        if not exact:
            penalty = LengthPenalty(
                config.length_penalty, config.length_penalty_type, torch.tensor([[limit]])
            )
            scores = [
                score * len(tokens) ** alpha / penalty(len(tokens) or 1)
                for score, tokens in zip(scores, ids, strict=True)
            ]
        found = [Hypothesis(score, tokens, []) for score, tokens in zip(scores, ids, strict=True)]
        found.sort(key=lambda one: -one.score)
        return found[: config.num_return_sequences]

    def _output(self, found: list[Hypothesis], start: torch.Tensor, config: GenerationConfig) -> Any:
        """What `generate()` returns."""
        filler = config.pad_token_id
        if config.num_beams > 1:
            filler = filler or config.eos_token_id
        tokens = padded([one.tokens for one in found], filler, start)
        starts = start.repeat_interleave(config.num_return_sequences, dim=0)
        sequences = torch.cat([starts, tokens], dim=1)  # (N * R, S)
        if not config.return_dict_in_generate:
            return sequences
        scores = torch.tensor([one.score for one in found], device=start.device)
        return GenerateBeamEncoderDecoderOutput(
            sequences=sequences, sequences_scores=scores if config.output_scores else None
        )

    def _names(self, ids: torch.Tensor) -> list[str]:
        try:
            return [self.source_tokens[number] for number in ids.tolist()]
        except IndexError:
            size = len(self.source_tokens)
            raise InputError(
                f"`input_ids` must be below `vocab_size` ({size}), but reach {int(ids.max())}."
            ) from None

    def _banned(self, config: GenerationConfig) -> list[list[str]] | None:
        sequences: Sequence[Sequence[int]] = [
            *_bad_words(config),
            *([token] for token in config.suppress_tokens or []),
        ]
        return [[self.target_tokens[token] for token in one] for one in sequences] or None


def _bad_words(config: GenerationConfig) -> list[list[int]]:
    """Sequences that must not be written; as in transformers, the end token alone is none."""
    return [list(words) for words in config.bad_words_ids or [] if list(words) != [config.eos_token_id]]


def _least_tokens(config: GenerationConfig) -> int:
    """Tokens that come before an end token; `min_length` counts the start token too."""
    return max(config.min_new_tokens or 0, (config.min_length or 0) - 1, 0)
