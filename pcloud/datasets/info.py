"""What is known of a public sample: its schema, its splits, and where to get it."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import awkward as ak

from pcloud.errors import InputError, UnknownNameError

__all__ = ["DatasetInfo", "Download", "Split"]


@dataclass(frozen=True)
class Download:
    """One file to download.

    Parameters
    ----------
    name : str
        Name of the file.
    md5 : str, optional
        Its checksum, as published with it.
    size : int, optional
        Its size in bytes.
    """

    name: str
    md5: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Split:
    """One part of a sample.

    Parameters
    ----------
    files : tuple of str
        Files, or glob patterns of files, below the folder of the sample.
    num_jets : int, optional
        Number of jets.
    downloads : tuple of Download
        What to get; archives are to be unpacked.
    """

    files: tuple[str, ...]
    num_jets: int | None = None
    downloads: tuple[Download, ...] = ()


@dataclass(frozen=True)
class DatasetInfo:
    """A sample of jets.

    Parameters
    ----------
    name : str
        What `pcloud.load_dataset` calls it.
    description : str
        One line.
    splits : mapping of str to Split
        Its parts.
    classes : tuple of str
        Names of the classes in the order of the labels.
    schema : str, optional
        Name of its schema in `pcloud.io.SCHEMAS`.
    url : str
        Where its files are.
    reference : str
        What to cite.
    folders : tuple of str
        Where its files may be below the folder of all data sets; the first is recommended.
    load : callable, optional
        For a sample that comes with the package: makes the jets of a split.
    """

    name: str
    description: str
    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    schema: str | None = None
    url: str = ""
    reference: str = ""
    folders: tuple[str, ...] = ("",)
    load: Callable[[str], ak.Array] | None = field(default=None, repr=False, compare=False)

    def split(self, name: str) -> Split:
        """One part of the sample.

        Raises
        ------
        UnknownNameError
            If there is no such part.
        """
        if name not in self.splits:
            raise UnknownNameError("split", name, self.splits, where=f"data set {self.name!r}")
        return self.splits[name]

    def files(self, split: str, root: Path) -> list[Path]:
        """The files of a split, in their order.

        Parameters
        ----------
        split : str
            Which part.
        root : Path
            Folder of all data sets, or of this one.

        Raises
        ------
        FileNotFoundError
            If they are not there; the message says where to get them.
        InputError
            If the sample has no files of its own.
        """
        part = self.split(split)
        if self.load is not None:
            raise InputError(f"data set {self.name!r} comes with the package, not as files")
        for folder in self.folders:
            matches = [_matches(root / folder, pattern) for pattern in part.files]
            if all(matches):
                return [file for files in matches for file in files]
        missing = f"no {part.files[0]} in {root / self.folders[0]}"
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
        """Compare the downloads that are there with their published sizes and checksums.

        Parameters
        ----------
        root : Path
            Folder of all data sets, or of this one.

        Returns
        -------
        dict of Path to bool
            For each file of known checksum, whether it is as published.
        """
        downloads = [d for split in self.splits.values() for d in split.downloads if d.md5]
        found = {}
        for download in downloads:
            places = (root / folder / download.name for folder in self.folders)
            file = next((place for place in places if place.is_file()), None)
            if file is not None:
                has_size = download.size in (None, file.stat().st_size)
                found[file] = has_size and _md5(file) == download.md5
        return found


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
