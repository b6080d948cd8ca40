"""Names of results in folders that hold several: never a path, never those of other inputs."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pcloud.datasets import list_datasets
from pcloud.errors import InputError
from pcloud.io.remote import is_remote

__all__ = ["absolute_sources", "check_name", "free_name", "readable_name"]

_DIGEST_BYTES = 4
_FORBIDDEN = re.compile(r"[\\/*?\[\]{}:<>|\"\x00-\x1f\x7f]")


def check_name(name: str) -> str:
    """Return a name given by the user if it can be that of a file or folder on any system.

    Raises
    ------
    InputError
        If it is empty, a path, hidden, or has characters of glob patterns.
    """
    found = _FORBIDDEN.search(name)
    if found or not name.strip() or name.startswith(".") or name != name.strip():
        reason = f"it contains {found[0]!r}" if found else "it is empty, hidden or has outer spaces"
        raise InputError(f"{name!r} cannot be the name of an evaluation: {reason}")
    return name


def readable_name(source: str | Sequence[str]) -> str:
    """Name of a data set or of the first file, without characters of glob patterns.

    For the pattern ``sample_a/*.root`` it is ``sample_a``.
    """
    first = Path(source if isinstance(source, str) else source[0])
    for part in (first.stem, *(folder.name for folder in first.absolute().parents)):
        name = re.sub(r"[^\w.+=-]+", "_", part).strip("._")
        if name:
            return name
    return "jets"


def absolute_sources(source: str | Sequence[str]) -> list[str]:
    """Absolute paths of files and patterns; names of data sets stay."""
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    if len(sources) == 1 and sources[0] in list_datasets():
        return [str(sources[0])]
    return [
        str(path) if is_remote(path) else str(Path(path).expanduser().resolve()) for path in sources
    ]


def free_name(
    name: str,
    inputs: Mapping[str, Any],
    stored: Callable[[str], Mapping[str, Any] | None],
    *,
    is_given: bool = False,
) -> str:
    """Name under which the result for some inputs is written.

    It is `name` if that is not taken or holds the result of the same inputs, which is replaced.
    Otherwise a digest of the inputs is appended.

    Parameters
    ----------
    name : str
        Preferred name.
    inputs : mapping
        Plain values that identify the inputs.
    stored : callable
        Function of a name: the inputs of the result with this name, None if there is no result.
    is_given : bool
        True if the user gave the name: nothing is appended then.

    Raises
    ------
    InputError
        If a given name holds the result of other inputs.
    """
    taken = stored(name)
    if taken is None or taken == inputs:
        return name
    if is_given:
        changes = [key for key in inputs if taken.get(key) != inputs[key]]
        raise InputError(
            f"{name!r} is the name of an evaluation with other {' and '.join(changes)}: "
            "give another name (--name)"
        )
    text = json.dumps(inputs, sort_keys=True, default=str)
    digest = hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{name}-{digest}"
