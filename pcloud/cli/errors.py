"""Errors and warnings for the user, each in one line."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from pcloud.cli.streams import write_error
from pcloud.errors import InputError, MissingExtraError, is_out_of_memory
from pcloud.text import for_terminal
from pcloud.validation import flag

USER_ERRORS = (InputError, MissingExtraError, OSError)
"""Errors that a user or the system can cause; any other is a bug and keeps its traceback."""

_MEMORY_OPTIONS = ("batch_size", "max_jets", "chunk_size", "jets", "robustness_jets")
"""Options of which a smaller value needs less memory."""


def complain(line: str) -> int:
    """Print an error; return the exit code."""
    write_error(f"pcloud: error: {for_terminal(line)}")
    return 2


def message(error: Exception, options: Iterable[str] = ()) -> str | None:
    """Message of an error in one line; None for a bug, whose traceback is of use.

    Parameters
    ----------
    error : Exception
        The error.
    options : iterable of str
        Names of the options of the command.
    """
    if is_out_of_memory(error):
        where = "GPU memory" if "CU" in str(error) else "memory"
        smaller = [flag(name) for name in _MEMORY_OPTIONS if name in set(options)]
        remedy = f": a smaller {' or '.join(smaller)} needs less" if smaller else ""
        return f"not enough {where}{remedy}"
    if not isinstance(error, USER_ERRORS):
        return None
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Print the warnings of pcloud, each in one line, and no others."""

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if category.__module__.startswith("pcloud"):
            write_error(f"pcloud: warning: {for_terminal(' '.join(str(message).split()))}")

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield
