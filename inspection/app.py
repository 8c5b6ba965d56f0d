"""The page in a browser: translate, and look at how the model does it. Needs gradio (`.[demo]`).

`vanilla-transformer demo runs/demo` opens it; a Space calls `build_app(...).launch()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, import_extra
from ..modeling.translation_vanilla_transformer import Translation, translations
from .explanation import Explanation, explain
from .figures import plot_alignment, plot_attention, plot_decoding, plot_positions

if TYPE_CHECKING:
    import gradio
    from matplotlib.figure import Figure

# Longer sentences, in characters and in pieces, make pictures that nobody can read.
LONGEST = 200
MAX_PIECES = 100
# Of the beam search (section 6.1), and as many translations are listed at most: a wider search for a longer
# list could find another translation than the one that the pictures are of.
BEAMS = 4
TABS = {
    "cross": "A row is a step of the decoder: the piece that it read → the piece that it predicted. The"
    " darker a cell, the more it looked at the piece of the source below.",
    "self": "Where the pieces of one sentence look at each other. The decoder cannot see what comes later.",
    "positions": "What is added to the embeddings, and how alike two positions are by their distance.",
    "decoding": "The five most probable next pieces of each step; hatched is the piece of the translation.",
}


class Translator:
    """What the page asks of a model, one question at a time; sentences are explained once for all tabs.

    Args:
        model, tokenizer: as `explain` takes them.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase):
        self.model = model
        self.tokenizer = tokenizer
        self.explain = lru_cache(maxsize=16)(self._explain)

    def _explain(self, sentence: str) -> Explanation:
        best = self.translate(sentence, 1)[0].text
        if (pieces := len(self.tokenizer(text_target=best)["input_ids"])) > MAX_PIECES:
            raise InputError(f"The translation has {pieces} pieces; this page shows at most {MAX_PIECES}.")
        return explain(self.model, self.tokenizer, sentence, target=best if best.strip() else None)

    def translate(self, sentence: str, count: int) -> list[Translation]:
        """The `count` best translations of the beam search with their scores, best first.

        Raises:
            InputError: the sentence is empty, or longer than the page takes in characters or in pieces.
        """
        if not sentence.strip():
            raise InputError("Please type a sentence.")
        if len(sentence) > LONGEST:
            raise InputError(
                f"The sentence has {len(sentence)} characters; this page takes at most {LONGEST}."
            )
        if (pieces := len(self.tokenizer(sentence)["input_ids"])) > MAX_PIECES:
            raise InputError(f"The sentence has {pieces} pieces; this page takes at most {MAX_PIECES}.")
        search: dict[str, Any] = {"num_beams": BEAMS, "num_return_sequences": count}
        return next(translations(self.model, self.tokenizer, [sentence], scores=True, window=1, **search))

    def attention(self, sentence: str, kind: str, layer: int, head: int) -> Figure:
        """One head's weights as a heat map; `layer` and `head` are counted from 1."""
        return plot_attention(self.explain(sentence), kind, layer=layer - 1, head=head - 1)

    def alignment(self, sentence: str) -> Figure:
        """Source and translation joined by the cross-attention of all layers and heads."""
        return plot_alignment(self.explain(sentence))

    def positions(self, sentence: str) -> Figure | None:
        """The positional encodings that the source was given, or `None` in a model without."""
        encodings = self.explain(sentence).source_embedding.positions
        return None if encodings is None else plot_positions(encodings)

    def decoding(self, sentence: str) -> Figure:
        """The most probable pieces of every step."""
        return plot_decoding(self.explain(sentence))

    def numbers(self, sentence: str) -> str:
        """Every stage as text."""
        return self.explain(sentence).text()


