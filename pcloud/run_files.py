"""Files of a run: their names, atomic writing, checked reading, and the base of stored results.

A run is a folder. Every file in it is written under another name and renamed when it is complete,
so that a process killed at any moment leaves the old file or the new one.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import math
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeVar

from pcloud.errors import CannotWriteError, InputError
from pcloud.text_tables import aligned, html_table

__all__ = [
    "FILES",
    "FOLDERS",
    "Advance",
    "StoredResult",
    "atomic_path",
    "check_writable",
    "file_errors",
    "ignore_progress",
    "make_folder",
    "read_json",
    "read_text",
    "write_atomic",
    "write_errors",
    "write_json",
    "write_text",
]

_MAX_REASON = 300  # characters of the reason in an error message
_MAX_BYTES = 2**30  # of a file of results; the largest of ours have some MB

CONFIG_FILE = "config.yaml"
ENVIRONMENT_FILE = "environment.json"
INITIAL_STATE_FILE = "init.json"
HISTORY_FILE = "metrics.csv"
SCORES_FILE = "scores.parquet"
METRICS_FILE = "metrics.json"
EVALUATION_FILE = "evaluation.json"
CALIBRATION_FILE = "calibration.json"
INTERVALS_FILE = "intervals.json"
UNCERTAINTY_FILE = "uncertainty.json"
UNCERTAINTY_TABLE = "uncertainty.parquet"
TAYLOR_FILE = "taylor.json"
ATTRIBUTION_FILE = "attribution.json"
IMAGES_FILE = "images.json"
ROBUSTNESS_FILE = "robustness.json"
REPORT_FILE = "report.html"
REWEIGHT_FILE = "reweight.json"
DISCRIMINANTS_FILE = "discriminants.json"
COMPARISON_FILE = "comparison.json"
COMPARISON_TABLE = "comparison.csv"
THRESHOLD_FILE = "threshold.json"
LEARNING_RATES_FILE = "learning_rates.json"
LAYER_NORMS_FILE = "layer_norms.json"
TUNING_FILE = "tuning.json"
GENERATION_FILE = "generation.json"
GENERATED_FILE = "generated.parquet"

FILES = (
    CONFIG_FILE,
    ENVIRONMENT_FILE,
    INITIAL_STATE_FILE,
    HISTORY_FILE,
    SCORES_FILE,
    METRICS_FILE,
    EVALUATION_FILE,
    CALIBRATION_FILE,
    INTERVALS_FILE,
    UNCERTAINTY_FILE,
    UNCERTAINTY_TABLE,
    TAYLOR_FILE,
    ATTRIBUTION_FILE,
    ROBUSTNESS_FILE,
    REPORT_FILE,
    REWEIGHT_FILE,
    DISCRIMINANTS_FILE,
    COMPARISON_FILE,
    COMPARISON_TABLE,
    THRESHOLD_FILE,
    LEARNING_RATES_FILE,
    LAYER_NORMS_FILE,
    GENERATION_FILE,
    GENERATED_FILE,
)
"""Names of all files that training, studies and the report write into the folder of a run."""

CHECKPOINT_FOLDER = "checkpoints"
EVALUATION_FOLDER = "evaluations"
FIGURE_FOLDER = "figures"
MEMBER_FOLDER = "members"
SHIFT_FOLDER = "shift"
TEACHER_FOLDER = "teacher"

FOLDERS = (
    CHECKPOINT_FOLDER,
    EVALUATION_FOLDER,
    FIGURE_FOLDER,
    MEMBER_FOLDER,
    SHIFT_FOLDER,
    TEACHER_FOLDER,
)
"""Names of all folders in the folder of a run."""

Advance = Callable[[float], Any]
"""Progress callback: called with the part of the whole work (0 to 1) done since the last call."""

Result = TypeVar("Result", bound="StoredResult")


def ignore_progress(part: float) -> None:
    """Progress callback that does nothing."""


@contextlib.contextmanager
def atomic_path(path: str | Path, suffix: str = "new") -> Iterator[Path]:
    """Temporary path beside `path`, renamed to `path` on success and removed on failure.

    Parameters
    ----------
    path : path
        File to write. Its folder must exist.
    suffix : str
        End of the temporary name; one with the process number where several may write `path`.

    Yields
    ------
    Path
        Where to write the content.

    Raises
    ------
    CannotWriteError
        If the disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    new = path.with_name(f".{path.name}.{suffix}")
    with write_errors(path):
        try:
            yield new
            with new.open("rb+") as file:
                os.fsync(file.fileno())
            new.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise


TEMPORARY_PREFIX = ".pcloud-"
"""Beginning of the names of temporary folders."""

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
"""Numbers of errors that only writing can have."""


@contextlib.contextmanager
def write_errors(path: str | Path, remedy: str = "") -> Iterator[None]:
    """Turn the errors of a full disk or a folder without permission into a CannotWriteError.

    Parameters
    ----------
    path : path
        File or folder that is written.
    remedy : str
        Advice for the error message.

    Raises
    ------
    CannotWriteError
        If an error inside, or one of its causes, is that of a full disk, a read-only file system
        or a quota; or if `path` cannot be made.
    """
    try:
        yield
    except CannotWriteError:
        raise
    except Exception as error:
        if reason := _write_failure(error, Path(path)):
            raise CannotWriteError(path, reason, remedy) from error
        raise


