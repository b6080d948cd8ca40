"""Public samples and official weights by name: fetched once into the folder of the data sets.

The folder is that of the environment variable ``PCLOUD_DATA``, by default ``~/.cache/pcloud/data``.
"""

from __future__ import annotations

import os
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from pcloud.datasets.sources import RemoteFile, RemoteSample, list_sources, remote_sample
from pcloud.errors import InputError, UnknownNameError
from pcloud.io.download import Advance, by_hand, checksum_of, fetch
from pcloud.io.files import input_errors
from pcloud.run_files import read_json, write_errors, write_json

__all__ = [
    "ROOT_VARIABLE",
    "FirstChecksumWarning",
    "advice",
    "data_root",
    "download",
    "official_weights",
    "sample_path",
]

ROOT_VARIABLE = "PCLOUD_DATA"
"""Environment variable with the folder of the public samples."""

CHECKSUM_FILE = "checksums.json"
"""File in the folder of the data sets with the checksums of first downloads, by address."""


class FirstChecksumWarning(UserWarning):
    """A file has no published checksum: that of the first download is stored."""


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Folder of the public samples: `root`, that of ``PCLOUD_DATA``, or the default one."""
    given = root or os.environ.get(ROOT_VARIABLE)
    return Path(given).expanduser() if given else Path.home() / ".cache" / "pcloud" / "data"


def download(
    name: str,
    splits: str | Sequence[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    *,
    progress: bool = True,
) -> list[Path]:
    """Download a public sample, or official weights, from the addresses of their authors.

    Files that are there are checked and not fetched again. An interrupted download is continued.

    Parameters
    ----------
    name : str
        Name of a sample, such as ``"landscape"``, or of weights, such as
        ``"particlenet/jetclass_kin"``.
    splits : str or sequence of str, optional
        Splits such as ``"test"``; by default all.
    root : str or Path, optional
        Folder of the samples; the default is the environment variable ``PCLOUD_DATA``, or
        ``~/.cache/pcloud/data``.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    list of Path
        The files; of an archive, the folder into which it is unpacked.

    Raises
    ------
    UnknownNameError
        If there is no sample or split of this name.
    InputError
        If a file cannot be fetched, or is not that of the authors; one line says which file to fetch
        by hand, and where to put it.
    CannotWriteError
        If a file cannot be written.
    """
    sample = remote_sample(name)
    files = _files(sample, [splits] if isinstance(splits, str) else splits)
    folder = data_root(root) / sample.folder
    with _bar(progress) as advance_of:
        return [_download(file, sample, folder, advance_of(file.name)) for file in files]


def official_weights(model: str, weights: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Download official weights of a model, and return their file.

    Parameters
    ----------
    model : str
        Name of the model, such as ``"particlenet"``.
    weights : str
        Name of the weights, such as ``"jetclass_kin"``.
    root : str or Path, optional
        As for :func:`download`.

    Raises
    ------
    UnknownNameError
        If there are no such weights.
    InputError, CannotWriteError
        As from :func:`download`.
    """
    known = [name.partition("/")[2] for name in list_sources() if name.startswith(f"{model}/")]
    if weights not in known:
        raise UnknownNameError("official weights", weights, known, f"model {model!r}")
    (path,) = download(f"{model}/{weights}", root=root)
    return path


def sample_path(name: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Path of a downloaded sample: its file, or the folder of several.

    Raises
    ------
    UnknownNameError
        If there is no such sample.
    FileNotFoundError
        If it is not there; the message says how to get it.
    """
    sample = remote_sample(name)
    files = _files(sample, None)
    folder = data_root(root) / sample.folder
    path = folder / files[0].name if len(files) == 1 else folder
    if not path.exists():
        raise FileNotFoundError(f"no {path}: get it from {sample.page}{advice(name)}")
    return path


def advice(name: str, split: str | None = None) -> str:
    """Advice to download a sample, to be added to a message; empty where that is not possible."""
    if name not in list_sources():
        return ""
    return f"; or fetch it with: pcloud download {name}" + (f" --splits {split}" if split else "")


def _files(sample: RemoteSample, splits: Sequence[str] | None) -> list[RemoteFile]:
    for split in splits or ():
        if split not in sample.splits:
            raise UnknownNameError("split", split, sample.splits, f"data set {sample.name!r}")
    return [file for split in splits or sample.splits for file in sample.splits[split]]


def _download(file: RemoteFile, sample: RemoteSample, folder: Path, advance: Advance) -> Path:
    path = folder / file.name
    unpacked = path.with_name(f".{file.name}.unpacked")
    target = path if file.unpack is None else folder / file.unpack
    if unpacked.exists():
        return target
    if file.address is None:
        if path.exists():
            return path
        raise InputError(f"{file.name} has no address: {by_hand(f'it from {sample.page}', path)}")
    stored = folder.parent / CHECKSUM_FILE
    checksum = file.checksum or _first_checksums(stored).get(file.address)
    fetch(file.address, path, checksum=checksum, size=file.size, advance=advance)
    if checksum is None:
        _store_first_checksum(file.address, path, stored)
    if file.unpack is not None:
        _unpack(path, target)
        unpacked.touch()
        path.unlink()
    return target


def _first_checksums(stored: Path) -> dict[str, str]:
    remedy = "remove it, and the checksums of the next downloads are stored"
    return read_json(stored, "checksums", remedy, _texts) if stored.exists() else {}


def _texts(values: Any) -> dict[str, str]:
    if not all(isinstance(text, str) and ":" in text for text in values.values()):
        raise InputError("not texts such as sha256:45663819")
    return dict(values)


def _store_first_checksum(address: str, path: Path, stored: Path) -> None:
    checksum = checksum_of(path, "sha256")
    write_json(stored, _first_checksums(stored) | {address: checksum})
    warnings.warn(
        f"{path.name}: its authors publish no checksum; that of this download, {checksum}, is stored "
        f"in {stored}, and later downloads are compared with it",
        FirstChecksumWarning,
        stacklevel=2,
    )


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the regular files of an archive, none of them outside of the folder."""
    with input_errors(archive, "tar archive"), tarfile.open(archive) as content:
        for member in content:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise InputError(f"{archive} has a file outside of its folder, {member.name}")
            source = content.extractfile(member) if member.isfile() else None
            if source is None:
                continue
            path = folder / name
            with write_errors(path), source:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as target:
                    while block := source.read(1 << 22):
                        target.write(block)


@contextmanager
def _bar(shown: bool) -> Iterator[Any]:
    """Progress bars on the error stream; yields a function that makes one for a file."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from pcloud.terminal import Terminal

    console = Terminal(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    bar = Progress(*columns, console=console, disable=not (shown and console.is_terminal))

    def advance_of(name: str) -> Advance:
        task = bar.add_task(name, total=None)
        return lambda done, total: bar.update(task, completed=done, total=total)

    with bar:
        yield advance_of
