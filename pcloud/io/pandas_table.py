"""HDF5 files in the format of pandas, which the Landscape sample has: reading and writing.

``DataFrame.to_hdf(format="table")`` creates one compound data set ``KEY/table`` with the fields
``index`` and ``values_block_N``, one per type of column. The names of the columns of a block are a
pickled list in an attribute. ``format="fixed"``, the default of pandas, creates one data set per
block and another one with the names.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from pcloud.errors import InputError
from pcloud.io.files import input_errors
from pcloud.io.hdf5_sources import check_storage
from pcloud.io.jets import FlatJets
from pcloud.io.table import PIECE_BYTES, Ragged, Source, Table, aligned_ranges

__all__ = ["FixedFrame", "LandscapeWriter", "TableFrame"]

_NUM_SLOTS = 200  # particle slots of a Landscape row
_TRUTH_COLUMNS = {
    "truth_E": "truthE",
    "truth_px": "truthPX",
    "truth_py": "truthPY",
    "truth_pz": "truthPZ",
}


class _Names(pickle.Unpickler):
    """Unpickler for lists of strings and numbers only, so that no code of a file is run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"the names need {module}.{name}")


class TableFrame(Table):
    """DataFrame written with ``format="table"``.

    Parameters
    ----------
    path : Path
        File, for the messages.
    group : h5py.Group
        Group of the frame.
    """

    def __init__(self, path: Path, group: h5py.Group) -> None:
        super().__init__(path)
        self._group = group
        with input_errors(path, "pandas table"):
            self._rows = group["table"]
            check_storage(path, "table", self._rows)
            self._places = self._find_columns()
            self._step = _aligned_step(self._rows)
        self.columns = {name: (len(self._rows),) for name in self._places}
        self._buffer = np.empty(0, dtype=self._rows.dtype)
        self._selections: dict[tuple[str, ...], tuple[str, slice | np.ndarray] | None] = {}

    def _find_columns(self) -> dict[str, tuple[str, int | None]]:
        """Field of each column of the frame, and the index in this field."""
        places: dict[str, tuple[str, int | None]] = {}
        dtype = self._rows.dtype
        for name in dtype.names[1:]:  # the first is the index
            if name.startswith("values_block_"):
                columns = _unpickle(self._rows.attrs[f"{name}_kind"])
                if not isinstance(columns, list) or (len(columns),) != dtype[name].shape:
                    raise InputError(f"{self.path}: the number of column names of {name} is wrong")
                places |= {str(column): (name, i) for i, column in enumerate(columns)}
            else:
                places[name] = (name, None)
        return places

    def read_columns(
        self, names: Sequence[str], start: int, stop: int
    ) -> dict[str, np.ndarray | Ragged]:
        """Rows `start` to `stop` as views of a buffer, which are valid until the next call."""
        rows = self._read_rows(start, stop)
        return {name: self._column(rows, name) for name in names}

    def read(
        self, sources: Sequence[Source], start: int, stop: int
    ) -> dict[Source, np.ndarray | Ragged]:
        """Rows `start` to `stop` as views of a buffer; all slots are one strided view."""
        rows = self._read_rows(start, stop)
        return {
            s: self._column(rows, s) if isinstance(s, str) else self._slots(rows, s)
            for s in sources
        }

    def ranges(self, sources: Sequence[Source], start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Divide the rows at the chunks of the file, which are decompressed as a whole."""
        return aligned_ranges(start, stop, self._step)

    def close(self) -> None:
        """Close the file."""
        self._group.file.close()

    def _read_rows(self, start: int, stop: int) -> np.ndarray:
        if len(self._buffer) < stop - start:
            self._buffer = np.empty(stop - start, dtype=self._rows.dtype)
        rows = self._buffer[: stop - start]
        if stop > start:
            with input_errors(self.path, "pandas table"):
                self._rows.read_direct(rows, np.s_[start:stop])
        return rows

    def _column(self, rows: np.ndarray, name: str) -> np.ndarray:
        block, index = self._places[name]
        return rows[block] if index is None else rows[block][:, index]

    def _slots(self, rows: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        if names not in self._selections:
            self._selections[names] = self._selection(names)
        selection = self._selections[names]
        if selection is None:
            return np.stack([self._column(rows, name) for name in names], axis=1)
        block, index = selection
        return rows[block][:, index]

    def _selection(self, names: tuple[str, ...]) -> tuple[str, slice | np.ndarray] | None:
        """Block of all slots and their indices in it, as a slice if they are equally spaced."""
        blocks = {self._places[name][0] for name in names}
        index = [self._places[name][1] for name in names]
        if len(blocks) > 1 or None in index:
            return None
        indices = np.array(index)
        spacing = np.unique(np.diff(indices))
        if len(spacing) == 1 and spacing[0] > 0:
            return blocks.pop(), slice(indices[0], indices[-1] + 1, spacing[0])
        return blocks.pop(), indices


class FixedFrame(Table):
    """DataFrame written with ``format="fixed"``: one array per type of column.

    Parameters
    ----------
    path : Path
        File, for the messages.
    group : h5py.Group
        Group of the frame.
    """

    def __init__(self, path: Path, group: h5py.Group) -> None:
        super().__init__(path)
        self._group = group
        self._places: dict[str, tuple[h5py.Dataset, int]] = {}
        with input_errors(path, "pandas frame"):
            for i in range(int(group.attrs["nblocks"])):
                values = group[f"block{i}_values"]
                check_storage(path, f"block{i}_values", values)
                for j, name in enumerate(group[f"block{i}_items"][:]):
                    self._places[name.decode() if isinstance(name, bytes) else str(name)] = (
                        values,
                        j,
                    )
            self.columns = {name: (len(values),) for name, (values, _) in self._places.items()}

    def read_columns(
        self, names: Sequence[str], start: int, stop: int
    ) -> dict[str, np.ndarray | Ragged]:
        """Rows `start` to `stop` of some columns; each block is read once."""
        blocks: dict[str, np.ndarray] = {}
        columns: dict[str, np.ndarray | Ragged] = {}
        for name in names:
            values, j = self._places[name]
            if values.name not in blocks:
                with input_errors(self.path, "pandas frame"):
                    blocks[values.name] = values[start:stop]
            columns[name] = blocks[values.name][:, j]
        return columns

    def close(self) -> None:
        """Close the file."""
        self._group.file.close()


def _unpickle(attribute: Any) -> Any:
    if not isinstance(attribute, bytes):
        raise InputError("the names of the columns are not in the format of pandas")
    pickled = bytes(attribute)
    # The unpickler reserves memory for the numbers of objects and the sizes that it finds.
    for code, argument, _ in pickletools.genops(pickled):
        is_place = code.name.endswith(("PUT", "GET"))
        if code.name == "BYTEARRAY8" or (is_place and int(argument or 0) > len(pickled)):
            raise InputError("the names of the columns are damaged")
    return _Names(io.BytesIO(pickled), encoding="latin1").load()


def _aligned_step(rows: h5py.Dataset) -> int:
    """Number of rows to read at a time: whole chunks, some megabytes."""
    chunk = rows.chunks[0] if rows.chunks else 1
    return chunk * max(1, round(PIECE_BYTES / (rows.dtype.itemsize * chunk)))


class LandscapeWriter:
    """Writer of the Landscape layout, which pandas can read, in chunks of jets.

    Columns that the jets do not have are omitted, such as labels or the true momentum. With
    checksums (fletcher32) damaged files are detected.

    Parameters
    ----------
    path : Path
        File to write.
    jets : FlatJets
        First jets, which define the columns and their types.
    classes : tuple of str
        Names of the classes, at most two.

    Raises
    ------
    InputError
        If there are more than two classes.
    """

    def __init__(self, path: Path, jets: FlatJets, classes: tuple[str, ...]) -> None:
        if len(classes) > 2:
            raise InputError(
                f"{path}: the Landscape layout has two classes, the jets have {len(classes)}: "
                "write .parquet or .npz"
            )
        has_truth = all(name in jets.jet for name in _TRUTH_COLUMNS)
        self._truth = list(_TRUTH_COLUMNS) if has_truth else []
        self._integers = {"ttv": "ttv", "label": "is_signal_new"}
        self._integers = {ours: name for ours, name in self._integers.items() if ours in jets.jet}
        floats = [f"{q}_{i}" for i in range(_NUM_SLOTS) for q in ("E", "PX", "PY", "PZ")]
        floats += [_TRUTH_COLUMNS[name] for name in self._truth]
        self._blocks: dict[str, tuple[list[str], np.dtype]] = {
            "values_block_0": (floats, jets.p4[0].dtype)
        }
        if self._integers:
            self._blocks["values_block_1"] = (list(self._integers.values()), np.dtype(np.int64))
        self.left_out = [
            name
            for name in (*jets.particle, *jets.jet, *jets.collections)
            if name not in self._truth and name not in self._integers
        ]
        self._path = path
        self._output = _Output(path, "w+b")
        self._file = h5py.File(self._output, "w")
        self._rows = self._create()

    def _create(self) -> h5py.Dataset:
        _set_attributes(
            self._file, CLASS="GROUP", TITLE="", VERSION="1.0", PYTABLES_FORMAT_VERSION="2.1"
        )
        group = self._file.create_group("table")
        fields: list[tuple[str, np.dtype, tuple[int, ...]]] = [("index", np.dtype(np.int64), ())]
        fields += [(name, dtype, (len(c),)) for name, (c, dtype) in self._blocks.items()]
        rows = group.create_dataset(
            "table",
            shape=(0,),
            maxshape=(None,),
            dtype=np.dtype(fields),
            chunks=(256,),
            fletcher32=True,
            **hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE),
        )
        columns = [name for names, _ in self._blocks.values() for name in names]
        _set_attributes(
            group,
            CLASS="GROUP",
            TITLE="",
            VERSION="1.0",
            data_columns=[],
            encoding="UTF-8",
            errors="strict",
            index_cols=[(0, "index")],
            info={1: {"names": [None], "type": "Index"}, "index": {}},
            levels=1,
            nan_rep="nan",
            non_index_axes=[(1, columns)],
            pandas_type="frame_table",
            pandas_version="0.15.2",
            table_type="appendable_frame",
            values_cols=list(self._blocks),
        )
        _set_attributes(rows, CLASS="TABLE", TITLE="", VERSION="2.7", NROWS=0, index_kind="integer")
        for i, name in enumerate(("index", *self._blocks)):
            _set_attributes(rows, **{f"FIELD_{i}_NAME": name, f"FIELD_{i}_FILL": 0})
        for name, (names, dtype) in self._blocks.items():
            kind = {f"{name}_kind": names, f"{name}_dtype": dtype.name, f"{name}_meta": None}
            _set_attributes(rows, **kind)
        return rows

    def write(self, jets: FlatJets) -> None:
        """Append jets."""
        counts = jets.counts
        num_jets = len(jets)
        if num_jets and counts.max() > _NUM_SLOTS:
            longest = int(counts.argmax())
            raise InputError(
                f"{self._path}: jet {len(self._rows) + longest} has {counts[longest]} particles, "
                f"the Landscape layout has {_NUM_SLOTS} slots: write .parquet or .npz"
            )
        if "label" in jets.jet and not np.isin(jets.jet["label"], (0, 1)).all():
            raise InputError(f"{self._path}: the Landscape layout has only the labels 0 and 1")
        rows = np.zeros(num_jets, dtype=self._rows.dtype)
        done = len(self._rows)
        rows["index"] = np.arange(done, done + num_jets)
        slots = np.arange(_NUM_SLOTS) < counts[:, None]
        for i, component in enumerate(jets.p4):
            rows["values_block_0"][:, i : 4 * _NUM_SLOTS : 4][slots] = component
        for i, name in enumerate(self._truth):
            rows["values_block_0"][:, 4 * _NUM_SLOTS + i] = jets.jet[name]
        for i, name in enumerate(self._integers):
            rows["values_block_1"][:, i] = jets.jet[name]
        self._rows.resize((done + num_jets,))
        self._rows[done:] = rows
        self._rows.attrs["NROWS"] = np.int64(done + num_jets)
        self._output.check()

    def discard(self) -> None:
        """Close the unfinished file."""
        self._file.close()
        self._output.close()

    def close(self) -> None:
        """Close the file."""
        self.discard()
        self._output.check()


class _Output(io.FileIO):
    """File in which writing never fails at once: errors are raised by `check`.

    After a failure, nothing is written any more. The HDF5 library cannot close a file whose last
    bytes cannot be written, such as on a full disk: the process crashes when it ends.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all bytes, unless writing failed before."""
        view = memoryview(data).cast("B")
        try:
            done = 0
            while self.error is None and done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Change the size, unless writing failed before."""
        try:
            if self.error is None:
                return super().truncate(size)
        except OSError as error:
            self.error = error
        return size or 0

    def check(self) -> None:
        """Raise the error of the first write that failed."""
        if self.error is not None:
            raise self.error


def _set_attributes(node: h5py.Group | h5py.Dataset, **attributes: Any) -> None:
    """Set attributes as PyTables does: strings and numbers directly, everything else pickled."""
    for name, value in attributes.items():
        if isinstance(value, str):
            text = h5py.string_dtype("utf-8", max(1, len(value)))
            node.attrs[name] = np.array(value, dtype=text) if value else h5py.Empty(text)
        elif isinstance(value, int):
            node.attrs[name] = np.int64(value)
        else:
            node.attrs[name] = np.bytes_(pickle.dumps(value, protocol=0))
