"""Looking inside: a translation stage by stage, and pictures of attention and positions.

Nothing here is needed to train or translate. Pictures need matplotlib, the page in a browser needs gradio;
each is imported when it is first used.
"""

from .explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
