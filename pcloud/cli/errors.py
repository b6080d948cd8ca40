"""Errors and warnings for the user, each in one line."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from pcloud.errors import InputError, MissingExtraError
from pcloud.text import for_terminal

USER_ERRORS = (
    InputError,
    MissingExtraError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
"""Errors that a user can cause; any other is a bug and keeps its traceback."""


def complain(line: str) -> int:
    """Print an error; return the exit code."""
    sys.stderr.write(f"pcloud: error: {for_terminal(line)}\n")
    return 2


def message(error: Exception) -> str:
    """Message of an error, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}"
    return " ".join(str(error).split())


@contextlib.contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Print the warnings of pcloud, each in one line, and no others."""

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if category.__module__.startswith("pcloud"):
            sys.stderr.write(f"pcloud: warning: {for_terminal(' '.join(str(message).split()))}\n")

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield
