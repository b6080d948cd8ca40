"""The folder of a run: locked while a process trains in it, and never for two different runs."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pcloud.errors import InputError
from pcloud.run_files import CONFIG_FILE, FILES, FOLDERS, write_text
from pcloud.training.config import TrainConfig

__all__ = ["clear", "open_folder", "with_method_of_split", "write_config"]


@contextlib.contextmanager
def open_folder(config: TrainConfig, *, overwrite: bool = False) -> Iterator[Path]:
    """Make the folder of a run, or open it again, for this process alone.

    With `overwrite` it may hold any run, which stays until :func:`clear`.

    A folder that nothing was written to is removed at the end.

    Raises
    ------
    InputError
        If the folder cannot be made, another process is training in it, or it holds a run with
        another configuration and `overwrite` is false.
    """
    path = Path(config.out)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path}: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise InputError(f"cannot write to the folder {path}")
    with _lock(path):
        if not overwrite:
            _check_same_run(path, config)
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                path.rmdir()  # refused unless empty


def write_config(path: Path, config: TrainConfig) -> None:
    """Write ``config.yaml`` with absolute paths into the folder of a run."""
    write_text(path / CONFIG_FILE, config.with_absolute_paths().to_yaml())


def with_method_of_split(config: TrainConfig) -> TrainConfig:
    """Return the configuration with the methods of the run in its folder, if there is one.

    They are those of splits and of standardisation, which older runs did not name, and the place of
    the jets, which decides their order.
    """
    path = Path(config.out)
    if not (path / CONFIG_FILE).exists():
        return config
    before = TrainConfig.from_run(path).inputs
    standardise = before.standardise if config.standardise == "auto" else config.standardise
    storage = before.storage if config.storage == "auto" else config.storage
    return config.with_options(split=before.split, standardise=standardise, storage=storage)


def _check_same_run(path: Path, config: TrainConfig) -> None:
    file = path / CONFIG_FILE
    if not file.exists():
        return
    before = TrainConfig.from_run(path).with_absolute_paths()
    config = config.with_absolute_paths()
    changes = [
        f"{name} {getattr(before, name)!r} is now {getattr(config, name)!r}"
        for name in before.differences(config)
    ]
    if changes:
        raise InputError(
            f"{path} holds a run with another configuration: {'; '.join(changes)}; "
            "take another folder, or --overwrite to start anew"
        )


def clear(path: Path) -> None:
    """Remove a run from its folder, and nothing else that may be there."""
    for name in FILES:
        (path / name).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(path / name, ignore_errors=True)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock on a folder, which the system drops when the process ends in any way."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process is training in {path}") from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)
