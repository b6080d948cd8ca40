"""Standard output and standard error of any encoding, and a reader that stops reading."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterator

__all__ = ["any_encoding", "discard_output", "flush_output", "plain", "write_error"]

_HANDLER = "pcloud.plain"
_PLAIN = {
    "\N{GREEK SMALL LETTER EPSILON}": "e",
    "\N{GREEK SMALL LETTER MU}": "u",
    "\N{MICRO SIGN}": "u",
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{MIDDLE DOT}": "*",
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{ALMOST EQUAL TO}": "~",
    "\N{INFINITY}": "inf",
    "\N{SQUARE ROOT}": "sqrt",
}
"""Text for characters that an encoding does not have: the efficiency of background becomes eB."""

_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (\w+)")


def plain(text: str) -> str:
    """Text in ASCII for `text`: accents are left out, and other characters become ``?``."""
    letters = unicodedata.normalize("NFKD", "".join(map(_plain_character, text)))
    letters = "".join(c for c in letters if not unicodedata.combining(c))
    return letters.encode("ascii", "replace").decode("ascii")


def _plain_character(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    greek = _GREEK.fullmatch(unicodedata.name(character, ""))
    if greek is None:
        return character
    return greek[2].lower() if greek[1] == "SMALL" else greek[2].capitalize()


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return plain(error.object[error.start : error.end]), error.end


codecs.register_error(_HANDLER, _replace)


@contextlib.contextmanager
def any_encoding() -> Iterator[None]:
    """Let both streams print any text: what their encoding does not have is printed in ASCII."""
    streams = [s for s in (sys.stdout, sys.stderr) if hasattr(s, "reconfigure")]
    before = [(stream, stream.errors) for stream in streams]
    for stream in streams:
        stream.reconfigure(errors=_HANDLER)
    try:
        yield
    finally:
        for stream, errors in before:
            with contextlib.suppress(ValueError, OSError):  # closed, or its reader is
                stream.reconfigure(errors=errors)


def flush_output() -> None:
    """Write out standard output, so that its errors are raised here and not at the end."""
    if sys.stdout is not None:
        sys.stdout.flush()


def discard_output() -> None:
    """Direct standard output to nowhere, so that nothing is written when the process ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def write_error(line: str) -> None:
    """Print a line on standard error, if there is one."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{line}\n")
