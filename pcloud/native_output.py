"""Output of libraries in C and C++, which does not pass through Python."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

__all__ = ["hidden_output"]


@contextlib.contextmanager
def hidden_output() -> Iterator[None]:
    """Context that hides what C++ prints, such as the banner of FastJet at its first clustering."""
    sys.stdout.flush()
    stdout = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(null)