def build_app(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    examples: Sequence[str] = (),
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
    gradio = import_extra("gradio", "demo")
    translator = Translator(model, tokenizer)
    with gradio.Blocks(title=title, analytics_enabled=False) as app:
        gradio.Markdown(f"# {title}")
        with gradio.Row():
            with gradio.Column():
                sentence = gradio.Textbox(label="Sentence", elem_id="sentence", autofocus=True)
                clicked = _add_examples(examples, sentence)
                count = gradio.Slider(1, BEAMS, value=BEAMS, step=1, label="Translations to list")
                button = gradio.Button("Translate", variant="primary")
            with gradio.Column():
                best = gradio.Textbox(label="Translation", elem_id="translation", interactive=False)
                headers = ["translation", "score"]
                nbest = gradio.Dataframe(headers=headers, label="n-best", elem_id="nbest", interactive=False)
                gradio.Markdown(score_formula(model.generation_config))

        def translate(text: str, wanted: float) -> tuple[str, list[list[str]], str]:
            found = translator.translate(text, int(wanted))
            return found[0].text, [[one.text, f"{one.score:.3f}"] for one in found], text

        # What the pictures show: the sentence that was translated last, whatever is being typed.
        shown = gradio.State("")
        _on([button.click, sentence.submit, *clicked], translate, [sentence, count], [best, nbest, shown])
        _add_tabs(translator, model.config, shown)
    return app


def score_formula(config: Any) -> str:
    """How the beam search of a generation configuration scores a translation, in words."""
    kind, alpha = getattr(config, "length_penalty_type", "power"), config.length_penalty
    length = "((5 + tokens) / 6)" if kind == "gnmt" else "tokens"
    return f"score = log-probability / {length}^{1.0 if alpha is None else alpha}; the best is nearest to 0"


def _add_examples(examples: Sequence[str], sentence: Any) -> list[Any]:
    """Sentences to click, where there are any; returns what happens after such a click."""
    import gradio

    if not examples:
        return []
    shown = gradio.Examples([[example] for example in examples], inputs=[sentence], cache_examples=False)
    return [shown.load_input_event.then]


def _add_tabs(translator: Translator, config: Any, shown: Any) -> None:
    """The pictures, each drawn when a sentence was translated, or another layer or head was chosen."""
    import gradio

    encoder = (config.encoder_layers, config.encoder_attention_heads)
    decoder = (config.decoder_layers, config.decoder_attention_heads)
    with gradio.Tab("Cross-attention"):
        gradio.Markdown(TABS["cross"])
        _add_attention(translator, "cross", decoder, shown)
        gradio.Markdown("All layers and heads together:")
        _on([shown.change], translator.alignment, [shown], [_plot("alignment")])
    with gradio.Tab("Self-attention"):
        gradio.Markdown(TABS["self"])
        with gradio.Row():
            for kind, counts in (("encoder", encoder), ("decoder", decoder)):
                with gradio.Column():
                    _add_attention(translator, kind, counts, shown)
    with gradio.Tab("Positions"):
        gradio.Markdown(TABS["positions"])
        _on([shown.change], translator.positions, [shown], [_plot("positions")])
    with gradio.Tab("Step by step"):
        gradio.Markdown(TABS["decoding"])
        _on([shown.change], translator.decoding, [shown], [_plot("decoding")])
        numbers = gradio.Code(
            label="Every stage in numbers",
            elem_id="numbers",
            language=None,
            max_lines=30,
            show_line_numbers=False,
        )
        _on([shown.change], translator.numbers, [shown], [numbers])


def _add_attention(translator: Translator, kind: str, counts: tuple[int, int], shown: Any) -> None:
    """A heat map, and the layer and head to choose."""
    import gradio

    layers, heads = (list(range(1, count + 1)) for count in counts)
    with gradio.Row():
        layer = gradio.Dropdown(layers, value=layers[-1], label="Layer", elem_id=f"layer-{kind}")
        head = gradio.Dropdown(heads, value=1, label="Head", elem_id=f"head-{kind}")

    def draw(sentence: str, layer: int, head: int) -> Figure:
        return translator.attention(sentence, kind, layer, head)

    _on([shown.change, layer.input, head.input], draw, [shown, layer, head], [_plot(kind)])


def _plot(name: str) -> Any:
    import gradio

    return gradio.Plot(show_label=False, elem_id=f"plot-{name}")


def _on(events: Sequence[Any], answer: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
    """Answer events one at a time; wrong input is told in a message, and the page stays as it is."""
    import gradio

    def with_warnings(*args: Any) -> Any:
        try:
            return answer(*args)
        except ValueError as error:
            gradio.Warning(str(error))
            return gradio.skip()

    for listen in events:
        # The recording of a forward pass, and the fonts of matplotlib, are for one at a time.
        listen(
            with_warnings,
            inputs=inputs,
            outputs=outputs,
            api_name=answer.__name__,
            concurrency_id="model",
            concurrency_limit=1,
        )
