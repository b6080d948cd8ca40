"""Checked labels and scores of test jets, and the file in which they are stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from pcloud.errors import InputError, UnknownNameError
from pcloud.run_files import SCORES_FILE, atomic_path, file_errors
from pcloud.stored_values import Names
from pcloud.text import for_terminal
from pcloud.validation import checked
from pcloud.words import number_of

PREFIX = "score_"
WEIGHT = "weight"

REASON = "reason"
"""Column of the reason why a jet has no scores; missing where it has."""

_ORIGIN = b"origin"


@dataclass(frozen=True)
class Scores:
    """Scores of labelled jets.

    Parameters
    ----------
    labels : ndarray of int, shape (B,)
        True class of each jet.
    values : ndarray of float, shape (B,) or (B, C)
        Score of the signal, or the probability of each class.
    classes : tuple of str
        Names of the classes, in the order of the labels.
    weights : ndarray of float, shape (B,), optional
        Weights of the jets; None where all are 1.
    noun : str
        Plural noun of what is scored, for messages.

    Examples
    --------
    >>> scores = Scores.from_arrays([0, 1, 1], [0.2, 0.9, 0.4], classes=("qcd", "top"))
    >>> len(scores.labels), scores.classes
    (3, ('qcd', 'top'))
    """

    labels: NDArray[np.int64]
    values: NDArray[np.floating]
    classes: tuple[str, ...]
    weights: NDArray[np.float64] | None = None
    noun: str = "jets"

    @classmethod
    def from_arrays(
        cls,
        labels: ArrayLike,
        values: ArrayLike,
        classes: Sequence[str] | None = None,
        weights: ArrayLike | None = None,
        noun: str = "jets",
    ) -> Scores:
        """Check the arrays of the caller and convert them.

        Two or more columns must be probabilities. Logits are refused, because their accuracy
        would be wrong. A single column may be any discriminant. Weights may be negative, but those
        of a class must have a positive sum.

        Raises
        ------
        InputError
            If lengths differ, a score is NaN or infinite, a row of `values` is not a
            probability, a label is out of range, fewer than two classes are present, or the weights
            cannot be used.
        """
        scores = _check_values(values)
        names = _check_classes(classes, 2 if scores.ndim == 1 else scores.shape[1])
        checked_labels = _check_labels(labels, len(scores), names)
        if weights is not None:
            weights = _check_weights(weights, checked_labels, names)
        return cls(checked_labels, scores, names, weights, noun)

    def __repr__(self) -> str:
        """Number of jets of each class."""
        jets = ", ".join(f"{n:,} {c}" for n, c in zip(self.counts, self.classes, strict=True))
        weighted = "" if self.weights is None else ", weighted"
        return for_terminal(f"Scores of {self.number_of(len(self.labels))}: {jets}{weighted}")

    def number_of(self, number: int) -> str:
        """A number of jets, images or events, with its noun."""
        return number_of(number, self.noun.removesuffix("s"))

    def weights_of(self, jets: NDArray[Any]) -> NDArray[np.float64] | None:
        """Weights of the jets with these indices, or in this mask; None where all are 1."""
        return None if self.weights is None else self.weights[jets]

    def refuse_negative_weights(self, what: str) -> None:
        """Check that no weight is negative.

        Raises
        ------
        InputError
            If there is one; `what` names what cannot be computed with it.
        """
        if self.weights is None or not (negative := self.weights < 0).any():
            return
        raise InputError(
            f"{what} needs weights that are not negative, and {self.number_of(int(negative.sum()))} "
            f"of {len(negative):,} have a negative weight"
        )

    @property
    def counts(self) -> NDArray[np.integer]:
        """Number of jets of each class, shape (C,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @property
    def are_probabilities(self) -> bool:
        """True if all scores lie in [0, 1], so that they predict a class."""
        return self.values.ndim == 2 or bool(np.all((self.values >= 0) & (self.values <= 1)))

    def index(self, name: str | int) -> int:
        """Index of a class given by name or by index.

        Raises
        ------
        UnknownNameError
            If there is no class of this name.
        InputError
            If there is no class with this index.
        """
        if isinstance(name, str):
            if name not in self.classes:
                raise UnknownNameError("class", name, self.classes)
            return self.classes.index(name)
        if not 0 <= name < len(self.classes):
            raise InputError(f"no class {name}: classes are 0 to {len(self.classes) - 1}")
        return int(name)

    def discriminant(self, signal: int, background: int | None = None) -> NDArray[np.floating]:
        """Score that ranks the jets for a signal, against all others or one background.

        A single column is the score of the signal, for any signal class. Against one of several
        backgrounds the score is s / (s + b), and 0.5 where both probabilities are 0.
        """
        if self.values.ndim == 1:
            return self.values
        if background is None or len(self.classes) == 2:
            return self.values[:, signal]
        s, b = self.values[:, [signal, background]].astype(np.float64).T
        return np.divide(s, s + b, out=np.full(len(s), 0.5), where=s + b > 0)

    def predicted(self, signal: int | None = None) -> NDArray[np.integer]:
        """Most probable class of each jet; the first one of equally probable classes.

        A single column is the score of `signal`, by default the second class. A jet with a score
        above 0.5 is predicted to be signal.
        """
        if self.values.ndim == 2:
            return self.values.argmax(axis=1)
        target = 1 if signal is None else signal
        return np.where(self.values > 0.5, target, 1 - target)


def weights_of_jets(jets: Any) -> NDArray[np.float64] | None:
    """Column ``weight`` (B,) of jets, images or other data; None without one."""
    return np.asarray(jets[WEIGHT], dtype=np.float64) if WEIGHT in jets.fields else None


class ScoresWriter:
    """Parquet file of scores, written a part at a time, that appears when it is complete.

    Columns ``score_<class>``, and ``label`` and ``weight`` where the jets have them; and columns of
    other predictions, if there are any.

    Parameters
    ----------
    path : path
        File to write.
    classes : sequence of str
        Names of the classes.
    origin : dict, optional
        Plain values that identify the network and the jets; see :func:`read_origin`.
    metadata : mapping of bytes to bytes, optional
        Description of other predictions.
    """

    def __init__(
        self,
        path: str | Path,
        classes: Sequence[str],
        origin: Mapping[str, Any] | None = None,
        metadata: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self.classes = list(classes)
        self._metadata: dict[bytes, Any] = dict(metadata or {})
        if self.classes or not self._metadata:
            self._metadata[b"classes"] = json.dumps(self.classes)
        if origin is not None:
            self._metadata[_ORIGIN] = json.dumps(origin)
        self._file = atomic_path(path)
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> ScoresWriter:
        self._path = self._file.__enter__()
        return self

    def write(
        self,
        scores: NDArray[np.floating],
        labels: NDArray[np.integer] | None,
        weights: NDArray[np.floating] | None = None,
        others: Mapping[str, Any] | None = None,
        predicted: Mapping[str, Any] | None = None,
    ) -> None:
        """Add rows: ``scores (B, C)``, ``labels (B,)`` or None, ``weights (B,)`` or None.

        Labels of no class are negative and stored as missing. `others` are further columns, such as
        the row of each jet in its file; columns of the same name are not replaced. `predicted` are
        columns of other predictions, which come last.
        """
        own: dict[str, Any] = {}
        if labels is not None:
            own["label"] = pa.array(labels, mask=np.asarray(labels) < 0)
        own |= {} if weights is None else {WEIGHT: weights}
        own |= {PREFIX + name: scores[:, i] for i, name in enumerate(self.classes)}
        own |= predicted or {}
        columns = {n: c for n, c in (others or {}).items() if n not in own}
        if others:
            own[REASON] = pa.nulls(len(scores), pa.string())
        self._write(pa.table({**columns, **own}))

    def write_left_out(self, others: Mapping[str, Any], reasons: Sequence[str]) -> None:
        """Add rows of jets without scores, after rows of jets with scores and the same columns.

        Parameters
        ----------
        others : mapping of str to array
            Columns that say which jets they are.
        reasons : sequence of str
            Reason why each has no scores.
        """
        assert self._writer is not None
        known = {**others, REASON: pa.array(reasons, pa.string())}
        columns = [
            pa.array(known[field.name]).cast(field.type)
            if field.name in known
            else pa.nulls(len(reasons), field.type)
            for field in self._writer.schema
        ]
        self._write(pa.table(columns, schema=self._writer.schema))

    def _write(self, table: pa.Table) -> None:
        table = table.replace_schema_metadata(self._metadata)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failure: Exception | None = None
        try:
            if self._writer is None and error is None:
                self.write(np.empty((0, len(self.classes))), None)
            if self._writer is not None:
                self._writer.close()
        except Exception as closing:  # a full disk
            failure = closing
        cause = error or failure
        self._file.__exit__(type(cause) if cause else None, cause, trace)
        if failure is not None and error is None:
            raise failure


def read_scores(path: str | Path) -> Scores:
    """Read the Parquet file of scores of a run or of ``pcloud predict``.

    It has the columns ``score_<class>``, in the order of the classes, ``label`` and perhaps
    ``weight``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If the file is not such a table, or has no labels.
    """
    path = Path(path)
    table = read_parquet(path)
    if REASON in table.column_names:
        table = table.filter(table[REASON].is_null())
    names = [name.removeprefix(PREFIX) for name in table.column_names if name.startswith(PREFIX)]
    if not names and any(name.startswith("pred_") for name in table.column_names):
        raise InputError(f"{path} has predictions of targets and no scores of classes")
    if not names:
        raise InputError(
            f"{path} has no column {PREFIX}<class>, only {', '.join(table.column_names)}: "
            "not a file of scores"
        )
    stored = (table.schema.metadata or {}).get(b"classes")
    if stored is not None and (classes := _class_names(path, stored)) != names:
        raise InputError(f"{path}: columns {names} are not its classes {classes}")
    if "label" not in table.column_names:
        raise InputError(f"{path} has no column label: scores of unlabelled jets have no metrics")
    if table["label"].null_count:
        raise InputError(f"{path}: {table['label'].null_count} jets have no label")
    try:
        values = np.stack([table[PREFIX + name].to_numpy() for name in names], axis=1)
        weights = table[WEIGHT].to_numpy() if WEIGHT in table.column_names else None
        return Scores.from_arrays(table["label"].to_numpy(), values, names, weights)
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise InputError(f"{path}: {error}") from None


def has_classes(path: str | Path) -> bool:
    """Return whether a file of scores has scores of classes, and not of targets alone."""
    return any(name.startswith(PREFIX) for name in read_parquet(Path(path)).column_names)


def read_origin(path: str | Path) -> dict[str, Any] | None:
    """Origin of the scores in a file, as given to :class:`ScoresWriter`; None if not known."""
    try:
        stored = (pq.read_schema(path).metadata or {}).get(_ORIGIN)
        origin = None if stored is None else json.loads(stored)
    except (pa.ArrowException, OSError, ValueError, RecursionError):
        return None
    return origin if isinstance(origin, dict) else None


def _class_names(path: Path, stored: bytes) -> list[str]:
    with file_errors(path, "names of classes", "write it anew with pcloud evaluate"):
        return checked(Names, json.loads(stored))


def read_parquet(path: Path) -> pa.Table:
    """Table of a Parquet file of a run, whose columns have different names.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    InputError
        If it is no Parquet file, or is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give its {SCORES_FILE}")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise InputError(f"{path} is not a Parquet file, or is truncated: {error}") from None
    if len(set(table.column_names)) < table.num_columns:
        raise InputError(f"{path} has several columns of one name: {table.column_names}")
    return table


def _check_values(values: ArrayLike) -> NDArray[np.floating]:
    scores = _array(values)
    if scores.ndim not in (1, 2) or (scores.ndim == 2 and scores.shape[1] < 2):
        raise InputError(
            f"scores must have shape (B,) or (B, C) with C of 2 or more, not {scores.shape}"
        )
    if len(scores) == 0:
        raise InputError("there are no scores: nothing to evaluate")
    if scores.dtype.kind not in "fiub":
        raise InputError(f"scores must be real numbers, not {scores.dtype}")
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
    good = np.isfinite(scores).reshape(len(scores), -1).all(axis=1)
    if not good.all():
        raise InputError(f"{_first(~good)} NaN or infinite scores")
    if scores.ndim == 2:
        inside = ((scores >= -1e-6) & (scores <= 1 + 1e-6)).all(axis=1)
        bad = ~inside | (np.abs(scores.sum(axis=1, dtype=np.float64) - 1) > 0.01)
        if bad.any():
            raise InputError(
                f"{_first(bad)} scores that are not probabilities adding up to 1, "
                f"the first {scores[bad.argmax()]}: take the softmax of logits before"
            )
    return scores


def _check_classes(classes: Sequence[str] | None, number: int) -> tuple[str, ...]:
    if classes is None:
        two = ("background", "signal")
        return two if number == 2 else tuple(f"class {i}" for i in range(number))
    names = tuple(str(name) for name in classes)
    if len(names) != number:
        raise InputError(
            f"{number_of(len(names), 'class name')} {names} for scores of {number_of(number, 'class', 'classes')}"
        )
    if len(set(names)) < len(names):
        raise InputError(f"class names {names} repeat")
    return names


def _check_labels(labels: ArrayLike, number: int, classes: tuple[str, ...]) -> NDArray[np.int64]:
    array = _array(labels)
    if array.ndim != 1:
        raise InputError(f"labels must have shape (B,), not {array.shape}")
    if len(array) != number:
        raise InputError(f"{len(array)} labels for {number} scores")
    if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and np.any(array % 1 != 0)):
        raise InputError(f"labels must be whole numbers, the index of the class, not {array[:3]}")
    outside = (array < 0) | (array >= len(classes))
    if outside.any():
        raise InputError(
            f"{_first(outside)} labels outside 0 to {len(classes) - 1}, "
            f"the first {array[outside.argmax()]}"
        )
    if array.min() == array.max():
        raise InputError(
            f"all {number} jets are of class {classes[int(array[0])]!r}: telling classes apart "
            "needs jets of two or more"
        )
    return array.astype(np.int64)


def _check_weights(
    weights: ArrayLike, labels: NDArray[np.int64], classes: tuple[str, ...]
) -> NDArray[np.float64] | None:
    """Weights (B,), or None where all are 1."""
    array = _array(weights)
    if array.shape != labels.shape:
        raise InputError(f"weights must have shape ({len(labels)},), not {array.shape}")
    if array.dtype.kind not in "fiub":
        raise InputError(f"weights must be real numbers, not {array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"{_first(~np.isfinite(array))} NaN or infinite weights")
    sums = np.bincount(labels, array, len(classes))
    for name, total, number in zip(classes, sums, np.bincount(labels), strict=False):
        if number and not total > 0:
            raise InputError(
                f"the weights of the {number_of(int(number), 'jet')} of class {name!r} have the sum "
                f"{total:.6g}: it must be positive"
            )
    return None if np.all(array == 1) else array


def _array(values: ArrayLike) -> NDArray[Any]:
    if hasattr(values, "detach"):  # a torch tensor, perhaps with a gradient or on a GPU
        values = values.detach().cpu()
    return np.asarray(values)


def _first(bad: NDArray[np.bool_]) -> str:
    """Number and first index of the bad jets: ``"3 jets, from jet 17 on, have"``."""
    number = int(bad.sum())
    where = f"jet {int(bad.argmax())} has"
    return where if number == 1 else f"{number} jets, from {where.removesuffix(' has')} on, have"
