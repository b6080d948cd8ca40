"""Training samples without labels: one class alone, and two mixtures of both classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import awkward as ak
import numpy as np
import torch
from numpy.typing import NDArray

from pcloud.errors import InputError
from pcloud.modality import Sample

__all__ = ["first_class", "mix_classes", "mixed_indices"]

S = TypeVar("S", bound=Sample)


def first_class(sample: S, classes: Sequence[str], noun: str) -> S:
    """Entries of the first class.

    Raises
    ------
    InputError
        If there are none.
    """
    chosen = np.flatnonzero(np.asarray(sample.label) == 0)
    if len(chosen) == 0:
        raise InputError(
            f"none of the {len(sample):,} {noun} are {classes[0]}, the first of the classes "
            f"{', '.join(classes)}, which an anomaly detector learns: name it first in the schema or "
            "in the files by class"
        )
    return sample[chosen]


def mix_classes(sample: S, classes: Sequence[str], fractions: Sequence[float], seed: int) -> S:
    """Two mixtures of two classes, with the number of the mixture as label.

    Parameters
    ----------
    sample : sample of any kind
        Labelled entries.
    classes : sequence of str
        Names of the two classes.
    fractions : sequence of float
        Fraction of the second class in both mixtures, see :func:`mixed_indices`.
    seed : int
        Seed of the random draw.
    """
    chosen, label = mixed_indices(np.asarray(sample.label), classes, fractions, seed)
    mixed = sample[chosen]
    if isinstance(mixed, ak.Array):
        relabelled = ak.with_field(mixed, label, "label")
        relabelled.attrs = dict(sample.attrs)
        return relabelled
    if hasattr(mixed, "labels"):
        return replace(mixed, labels=torch.from_numpy(label))
    return replace(mixed, label=label)


def mixed_indices(
    labels: NDArray[np.integer], classes: Sequence[str], fractions: Sequence[float], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the entries of two mixtures of equal size, and their mixture, 0 or 1.

    The mixtures have no entry in common, and are as large as the numbers of both classes allow.

    Parameters
    ----------
    labels : ndarray of int, shape (B,)
        True classes, 0 or 1.
    classes : sequence of str
        Names of the two classes.
    fractions : sequence of float
        Fraction of the second class in the first and in the second mixture.
    seed : int
        Seed of the random draw.

    Returns
    -------
    indices, mixture : ndarray of int, shape (M,)
        Sorted indices, and the mixture of each.

    Raises
    ------
    InputError
        If there are too few entries, so that a mixture has none of a class that it should have.

    Examples
    --------
    >>> labels = np.repeat([0, 1], [30, 10])
    >>> indices, mixture = mixed_indices(labels, ("qcd", "top"), (0.0, 0.2), seed=0)
    >>> [(labels[indices[mixture == m]]).mean().round(2).item() for m in (0, 1)]
    [0.0, 0.19]
    """
    rng = np.random.default_rng(seed)
    entries = [rng.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
    needed = 2 - sum(fractions), sum(fractions)  # of each class, for mixtures of size 1
    size = int(min(len(e) / n for e, n in zip(entries, needed, strict=True) if n > 0))
    signal = [round(size * f) for f in fractions]
    for number, fraction in zip(signal, fractions, strict=True):
        if (number == 0 and fraction > 0) or (number == size and fraction < 1):
            name = classes[number == 0]
            raise InputError(
                f"too few entries for mix {' '.join(f'{f:g}' for f in fractions)}: {len(entries[0]):,} "
                f"{classes[0]} and {len(entries[1]):,} {classes[1]} give two samples of {size:,}, "
                f"one of them without {name}"
            )
    parts, mixture = [], []
    for numbers, entry in zip(([size - n for n in signal], signal), entries, strict=True):
        for i, start in enumerate((0, numbers[0])):
            part = entry[start : start + numbers[i]]
            parts.append(part)
            mixture.append(np.full(len(part), i, dtype=np.int64))
    indices = np.concatenate(parts)
    order = np.argsort(indices)
    return indices[order].astype(np.int64), np.concatenate(mixture)[order]