def _write_failure(error: BaseException | None, path: Path) -> str:
    """Reason for which `path` cannot be written, or "" for an error of another kind.

    torch raises an error about the position in the file, from that of the system.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            is_written = _is_written(error.filename, path) and error.errno != errno.ENOENT
            if error.errno in _DISK_ERRORS or is_written:
                return os.strerror(error.errno)
        error = error.__cause__ or error.__context__
    return ""


def _is_written(name: Any, path: Path) -> bool:
    """True for the name of `path`, of a folder around it, or of a temporary file for it."""
    if not isinstance(name, str):
        return False
    file = Path(name)
    temporary = file.name.startswith((f".{path.name}.", TEMPORARY_PREFIX))
    return file == path or file in path.parents or (temporary and file.parent == path.parent)


def make_folder(path: str | Path) -> Path:
    """Make a folder, and those around it, unless it exists; return its path.

    Raises
    ------
    CannotWriteError
        If it cannot be made.
    """
    path = Path(path)
    with write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def check_writable(folder: str | Path, remedy: str = "") -> None:
    """Check before long work that files can be written into a folder that exists.

    Raises
    ------
    CannotWriteError
        If not, such as on a read-only file system.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CannotWriteError(f"to {folder}", reason, remedy) from error


def write_atomic(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file so that `path` is the old or the new one at any moment, even if killed."""
    with atomic_path(path) as new, new.open("wb") as file:
        write(file)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8 atomically."""
    write_atomic(path, lambda file: file.write(text.encode("utf-8")))


def write_json(path: str | Path, value: Any, *, indent: int | None = 2) -> None:
    """Write a JSON file atomically, in strict JSON.

    Numbers that are not finite become ``null``: JSON has no NaN, and a file with it is refused by
    other programs.

    Parameters
    ----------
    path : path
        File to write.
    value : dict, list, str, number or None
        Plain values.
    indent : int, optional
        Spaces per level; None for one line.
    """
    try:
        text = json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=indent, allow_nan=False)
    write_text(path, text + "\n")


def read_json(
    path: str | Path, what: str, remedy: str, parse: Callable[[Any], Any] = lambda values: values
) -> Any:
    """Read a JSON file, and convert its values.

    Parameters
    ----------
    path : path
        The file.
    what : str
        Name of the content for the error message, such as ``"calibration"``.
    remedy : str
        Advice for the error message, such as ``"write it anew with pcloud calibrate"``.
    parse : callable
        ``parse(values)``, the conversion; by default the plain values are returned.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If it is not JSON, is larger than 1 GiB, or `parse` cannot convert it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file {path}: {remedy}")
    with file_errors(path, what, remedy):
        return parse(json.loads(read_text(path)))


def read_text(path: Path) -> str:
    """Text of a file of results, in UTF-8.

    Raises
    ------
    InputError
        If the file is larger than 1 GiB.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"it has {path.stat().st_size:,} bytes, more than {_MAX_BYTES:,}")
    return path.read_text(encoding="utf-8")


@contextlib.contextmanager
def file_errors(path: str | Path, what: str, remedy: str) -> Iterator[None]:
    """Turn the errors of reading a damaged file into an InputError that says what to do."""
    try:
        yield
    except (
        ValueError,  # of json, Unicode, pyarrow and InputError too
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,  # RecursionError and NotImplementedError of pyarrow too
        MemoryError,
        csv.Error,
        EOFError,
        OSError,
    ) as error:
        raise InputError(f"{path} holds no {what} ({_reason(error)}): {remedy}") from None


class StoredResult(ABC):
    """Result of a study, stored as one JSON file in the folder of a run.

    A subclass names its file, and converts itself to plain values and back.
    """

    file: ClassVar[str]
    """Name of the file in the folder of the run."""
    what: ClassVar[str]
    """Name of the content for messages."""
    command: ClassVar[str]
    """Command that writes the file."""
    indent: ClassVar[int | None] = None
    """Spaces per level of the JSON file; None for one line."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""

    @classmethod
    @abstractmethod
    def from_dict(cls: type[Result], values: dict[str, Any]) -> Result:
        """Inverse of `to_dict`, also for files of earlier versions."""

    @abstractmethod
    def rows(self) -> list[list[str]]:
        """Table of the result; the first row is the header."""

    def write(self, folder: str | Path) -> Path:
        """Write the result into the folder of a run; return the path of the file."""
        path = Path(folder) / self.file
        write_json(path, self.to_dict(), indent=self.indent)
        return path

    @classmethod
    def read(cls: type[Result], folder: str | Path) -> Result:
        """Read the result from the folder of a run.

        Raises
        ------
        FileNotFoundError
            If the study was not done.
        InputError
            If the file cannot be read.
        """
        remedy = f"write it anew with {cls.command}"
        return read_json(Path(folder) / cls.file, cls.what, remedy, cls.from_dict)

    def __str__(self) -> str:
        return aligned(self.rows())

    def _repr_html_(self) -> str:
        return html_table(self.rows())


def _finite(value: Any) -> Any:
    """The value with None in the place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _reason(error: BaseException) -> str:
    """Message of an error in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    if isinstance(error, KeyError) and not isinstance(error, InputError):
        text = f"no {text}"
    return (text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}...") or type(
        error
    ).__name__
