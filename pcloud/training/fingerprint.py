"""Fingerprints of the jets of a run: a continued run must find the same ones."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcloud.errors import InputError
from pcloud.keys import Fingerprint, Keys, shuffled
from pcloud.modality import Dataset

__all__ = ["SPLIT_NAMES", "JetsOfRun", "Overlap", "stored_fingerprints"]

_SKETCH_KEYS = 1024  # finds a file that shares more than about 0.3 % of the training jets
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
"""Adjective of each split, for messages."""


@dataclass(frozen=True)
class JetsOfRun:
    """Numbers that identify the jets of a run, stored in its checkpoint.

    Parameters
    ----------
    prints : dict of str to Fingerprint
        Fingerprint of each split that was read.
    sketch : Tensor, shape (K,), int64
        Smallest random numbers from the keys of the training jets, which show if other jets are
        among them.
    num_keys : int
        Number of different keys of the training jets.
    old : dict
        Numbers by which runs before knew their jets: how many there are, and a checksum of labels
        and numbers of particles.
    """

    prints: Mapping[str, Fingerprint]
    sketch: Tensor
    num_keys: int
    old: Mapping[str, int]

    @classmethod
    def of(cls, hashes: Mapping[str, Keys], keys: Keys, train: Dataset, val: Dataset) -> JetsOfRun:
        """Identity from the hashes (B,) of each split and the keys (B,) of the training jets."""
        numbers = np.unique(shuffled(keys, "sketch"))
        sketch = torch.from_numpy(numbers[:_SKETCH_KEYS].view(np.int64).copy())
        old = {
            "train_jets": len(train),
            "val_jets": len(val),
            "checksum": zlib.crc32(val.to_bytes(), zlib.crc32(train.to_bytes())),
        }
        prints = {split: Fingerprint.of(values) for split, values in hashes.items()}
        return cls(prints, sketch, len(numbers), old)

    def to_dict(self) -> dict[str, Any]:
        """Plain values and a tensor, for the checkpoint."""
        return {**self.plain(), "sketch": self.sketch, "num_keys": self.num_keys}

    def plain(self) -> dict[str, Any]:
        """Plain values of the fingerprints."""
        return {split: asdict(found) for split, found in self.prints.items()}

    def check(self, stored: Mapping[str, Any], folder: Path) -> None:
        """Check that a continued run has the jets of the stored fingerprint, in the same order.

        Raises
        ------
        InputError
            If the jets differ.
        """
        refused = f"{folder} cannot be continued: "
        remedy = "; --overwrite starts anew"
        if "checksum" in stored:
            if dict(stored) != dict(self.old):
                raise InputError(
                    f"{refused}its jets are not those it began with (then {dict(stored)}, now "
                    f"{dict(self.old)}){remedy}"
                )
            return
        for split in ("train", "val"):
            then, now = Fingerprint(**stored[split]), self.prints[split]
            if then == now:
                continue
            jets = f"{SPLIT_NAMES[split]} jets"
            if then.same_jets(now):
                raise InputError(f"{refused}its {now.jets:,} {jets} come in another order{remedy}")
            raise InputError(
                f"{refused}its jets are not those it began with (then {then.jets:,} {jets} with "
                f"fingerprint {then.content}, now {now.jets:,} with {now.content}){remedy}"
            )


@dataclass(frozen=True)
class Overlap:
    """Number of jets that are also training jets.

    Parameters
    ----------
    jets : int
        Number of such jets; estimated if there are many training jets.
    is_exact : bool
        True if the number is not estimated.
    """

    jets: int
    is_exact: bool

    @classmethod
    def of(cls, keys: Keys, stored: Mapping[str, Any]) -> Overlap:
        """Overlap of the jets with these keys (B,) with the training jets of a checkpoint."""
        sketch = stored["sketch"].numpy().view(np.uint64)
        numbers = shuffled(keys, "sketch")
        among = np.isin(numbers, sketch)
        if len(sketch) == stored["num_keys"]:
            return cls(int(among.sum()), True)
        share = among.sum() / len(sketch)
        return cls(min(round(share * stored["num_keys"]), len(keys)), False)

    def __str__(self) -> str:
        return f"{self.jets:,}" if self.is_exact else f"about {self.jets:,}"


def stored_fingerprints(checkpoint: Mapping[str, Any]) -> dict[str, Fingerprint]:
    """Fingerprint of each split in the ``fingerprint`` of a checkpoint; none of old runs."""
    return {split: Fingerprint(**checkpoint[split]) for split in SPLIT_NAMES if split in checkpoint}
