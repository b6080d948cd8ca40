"""Entries of one size in memory, such as rows of a table or records: samples, data sets, loaders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from pcloud.batch import JetLoader
from pcloud.errors import InputError
from pcloud.keys import SPLIT_KEY, Fingerprint, Keys, labelled, row_keys
from pcloud.modality import Inputs

__all__ = ["Entries", "UniformDataset", "UniformLoader", "class_numbers"]

E = TypeVar("E", bound="Entries")

_NUM_SHOWN_WORDS = 8  # in an error message


@dataclass(frozen=True, eq=False, kw_only=True)
class Entries:
    """Labels, weights and targets of B entries; the base of tables and series.

    It can be indexed by slices, index arrays and masks, and by the name of a column, and has the
    attributes `fields`, `label` and `attrs` of an array of jets, which the training uses.

    Parameters
    ----------
    label : ndarray of int, shape (B,), optional
        True classes.
    weight : ndarray, shape (B,), optional
        Weights.
    targets : mapping of str to ndarray, each of shape (B,)
        Quantities to learn, NaN where an entry has none.
    kept : mapping of str to ndarray, each of shape (B,)
        Columns that are written beside the scores, such as the row in the file.
    attrs : dict
        Names of the classes as ``"classes"``, and what the reader knows of the file.

    Raises
    ------
    InputError
        If the numbers of labels, weights, targets and values differ.
    """

    label: NDArray[np.int64] | None = None
    weight: NDArray[np.float64] | None = None
    targets: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    kept: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", _Columns(self.targets))
        for name, kind in (("label", np.int64), ("weight", np.float64)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=kind))
        shapes = {**self.targets, "label": self.label, "weight": self.weight}
        for name, values in {**self._own_columns(), **shapes}.items():
            if values is not None and np.shape(values)[:1] != (len(self),):
                raise InputError(
                    f"{name!r} has the shape {np.shape(values)}, and the others {len(self):,} entries"
                )

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self: E, index: Any) -> Any:
        """Return a column by its name, or the entries of an index."""
        if isinstance(index, str):
            return self._column(index)
        parts = {
            f.name: _indexed(getattr(self, f.name), index)
            for f in fields(self)
            if f.name != "attrs"
        }
        return replace(self, **parts)

    def _own_columns(self) -> Mapping[str, NDArray[Any]]:
        """Columns of a subclass by name."""
        return {}

    def _column(self, name: str) -> Any:
        if name == "targets":
            return self.targets
        known = {**self._own_columns(), **self.kept, "label": self.label, "weight": self.weight}
        if known.get(name) is None:
            raise KeyError(name)
        return known[name]

    @property
    def fields(self) -> list[str]:
        """Names of the columns."""
        has = {"label": self.label is not None, "weight": self.weight is not None}
        has["targets"] = bool(self.targets)
        return [*self._own_columns(), *self.kept, *(name for name, found in has.items() if found)]

    def content(self) -> NDArray[np.generic]:
        """Values (B, ...) of the entries, without labels, weights and targets."""
        raise NotImplementedError

    def content_keys(self) -> Keys:
        """Keys (B,) from the values."""
        return row_keys(self.content())

    def keys(self) -> Keys:
        """Keys (B,) from the column ``split_key`` if it is there, else from the values."""
        if SPLIT_KEY in self.kept:
            return self.kept[SPLIT_KEY].astype(np.uint64)
        return self.content_keys()

    def hashes(self) -> Keys:
        """Hashes (B,) of the entries with labels, weights and targets."""
        keys = self.content_keys()
        parts = [self.weight, *(self.targets[name] for name in sorted(self.targets))]
        known = [part for part in parts if part is not None]
        if known:
            keys = keys ^ row_keys(np.stack(known, axis=1))
        return keys if self.label is None else labelled(keys, self.label)

    def fingerprint(self) -> str:
        """Number that identifies the entries, as 16 hexadecimal digits."""
        return Fingerprint.of(self.hashes()).content


class _Columns(dict[str, Any]):
    """Columns by name, with their names as ``fields``."""

    @property
    def fields(self) -> list[str]:
        return list(self)


class UniformDataset:
    """Inputs of entries in memory, the counterpart of :class:`pcloud.JetDataset`.

    Parameters
    ----------
    x : Tensor, shape (B, ...), float32
        Inputs of a network.
    sample : Entries
        Their labels, weights and targets.
    inputs : Inputs
        Description of the inputs.

    Attributes
    ----------
    x : Tensor, shape (B, ...)
        Inputs.
    y : Tensor or None, shape (B,), int64
        Labels.
    weight : Tensor or None, shape (B,), float32
        Weights.
    targets : Tensor or None, shape (B, T)
        Quantities to learn.
    teacher : Tensor or None, shape (B, C)
        Logits of another network, for distillation.
    feature_set : Inputs
        Description of the inputs.
    """

    def __init__(self, x: Tensor, sample: Entries, inputs: Inputs) -> None:
        self.x = x
        self.y = None if sample.label is None else torch.from_numpy(sample.label)
        self.weight = None if sample.weight is None else torch.from_numpy(sample.weight).float()
        self.targets: Tensor | None = None
        self.teacher: Tensor | None = None
        self.feature_set = inputs

    def __len__(self) -> int:
        return len(self.x)

    def set_targets(self, targets: Tensor) -> None:
        """Replace the targets (B, T)."""
        self.targets = targets

    def to_bytes(self) -> bytes:
        """Content of the data set as bytes, for a checksum."""
        labels = b"" if self.y is None else self.y.numpy().tobytes()
        return self.x.numpy().tobytes() + labels


class UniformLoader(JetLoader):
    """Loader of batches of a :class:`UniformDataset`, the counterpart of `JetLoader`."""

    data: UniformDataset  # type: ignore[assignment]

    def as_dataset(self, data: Any) -> Any:
        """Return the data set."""
        return data

    def collate(self, index: Tensor) -> Data:
        """Batch with ``x (B, ...)``, and ``y``, ``weight``, ``targets``, ``teacher`` where known."""
        data = self.data
        known = {n: getattr(data, n) for n in ("y", "weight", "targets", "teacher")}
        further = {name: values[index] for name, values in known.items() if values is not None}
        return Data(x=data.x[index], **further)


def class_numbers(
    values: NDArray[Any], classes: Sequence[str] | Mapping[str, Any] | None, name: str
) -> tuple[NDArray[np.int64], list[str] | None]:
    """Class (B,) of each entry from a column of numbers or words, and the names of the classes.

    Parameters
    ----------
    values : ndarray, shape (B,)
        The column.
    classes : sequence of str or mapping of str to value, optional
        Names of the classes in the order of their numbers, or with the value or values that belong
        to each. By default words are sorted, and numbers are class numbers.
    name : str
        Name of the column, for messages.

    Raises
    ------
    InputError
        If a value belongs to no class, or a number is no whole number.
    """
    is_text = values.dtype.kind == "U"
    if classes is None and not is_text:
        return _whole(values, name), None
    if classes is None:
        found, index = np.unique(values, return_inverse=True)
        return index.astype(np.int64), found.tolist()
    if not isinstance(classes, Mapping):
        classes = {c: c if is_text else i for i, c in enumerate(classes)}
    label = np.full(len(values), -1, dtype=np.int64)
    for i, value in enumerate(classes.values()):
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, str) != is_text:
                kind = "words" if is_text else "numbers"
                raise InputError(f"label {name!r} holds {kind}, and a class has the value {one!r}")
            label[values == one] = i
    if (label < 0).any():
        others = np.unique(values[label < 0]).tolist()
        shown = ", ".join(map(repr, others[:_NUM_SHOWN_WORDS]))
        number = int((label < 0).sum())
        raise InputError(
            f"label {name!r}: {number:,} of {len(label):,} entries are in none of the classes "
            f"{', '.join(classes)}, with the values {shown}"
        )
    return label, list(classes)


def _whole(values: NDArray[Any], name: str) -> NDArray[np.int64]:
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    bad = np.flatnonzero(whole != values)
    if len(bad):
        raise InputError(
            f"label {name!r} is {values[bad[0]]:g} in row {bad[0]}, which is no class number: a "
            "quantity is learned as a target (targets of the schema, --objective)"
        )
    return whole


def _indexed(value: Any, index: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: column[index] for name, column in value.items()}
    return None if value is None else value[index]
