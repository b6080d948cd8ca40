r"""Names as text: classes, columns and files are called what somebody else chose.

A name is printed only by one of these functions. They show characters that control a terminal or the
direction of writing as ``\x1b`` or ``\u202e``, and what would be a formula or markup as it is.
"""

from __future__ import annotations

import unicodedata
from html import escape

__all__ = ["for_figure", "for_html", "for_terminal"]

_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format, surrogate, ends of lines and paragraphs
_JOINERS = "\u200c\u200d"  # of letters in some scripts, and of emoji
_MAX_CHARACTERS = 80  # of a name in a figure


def for_terminal(text: object, *, lines: bool = False) -> str:
    r"""Return text without characters that control a terminal.

    Printed by :class:`pcloud.terminal.Terminal`, which knows no markup, it is shown as it is.

    Parameters
    ----------
    text : object
        The text, or anything that becomes one by `str`.
    lines : bool
        Keep ends of lines and tabs; by default they are shown as ``\n`` and ``\t``.

    Examples
    --------
    >>> for_terminal("\x1b[31mred")
    '\\x1b[31mred'
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    kept = _JOINERS + "\n\t" if lines else _JOINERS
    return "".join(c if c in kept else _visible(c) for c in text)


def for_figure(text: object) -> str:
    """Return a name for matplotlib: no formula begins in it, and a long name is cut.

    A legend leaves out what begins with an underscore, so that such a name begins with a space.
    """
    name = for_terminal(text)
    if len(name) > _MAX_CHARACTERS:
        name = f"{name[: _MAX_CHARACTERS - 1]}…"
    name = name.replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name


def for_html(text: object, *, lines: bool = True) -> str:
    """Return text for HTML, also inside the quotation marks of an attribute.

    Parameters
    ----------
    text : object
        The text, or anything that becomes one by `str`.
    lines : bool
        Keep ends of lines and tabs, which HTML shows as spaces.
    """
    return escape(for_terminal(text, lines=lines))


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE:
        return character
    if character.isascii():
        return repr(character)[1:-1]
    return character.encode("ascii", "backslashreplace").decode()
