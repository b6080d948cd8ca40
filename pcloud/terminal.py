"""The terminal: the only place from which text is printed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from pcloud.text import for_terminal

__all__ = ["Terminal"]


class Terminal(Console):
    """Console that prints text as it is: without markup, emoji codes and control characters.

    Parameters
    ----------
    stderr : bool
        Print to standard error.
    quiet : bool
        Print nothing.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as rich renders it, in a table too."""
        plain = {"markup": False, "emoji": False, "highlight": False}
        return super().render_str(for_terminal(text, lines=True), **options | plain)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render anything, such as a text of rich, without control characters of its own."""
        for segment in super().render(renderable, options):
            text = segment.text
            if segment.control is None and not (text.isascii() and text.isprintable()):
                segment = Segment(for_terminal(text, lines=True), segment.style)
            yield segment
