"""Environment of a run: versions, machine, seed, time."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Interval, Len
from typing_extensions import TypedDict

import pcloud
from pcloud.run_files import ENVIRONMENT_FILE, read_json, write_json
from pcloud.stored_values import KEEP_UNKNOWN, Text
from pcloud.validation import checked

__all__ = ["describe_environment", "read_environment", "update_environment"]

_PACKAGES = (
    "torch",
    "torch-geometric",
    "lightning",
    "numpy",
    "awkward",
    "vector",
    "pytorch-optimizer",
)


class _Environment(TypedDict, total=False):
    """Entries of ``environment.json`` that are read again."""

    __pydantic_config__ = KEEP_UNKNOWN  # type: ignore[misc]

    pcloud: Text | None
    started: Text | None
    sessions: Annotated[int, Interval(ge=0, le=10**9)]
    finished: Text | None
    warnings: Annotated[list[Text], Len(0, 1000)]


def describe_environment(seed: int) -> dict[str, Any]:
    """Versions of the main packages, machine, threads, seed and, in a git checkout, the commit."""
    return {
        "pcloud": pcloud.__version__,
        "commit": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES} | {"torch": _torch_version()},
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "seed": seed,
    }


def update_environment(
    folder: Path, seed: int, *, finished: bool, warnings: Sequence[str] = ()
) -> None:
    """Write ``environment.json``, or update it when a run continues or ends.

    The file of a finished run is not changed; it contains the warnings of its end.
    """
    path = folder / ENVIRONMENT_FILE
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    old = read_environment(folder) if path.exists() else {}
    if old.get("finished"):
        return
    new = describe_environment(seed) | {
        "started": old.get("started", now),
        "sessions": old.get("sessions", 0) + (not finished),
        "finished": now if finished else None,
    }
    if warnings:
        new["warnings"] = list(warnings)
    write_json(path, new)


def read_environment(folder: Path) -> dict[str, Any]:
    """Read the ``environment.json`` of a run folder.

    Raises
    ------
    FileNotFoundError
        If there is none.
    InputError
        If it cannot be read.
    """
    remedy = "remove the file; the run is complete without it"

    def parse(values: Any) -> dict[str, Any]:
        return checked(_Environment, values)

    return read_json(folder / ENVIRONMENT_FILE, "description of the environment", remedy, parse)


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _torch_version() -> str:
    """Return the version with the build, such as ``2.13.0+cu130``; the metadata may lack it."""
    return str(torch.__version__)


@cache
def _git_commit() -> str | None:
    """Commit of the git checkout of the package, with a + where files have changed since."""
    if not _git("ls-files", "__init__.py"):
        return None  # installed, perhaps inside a checkout of something else
    return _git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+")


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(pcloud.__file__).parent), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
