"""The page in a browser: translate, and look at how the model does it. Needs gradio (`.[demo]`).

`vanilla-transformer demo runs/demo` opens it; a Space calls `build_app(...).launch()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError
from .explanation import Explanation, explain
from .figures import plot_alignment, plot_attention, plot_decoding, plot_positions

if TYPE_CHECKING:
    import gradio
    from matplotlib.figure import Figure

EXAMPLES = ("我有一只猫。", "我是一个学生。")
# Longer sentences make pictures that nobody can read.
LONGEST = 200
CHOICES = {
    "encoder self-attention": "encoder",
    "decoder self-attention (masked)": "decoder",
}


class Hypothesis(NamedTuple):
    """A translation and its score: log-probability divided by a power of its length."""

    text: str
    score: float


class Translator:
    """What the page asks of a model; every explanation is computed once for its tabs.

    Args:
        model, tokenizer: as `explain` takes them.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase):
        self.model = model
        self.tokenizer = tokenizer
        self.explain = lru_cache(maxsize=16)(self._explain)

    def _explain(self, sentence: str) -> Explanation:
        best = self.translate(sentence, 1)[0].text
        return explain(self.model, self.tokenizer, sentence, target=best or None)

    def translate(self, sentence: str, count: int) -> list[Hypothesis]:
        """The `count` best translations of the beam search, best first.

        Raises:
            InputError: the sentence is empty or longer than the page takes.
        """
        if not sentence.strip():
            raise InputError("Please type a sentence.")
        if len(sentence) > LONGEST:
            raise InputError(
                f"The sentence has {len(sentence)} characters; this page takes at most {LONGEST}."
            )
        batch = self.tokenizer([sentence], return_tensors="pt").to(self.model.device)
        with torch.no_grad():
            found = self.model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                num_beams=max(count, 4),
                num_return_sequences=count,
                return_dict_in_generate=True,
                output_scores=True,
            )
        texts = self.tokenizer.batch_decode(found.sequences, skip_special_tokens=True)
        return [
            Hypothesis(text, score)
            for text, score in zip(texts, found.sequences_scores.tolist(), strict=True)
        ]

    def attention(self, sentence: str, kind: str, layer: int, head: int) -> Figure:
        """One head's weights as a heat map; `layer` and `head` are counted from 1."""
        return plot_attention(self.explain(sentence), kind, layer=layer - 1, head=head - 1)

    def positions(self, sentence: str) -> Figure | None:
        """The positional encodings that the source was given, or `None` in a model without."""
        encodings = self.explain(sentence).source_embedding.positions
        return None if encodings is None else plot_positions(encodings)


def kindly(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Show wrong input as a message on the page instead of a failure."""
    import gradio

    def answered(*args: Any) -> Any:
        try:
            return answer(*args)
        except ValueError as error:
            raise gradio.Error(str(error), print_exception=False) from None

    return answered


def build_app(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    examples: Sequence[str] = EXAMPLES,
    title: str = "vanilla-transformer",
) -> gradio.Blocks:
    """The page for one model.

    Args:
        model: a `vanilla_transformer` with encoder and decoder.
        tokenizer: its tokenizer.
        examples: sentences to click.
        title: heading of the page.

    Raises:
        InputError: gradio is not installed.
    """
    try:
        import gradio
    except ImportError:
        raise InputError(
            "the page needs gradio, which is not installed: pip install 'vanilla-transformer[demo]'."
        ) from None
    translator = Translator(model, tokenizer)
    with gradio.Blocks(title=title, analytics_enabled=False) as app:
        gradio.Markdown(f"# {title}")
        sentence = gradio.Textbox(label="Sentence", elem_id="sentence", placeholder=examples[0])
        count = gradio.Slider(1, 8, value=4, step=1, label="Translations to list", elem_id="count")
        button = gradio.Button("Translate", variant="primary", elem_id="translate")
        gradio.Examples([[example] for example in examples], inputs=[sentence], cache_examples=False)
        best = gradio.Textbox(label="Translation", elem_id="translation", interactive=False)
        nbest = gradio.Dataframe(headers=["translation", "score"], label="n-best", elem_id="nbest")
        _add_tabs(translator, sentence, model.config)

        def translate(text: str, wanted: float) -> tuple[str, list[list[str]]]:
            found = translator.translate(text, int(wanted))
            return found[0].text, [[one.text, f"{one.score:.3f}"] for one in found]

        for event in (button.click, sentence.submit):
            event(kindly(translate), inputs=[sentence, count], outputs=[best, nbest])
    return app


def _add_tabs(translator: Translator, sentence: Any, config: Any) -> None:
    import gradio

    with gradio.Tab("Cross-attention"):
        heads = config.decoder_attention_heads
        inputs = [gradio.State("cross"), *_layer_and_head(config.decoder_layers, heads)]
        _add_picture(translator.attention, [sentence, *inputs], "cross-attention")
        _add_picture(lambda text: plot_alignment(translator.explain(text)), [sentence], "alignment")
    with gradio.Tab("Self-attention"):
        which = gradio.Radio(list(CHOICES.items()), value="encoder", label="Which")
        layers = max(config.encoder_layers, config.decoder_layers)
        heads = max(config.encoder_attention_heads, config.decoder_attention_heads)
        inputs = [which, *_layer_and_head(layers, heads)]
        _add_picture(translator.attention, [sentence, *inputs], "self-attention")
    with gradio.Tab("Positions"):
        _add_picture(translator.positions, [sentence], "positions")
    with gradio.Tab("Step by step"):
        _add_picture(lambda text: plot_decoding(translator.explain(text)), [sentence], "decoding")
        report = gradio.Textbox(label="Every stage in numbers", lines=20, elem_id="stages")
        button = gradio.Button("Show the numbers", elem_id="show-stages")
        button.click(
            kindly(lambda text: translator.explain(text).text()), inputs=[sentence], outputs=[report]
        )


def _layer_and_head(layers: int, heads: int) -> list[Any]:
    import gradio

    return [
        gradio.Dropdown(list(range(1, count + 1)), value=count if name == "Layer" else 1, label=name)
        for name, count in (("Layer", layers), ("Head", heads))
    ]


def _add_picture(draw: Callable[..., Any], inputs: list[Any], name: str) -> None:
    """A button and the picture that it draws."""
    import gradio

    button = gradio.Button(f"Show {name}", elem_id=f"show-{name}")
    plot = gradio.Plot(show_label=False, elem_id=f"plot-{name}")
    button.click(kindly(draw), inputs=inputs, outputs=[plot])
