"""Records of samples from npz, HDF5 and npy files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.arrays import read_arrays
from pcloud.io.files import Paths, expand_paths, input_errors
from pcloud.io.load import ENTRY
from pcloud.io.read import COLUMNS, ENTRY_FILE, FILES
from pcloud.series.series import Series
from pcloud.uniform import class_numbers
from pcloud.validation import hints, validate

__all__ = ["CRESST_SAMPLES", "SeriesSchema", "read_cresst", "read_schema_of_series", "read_series"]

CRESST_SAMPLES = 16_384
"""Number of samples of a record of the CRESST pulses."""

_RECORDS = ("records", "x", "X", "samples", "pulses", "waveforms", "data", "series", "features")
_LABELS = ("label", "labels", "y", "Y", "class")
_WEIGHTS = ("weight", "weights")


@dataclass(frozen=True, kw_only=True)
class SeriesSchema:
    """Arrays with a meaning.

    Parameters
    ----------
    records : str, optional
        Array (B, T) or (B, F, T) of the samples; by default one called records, x, samples, pulses,
        waveforms, data, series or features.
    label : str, optional
        Array (B,) of the classes, as numbers or words; by default one called label, labels, y or
        class.
    classes : list of str or mapping of str to value, optional
        Names of the classes in their order, or with their values in the label.
    weight : str, optional
        Array (B,) of the weights; by default one called weight or weights.
    targets : mapping of str to str
        Arrays (B,) of the quantities to learn, by their names.
    labels : str, optional
        File with the labels of an npy file; by default that beside it.
    """

    records: str | None = None
    label: str | None = None
    classes: list[str] | dict[str, Any] | None = None
    weight: str | None = None
    targets: dict[str, str] = field(default_factory=dict)
    labels: str | None = None


def read_schema_of_series(values: Any) -> SeriesSchema:
    """Schema from a mapping, as in a YAML file; None for the default.

    Raises
    ------
    InputError
        If it is no mapping, or a value cannot be used; `UnknownNameError` for a field that does not
        exist.
    """
    if values is None:
        return SeriesSchema()
    if isinstance(values, SeriesSchema):
        return values
    if not isinstance(values, dict):
        raise InputError(f"the schema of series is a mapping or a YAML file, not {values!r}")
    for name in values:
        if name not in hints(SeriesSchema):
            raise UnknownNameError("field of the schema of series", str(name), hints(SeriesSchema))
    return validate(SeriesSchema, values)


def read_series(
    paths: Paths, schema: Any = None, *, on_bad_record: str = "error", needs_truth: bool = True
) -> Series:
    """Read records from npz, HDF5 (``.h5``) or npy files.

    Parameters
    ----------
    paths : path, sequence of paths or mapping of str to paths
        Files or glob patterns; a mapping has the files of each class by its name.
    schema : SeriesSchema or mapping, optional
        Meaning of the arrays, with the fields of :class:`SeriesSchema`.
    on_bad_record : {"error", "drop"}
        Treatment of records with samples that are NaN or infinite.
    needs_truth : bool
        Refuse files without the arrays of label and weight that the schema names.

    Returns
    -------
    Series

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If a file cannot be read, lacks an array that the schema names, or has records of unequal
        length or with NaN; the message names file and record.
    """
    meaning = read_schema_of_series(schema)
    by_class = {None: paths} if not isinstance(paths, Mapping) else dict(paths)
    files = [(file, name) for name, part in by_class.items() for file in expand_paths(part)]
    parts: list[Series] = []
    labels: list[NDArray[Any] | None] = []
    for file, name in files:
        arrays = read_arrays(file, meaning.labels)
        with input_errors(file, "records"):
            part, label = _series(arrays, meaning, on_bad_record, needs_truth and name is None)
        if parts and part.records.shape[1:] != parts[0].records.shape[1:]:
            raise InputError(
                f"{file}: records of (channels, samples) = {part.records.shape[1:]}, those of "
                f"{files[0][0]} have {parts[0].records.shape[1:]}"
            )
        parts.append(part)
        labels.append(label)
    with input_errors(files[0][0], "label"):
        label, classes = _classes(labels, list(by_class), files, parts, meaning)
    return _joined(parts, label, classes, [file for file, _ in files])


def read_cresst(paths: Paths, labels: str | None = None) -> Series:
    """Read pulses of CRESST: records of 16 384 samples with the labels 0 and 1.

    Parameters
    ----------
    paths : path or sequence of paths
        npz, HDF5 or npy files, as for :func:`read_series`.
    labels : str, optional
        File with the labels of an npy file.

    Returns
    -------
    Series
        Records of the classes ``artefact`` (0) and ``pulse`` (1).

    Raises
    ------
    InputError
        If the records have another length, or there are other labels.

    References
    ----------
    Angloher et al., Towards an automated data cleaning with deep learning in CRESST,
    https://arxiv.org/abs/2211.00564.
    """
    found = read_series(paths, {"classes": ["artefact", "pulse"], "labels": labels})
    length = found.records.shape[-1]
    if length != CRESST_SAMPLES or found.label is None:
        raise InputError(
            f"records of {length:,} samples {'without' if found.label is None else 'with'} labels "
            f"are no pulses of CRESST, which have {CRESST_SAMPLES:,} samples and labels 0 and 1"
        )
    return found


def _series(
    arrays: dict[str, NDArray[Any]], schema: SeriesSchema, on_bad: str, needs_truth: bool
) -> tuple[Series, NDArray[Any] | None]:
    """Records of a file without their classes, and the values of the label."""
    numbers = {n: a for n, a in arrays.items() if a.dtype.kind in "fiub"}
    name = schema.records or next((n for n in _RECORDS if n in numbers), None)
    if name is None:
        wide = [n for n, a in numbers.items() if a.ndim in (2, 3)]
        name = wide[0] if len(wide) == 1 else ""
    if name not in numbers:
        raise UnknownNameError("array of records", name or "records", arrays)
    records = numbers[name]
    label = _named(arrays, schema.label, _LABELS, "label", needs_truth)
    weight = _named(numbers, schema.weight, _WEIGHTS, "weight", needs_truth)
    targets = {
        n: _named(numbers, a, (), "target", True).astype(np.float64)  # type: ignore[union-attr]
        for n, a in schema.targets.items()
    }
    for what, values in {**targets, "label": label, "weight": weight}.items():
        if values is not None and values.shape != (len(records),):
            raise InputError(
                f"{what} has the shape {values.shape}, and there are {len(records):,} records"
            )
    kept = {ENTRY: np.arange(len(records))}
    weights = None if weight is None else weight.astype(np.float64)
    series = Series(records=records, weight=weights, targets=targets, kept=kept)
    good = np.asarray(np.isfinite(series.records).all(axis=(1, 2)))
    if not good.all() and on_bad == "error":
        raise InputError(
            f"{int((~good).sum()):,} of {len(good):,} records have NaN or infinite samples, the "
            f"first is record {good.argmin()}; --on-bad-jet drop leaves them out"
        )
    series = Series(**{**vars(series), "attrs": {COLUMNS: list(arrays)}})
    return series[good], None if label is None else label[good]


def _named(
    arrays: dict[str, NDArray[Any]],
    name: str | None,
    usual: Sequence[str],
    what: str,
    required: bool,
) -> NDArray[Any] | None:
    if name is not None and name not in arrays and required:
        raise UnknownNameError(f"array of {what}", name, arrays)
    found = name or next((n for n in usual if n in arrays), "")
    values = arrays.get(found)
    return (
        np.char.decode(values, "utf-8")
        if values is not None and values.dtype.kind == "S"
        else values
    )


def _classes(
    labels: Sequence[NDArray[Any] | None],
    names: list[Any],
    files: Sequence[tuple[Path, Any]],
    parts: Sequence[Series],
    schema: SeriesSchema,
) -> tuple[NDArray[np.int64] | None, list[str] | None]:
    if names != [None]:
        of_files = [np.full(len(p), names.index(n)) for p, (_, n) in zip(parts, files, strict=True)]
        return np.concatenate(of_files), names
    known = [label for label in labels if label is not None]
    if len(known) < len(labels):
        return None, None
    return class_numbers(np.concatenate(known), schema.classes, schema.label or "label")


def _joined(
    parts: list[Series],
    label: NDArray[np.int64] | None,
    classes: list[str] | None,
    files: list[Path],
) -> Series:
    attrs = parts[0].attrs | ({} if classes is None else {"classes": classes})
    kept = {ENTRY: np.concatenate([part.kept[ENTRY] for part in parts])}
    if len(parts) > 1:
        attrs |= {FILES: list(map(str, files))}
        kept[ENTRY_FILE] = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    weights = [part.weight for part in parts if part.weight is not None]
    return Series(
        records=np.concatenate([part.records for part in parts]),
        label=label,
        weight=np.concatenate(weights) if len(weights) == len(parts) else None,
        targets={n: np.concatenate([p.targets[n] for p in parts]) for n in parts[0].targets},
        kept=kept,
        attrs=attrs,
    )
