"""Warnings of jets that are probably not what the user means: repeated, rare, or used twice."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pcloud.io.files import expand_paths
from pcloud.keys import Keys
from pcloud.modality import Source
from pcloud.training.config import DataConfig
from pcloud.words import number_of

__all__ = [
    "DoubtfulJetsWarning",
    "warn_of_classes",
    "warn_of_repeated_files",
    "warn_of_repetitions",
]

_RARE_JETS = 5  # fewer jets of a class do not measure its efficiency to 50 %
_RARE_SHARE = 0.05


class DoubtfulJetsWarning(UserWarning):
    """Warning of jets that are given twice, or of a class with hardly any."""


def warn_of_repeated_files(config: DataConfig) -> None:
    """Warn of files that are given twice, or as two splits."""
    files = {name: _files(getattr(config, name)) for name in ("data", "val", "test")}
    for name, found in files.items():
        if (twice := len(found) - len(set(found))) > 0:
            _warn(f"{twice} of the {len(found)} files of {name} are given more than once")
    names = {"data": "training", "val": "validation", "test": "test"}
    for first, second in (("data", "val"), ("data", "test"), ("val", "test")):
        common = set(files[first]) & set(files[second])
        if common:
            _warn(
                f"{len(common)} of the {len(set(files[second]))} {names[second]} files are "
                f"{names[first]} files, too: {min(common)}"
            )


def warn_of_repetitions(
    keys: Sequence[Keys], labels: Sequence[NDArray[np.integer]], noun: str
) -> None:
    """Warn of training jets that occur twice, that have two labels, or that are validation jets.

    Parameters
    ----------
    keys, labels : sequence of two arrays
        Keys (B,) and labels (B,) of the training and the validation jets.
    noun : str
        Plural noun for the jets.
    """
    train, val = keys
    found, counts = np.unique(train, return_counts=True)
    if (repeated := len(train) - len(found)) > 0:
        text = f"{repeated:,} of the {len(train):,} training {noun} repeat others of them"
        if different := _different_labels(train, labels[0], found[counts > 1]):
            verb = "occurs" if different == 1 else "occur"
            text += f"; {number_of(different, noun.removesuffix('s'))} {verb} with different labels"
        _warn(text)
    if common := int(np.isin(val, found).sum()):
        _warn(f"{common:,} of the {len(val):,} validation {noun} are training {noun}, too")


def warn_of_classes(labels: NDArray[np.integer], classes: Sequence[str], whose: str) -> None:
    """Warn of classes that are absent or rare among jets.

    A class is rare if it has fewer than 5 jets, and less than 5 % of them.

    Parameters
    ----------
    labels : array of int, shape (B,)
        Classes of the jets.
    classes : sequence of str
        Names of the classes.
    whose : str
        Name of the jets, such as ``"validation jets"``.
    """
    counts = np.bincount(labels, minlength=len(classes))
    bound = min(_RARE_JETS, _RARE_SHARE * len(labels))
    rare = (counts == 0) | (counts < bound)
    few = [f"{n} of {name}" for n, name, r in zip(counts, classes, rare, strict=True) if r]
    if few:
        _warn(f"of the {len(labels):,} {whose}, only {', '.join(few)}")


def _different_labels(keys: Keys, labels: NDArray[np.integer], repeated: Keys) -> int:
    """Number of repeated keys whose entries have different labels."""
    chosen = np.isin(keys, repeated)
    places = np.searchsorted(repeated, keys[chosen])
    low = np.full(len(repeated), np.iinfo(np.int64).max)
    high = np.full(len(repeated), np.iinfo(np.int64).min)
    np.minimum.at(low, places, labels[chosen])
    np.maximum.at(high, places, labels[chosen])
    return int((low != high).sum())


def _files(source: Source | None) -> list[str]:
    """Real paths of the files of a source; empty if it is none or the name of a data set."""
    if source is None:
        return []
    try:
        return [str(path.resolve()) for path in expand_paths(source)]
    except (FileNotFoundError, ValueError):
        return []


def _warn(text: str) -> None:
    warnings.warn(text, DoubtfulJetsWarning, stacklevel=3)
