"""Permission to run Python code that a file names.

A run folder, a checkpoint or a configuration may name a Python file as its model. Its code runs only
if this user has trained with exactly the same code, or allows it. The code that a user trained with
is known by its hash, in a folder for the state of programs.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from pcloud.errors import InputError
from pcloud.models.code import ModelCode
from pcloud.run_files import atomic_path, read_json

__all__ = [
    "UnknownCodeWarning",
    "allowed_modules",
    "codes_used",
    "note_use",
    "remember_codes",
    "state_folder",
    "stored_names",
    "trusting",
    "user_names",
]


class UnknownCodeWarning(UserWarning):
    """Code that the user trained with cannot be remembered; the message says what to do."""


@dataclass(frozen=True)
class _Source:
    """Origin of the names of models at the moment."""

    place: str = ""
    """Run folder, checkpoint or configuration that names the code."""
    given: frozenset[str] | None = frozenset()
    """Names that the user gave, in a command or in Python; None for all."""
    trusted: bool = False
    """True if the user allows all code."""


_SOURCE: ContextVar[_Source | None] = ContextVar("source of names of models", default=None)
_USED: ContextVar[list[ModelCode] | None] = ContextVar("code of models in use", default=None)
_KNOWN: dict[str, set[str]] = {}
"""Code of this process, should it not be possible to remember it in a file."""


@contextlib.contextmanager
def stored_names(
    place: str | Path, given: frozenset[str] = frozenset(), *, trust: bool = False
) -> Iterator[None]:
    """Context in which names of models are those of a file, apart from the `given` ones.

    Parameters
    ----------
    place : str or path
        Run folder, checkpoint or configuration, for the message.
    given : frozenset of str
        Names that the user gave for this purpose; those of an outer context are given, too.
    trust : bool
        Allow all code.
    """
    outer = _SOURCE.get() or _Source()
    source = _Source(str(place), given | (outer.given or frozenset()), trust or outer.trusted)
    with _set(source):
        yield


@contextlib.contextmanager
def trusting(trust: bool) -> Iterator[None]:
    """Context in which all code may run, if `trust` is true."""
    outer = _SOURCE.get()
    with _set(_Source("", outer.given if outer else frozenset(), True) if trust else outer):
        yield


@contextlib.contextmanager
def user_names() -> Iterator[None]:
    """Context in which all names are the user's, unless it is inside one of the others."""
    with _set(_SOURCE.get() or _Source(given=None)):
        yield


@contextlib.contextmanager
def _set(source: _Source | None) -> Iterator[None]:
    token = _SOURCE.set(source)
    try:
        yield
    finally:
        _SOURCE.reset(token)


@contextlib.contextmanager
def codes_used() -> Iterator[list[ModelCode]]:
    """Context that collects the code of the models that are built in it."""
    used: list[ModelCode] = []
    token = _USED.set(used)
    try:
        yield used
    finally:
        _USED.reset(token)


def note_use(code: ModelCode) -> None:
    """Add the code of a model to those of :func:`codes_used`."""
    used = _USED.get()
    if used is not None:
        used.append(code)


def allowed_modules(code: ModelCode) -> set[str] | None:
    """Return the other modules that code may import, as hashes; None for any.

    Raises
    ------
    InputError
        If the code may not run.
    """
    source = _SOURCE.get() or _Source()
    if source.trusted or source.given is None or code.name in source.given:
        return None
    if code.digest in _KNOWN:
        return _KNOWN[code.digest]
    known = _read_known(code.digest)
    if known is None:
        place = source.place or "a stored configuration"
        raise InputError(
            f"{place} names Python code, {code.name}, which is not code that you have trained "
            f"with: read {code.path}, then allow it by --trust-code (trust_code=True in Python)"
        )
    return known


def remember_codes(codes: list[ModelCode]) -> None:
    """Remember the code that a training uses, so that it may run without being allowed again.

    Where that is impossible, as on a read-only home, it is known in this process alone, and a
    :class:`UnknownCodeWarning` says so.
    """
    for code in codes:
        _KNOWN.setdefault(code.digest, set()).update(code.others)
        if _read_known(code.digest) == _KNOWN[code.digest]:
            continue
        try:
            _write_known(code)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            warnings.warn(
                f"the code of {code.name} cannot be remembered as yours ({reason}): later commands "
                "need --trust-code; PCLOUD_STATE names another folder to remember it in",
                UnknownCodeWarning,
                stacklevel=2,
            )


def state_folder() -> Path:
    """Folder in which pcloud remembers code: ``$PCLOUD_STATE``, else that of the desktop standard.

    That is ``$XDG_STATE_HOME/pcloud``, by default ``~/.local/state/pcloud``.

    Raises
    ------
    RuntimeError
        If none is given and the user has no home.
    """
    if own := os.environ.get("PCLOUD_STATE"):
        return Path(own).expanduser().absolute()
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "pcloud"


def _file(digest: str) -> Path:
    return state_folder() / "known_code" / f"{digest}.json"


def _read_known(digest: str) -> set[str] | None:
    """Hashes of the other modules of code that is known; None for unknown code."""
    try:
        values = read_json(_file(digest), "known code", "remove it")
        return {str(module) for module in values["others"]}
    except (OSError, RuntimeError, InputError, LookupError, TypeError):
        return None


def _write_known(code: ModelCode) -> None:
    path = _file(code.digest)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    values = {
        "model": code.name,
        "file": str(code.path),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "others": sorted(_KNOWN[code.digest]),
    }
    with atomic_path(path, f"{os.getpid()}.new") as new:
        new.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
