"""Description of a public sample: schema, splits and source of the files."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcloud.errors import InputError, UnknownNameError

__all__ = ["DatasetInfo", "Download", "Split"]


@dataclass(frozen=True)
class Download:
    """File to download.

    Parameters
    ----------
    name : str
        Name of the file.
    md5 : str, optional
        Published checksum.
    size : int, optional
        Size in bytes.

    Examples
    --------
    >>> Download("train.h5", size=1000).name
    'train.h5'
    """

    name: str
    md5: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Split:
    """Split of a sample.

    Parameters
    ----------
    files : tuple of str
        Files or glob patterns in the folder of the sample.
    num_jets : int, optional
        Number of jets.
    downloads : tuple of Download
        Files to download; archives must be unpacked.

    Examples
    --------
    >>> Split(files=("train.h5",), num_jets=1000).num_jets
    1000
    """

    files: tuple[str, ...]
    num_jets: int | None = None
    downloads: tuple[Download, ...] = ()


@dataclass(frozen=True)
class DatasetInfo:
    """Sample of jets.

    Parameters
    ----------
    name : str
        Name of the sample in `pcloud.load_dataset`.
    description : str
        Description of one line.
    splits : mapping of str to Split
        Splits by name.
    classes : tuple of str
        Names of the classes in the order of the labels.
    schema : str, optional
        Name of the schema in `pcloud.io.SCHEMAS`.
    url : str
        Address of the files.
    reference : str
        Publication to cite.
    folders : tuple of str
        Possible folders of the files in the folder of all data sets, the preferred one first.
    load : callable, optional
        Function that returns the jets of a split, for a sample that is part of the package.
    kind : str
        Kind of data, see :mod:`pcloud.modality`.
    """

    name: str
    description: str
    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    schema: str | None = None
    url: str = ""
    reference: str = ""
    folders: tuple[str, ...] = ("",)
    load: Callable[..., Any] | None = field(default=None, repr=False, compare=False)
    kind: str = "cloud"

    def split(self, name: str) -> Split:
        """Split of the given name.

        Raises
        ------
        UnknownNameError
            If there is no such split.
        """
        if name not in self.splits:
            raise UnknownNameError("split", name, self.splits, where=f"data set {self.name!r}")
        return self.splits[name]

    def files(self, split: str, root: Path) -> list[Path]:
        """Files of a split, in order.

        Parameters
        ----------
        split : str
            Name of the split.
        root : Path
            Folder of all data sets, or of this one.

        Raises
        ------
        FileNotFoundError
            If files are missing; the message says where to get them.
        InputError
            If the sample is part of the package and has no files.
        """
        part = self.split(split)
        if self.load is not None:
            raise InputError(f"data set {self.name!r} is part of the package and has no files")
        for folder in self.folders:
            matches = [_matches(root / folder, pattern) for pattern in part.files]
            if all(matches):
                return [file for files in matches for file in files]
        places = [f"{root}/{folder}".rstrip("/") for folder in reversed(self.folders)]
        missing = f"no {part.files[0]} in {' or '.join(places)}"
        if not part.downloads:
            raise FileNotFoundError(missing + (f": get it from {self.url}" if self.url else ""))
        wanted = ", ".join(download.name for download in part.downloads[:3])
        more = f" and {len(part.downloads) - 3} more" if len(part.downloads) > 3 else ""
        raise FileNotFoundError(
            f"{missing}: get {wanted}{more} "
            f"from {self.url} and put {'it' if len(part.downloads) == 1 else 'them'} there"
            + (", unpacked" if part.downloads[0].name.endswith(".tar") else "")
        )

    def verify(self, root: Path) -> dict[Path, bool]:
        """Compare downloaded files with their published sizes and checksums.

        Parameters
        ----------
        root : Path
            Folder of all data sets, or of this one.

        Returns
        -------
        dict of Path to bool
            True for each existing file whose size and checksum are those published.
        """
        downloads = [d for split in self.splits.values() for d in split.downloads if d.md5]
        is_intact = {}
        for download in downloads:
            candidates = (root / folder / download.name for folder in self.folders)
            file = next((candidate for candidate in candidates if candidate.is_file()), None)
            if file is not None:
                has_size = download.size in (None, file.stat().st_size)
                is_intact[file] = has_size and _md5(file) == download.md5
        return is_intact


def _matches(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern)) if glob.has_magic(pattern) else _existing(folder / pattern)


def _existing(file: Path) -> list[Path]:
    return [file] if file.is_file() else []


def _md5(file: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
