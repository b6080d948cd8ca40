"""ROOT files, read with uproot."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import awkward as ak
import numpy as np
import uproot
from uproot.models.RNTuple import Model_ROOT_3a3a_RNTuple, RField
from uproot.reading import ReadOnlyKey

from pcloud.errors import InputError, UnknownNameError
from pcloud.io.baskets import BasketFile, UnusualBasketError, check_size, has_plain_baskets
from pcloud.io.files import input_errors
from pcloud.io.rntuple import check_envelopes, check_pages, form_columns
from pcloud.io.table import Ragged, Shape, Source, Table

__all__ = ["RootTree", "tree_names"]

_MIN_RANGE_ROWS = 5_000  # jets read at a time
_MAX_RANGE_ROWS = 25_000

_MAX_LISTS = 2  # lists in lists: events, jets, particles

_MAX_THREADS = 4


class RootTree(Table):
    """TTree or RNTuple of a ROOT file.

    Parameters
    ----------
    path : Path
        File.
    tree : str, optional
        Name of the tree; the default is the only tree, or the one with the name ``tree``.

    Raises
    ------
    UnknownNameError
        If there is no such tree.
    InputError
        If the file is damaged, contains no tree, or contains several and `tree` is not given.
    """

    noun = "branch"

    def __init__(self, path: Path, tree: str | None) -> None:
        super().__init__(path)
        with input_errors(path, "ROOT file"):
            self._file = _open(path)
            self._baskets = BasketFile(path)
        try:
            if self._file.file.fEND > path.stat().st_size:
                raise InputError(
                    f"{path}: the ROOT file is truncated: it has {path.stat().st_size} of "
                    f"{self._file.file.fEND} bytes"
                )
            with input_errors(path, "ROOT file"):
                name = self._choose(tree)
                _check_key(self._file.key(name))
                self._tree = self._file[name]
                self._is_rntuple = isinstance(self._tree, Model_ROOT_3a3a_RNTuple)
                if self._is_rntuple:
                    check_envelopes(self._tree)
                rows = int(self._tree.num_entries)
                self._forms: dict[str, ak.forms.Form] = {}
                self._places: dict[str, tuple[str, tuple[str, ...]]] = {}  # branch, fields
                for name, branch in self._tree.items(recursive=True):
                    self._add(name, branch, rows)
                self._ends = _basket_ends(self._tree, self.columns)
        except BaseException:
            self.close()
            raise
        self._lock = threading.Lock()  # uproot reads with one thread
        self.threads = 0 if self._is_rntuple else min(_MAX_THREADS, os.cpu_count() or 1)

    def _add(self, name: str, branch: uproot.TBranch | RField, rows: int) -> None:
        """Add a branch to the columns, or to the unreadable ones with the reason."""
        try:
            form = _form(branch)
        except Exception as error:  # of one branch; the others may be readable
            self.unreadable[name] = f"uproot does not know its type ({_first_line(error)})"
            return
        leaves = [] if form is None else list(_leaves(form))
        if isinstance(branch, RField):
            if branch.fields and any(fields for fields, _ in leaves):
                return  # a record, whose fields follow with names of their own
            leaves = [((), leaf) for _, leaf in leaves]
        is_readable = False
        for fields, leaf in leaves:
            inner = _inner_shape(leaf)
            if inner is not None and inner.count(None) <= _MAX_LISTS:
                column = ".".join((name, *fields))
                self._forms[column] = leaf
                self._places[column] = (name, fields)
                self.columns[column] = (rows, *inner)
                is_readable = True
        if not is_readable:
            kind = getattr(branch, "typename", None) or "unknown"
            self.unreadable[name] = f"its type, {kind}, is not a number or a list of numbers"

    def _choose(self, tree: str | None) -> str:
        trees = _tree_names(self._file)
        if tree is not None:
            if tree not in trees:
                raise UnknownNameError("tree", tree, trees, where=str(self.path))
            return tree
        if len(trees) == 1 or "tree" in trees:
            return "tree" if "tree" in trees else trees[0]
        if not trees:
            raise InputError(f"{self.path}: contains no tree")
        raise InputError(
            f"{self.path}: contains the trees {', '.join(trees)}; choose one with tree= in the schema"
        )

    def read_columns(
        self, names: Sequence[str], start: int, stop: int
    ) -> dict[str, np.ndarray | Ragged]:
        """Rows `start` to `stop` of some branches, vectors as `Ragged`, others as arrays."""
        if start == stop:  # uproot would decompress a basket without need
            empty = {name: self._forms[name].length_zero_array() for name in names}
            return {name: _to_numpy(array) for name, array in empty.items()}
        if self._is_rntuple:
            with input_errors(self.path, "RNTuple"):
                forms = [self._forms[name] for name in names]
                check_pages(self._tree, form_columns(forms), start, stop)
        arrays: dict[str, ak.Array] = {}
        columns = {}
        for name in names:
            branch, fields = self._places[name]
            with input_errors(self.path, f"branch {name!r}"):
                plain = None if fields else self._plain(branch, start, stop)
                if plain is not None:
                    columns[name] = plain
                    continue
                if branch not in arrays:
                    arrays[branch] = self._read_branch(branch, start, stop)
                array = arrays[branch]
                columns[name] = _to_numpy(array[fields] if fields else array)
        return columns

    def _plain(self, name: str, start: int, stop: int) -> np.ndarray | Ragged | None:
        """Rows of a branch of numbers or lists of numbers, or None if uproot has to read it."""
        branch = self._tree[name]
        if self._is_rntuple or not has_plain_baskets(branch):
            return None
        try:
            return self._baskets.read(branch, start, stop)
        except UnusualBasketError:
            return None

    def _read_branch(self, name: str, start: int, stop: int) -> ak.Array:
        branch = self._tree[name]
        with self._lock:
            if not self._is_rntuple:
                _check_baskets(branch, start, stop)
            return branch.array(entry_start=start, entry_stop=stop)

    def ranges(self, sources: Sequence[Source], start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Divide the rows where the baskets of all branches end; each is decompressed as a whole."""
        while start < stop:
            later = self._ends[(self._ends >= start + _MIN_RANGE_ROWS) & (self._ends <= stop)]
            end = min(int(later[0]) if len(later) else stop, start + _MAX_RANGE_ROWS)
            yield start, end
            start = end

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._baskets.close()


def _open(path: Path) -> uproot.ReadOnlyDirectory:
    """Open a file without caches: each range is read once, and the memory is limited."""
    return uproot.open(path, array_cache=None, object_cache=None)


def tree_names(path: Path) -> dict[str, int]:
    """Names of the trees of a file, with their numbers of rows.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    with (
        input_errors(path, "ROOT file"),
        _open(path) as file,
    ):
        found = {}
        for name in _tree_names(file):
            _check_key(file.key(name))
            tree = file[name]
            if isinstance(tree, Model_ROOT_3a3a_RNTuple):
                check_envelopes(tree)
            found[name] = int(tree.num_entries)
        return found


def _tree_names(file: uproot.ReadOnlyDirectory) -> list[str]:
    kinds = file.classnames(cycle=False)
    return [n for n, kind in kinds.items() if kind in ("TTree", "TChain") or "RNTuple" in kind]


def _check_baskets(branch: uproot.TBranch, start: int, stop: int) -> None:
    """Check the sizes of the baskets of the rows `start` to `stop`, which have no checksum.

    Raises
    ------
    InputError
        If no compression could make a basket so small.
    """
    for i, (first, last) in enumerate(itertools.pairwise(branch.entry_offsets)):
        if first < stop and last > start and i < branch._num_normal_baskets:
            _check_key(branch.basket_key(i))


def _check_key(key: ReadOnlyKey) -> None:
    check_size(key.data_uncompressed_bytes, key.data_compressed_bytes)


def _form(branch: uproot.TBranch | RField) -> ak.forms.Form | None:
    """Form of the awkward array of a branch; None if there is none."""
    if isinstance(branch, RField):
        return branch.to_akform()[0].contents[0]
    try:
        if isinstance(branch.interpretation, uproot.AsGrouped):
            return None  # its parts are branches
        return branch.interpretation.awkward_form(branch.file)
    except (uproot.interpretation.objects.CannotBeAwkward, NotImplementedError):
        return None


def _leaves(form: ak.forms.Form) -> Iterator[tuple[tuple[str, ...], ak.forms.Form]]:
    """Yield the fields that lead to each column inside records, and its form without records.

    ``std::vector<TLorentzVector>`` has the columns ``fP.fX``, ``fP.fY``, ``fP.fZ`` and ``fE``.
    """
    if isinstance(form, ak.forms.RecordForm):
        for name, content in zip(form.fields, form.contents, strict=True):
            for fields, leaf in _leaves(content):
                yield (name, *fields), leaf
    elif isinstance(form, (ak.forms.ListOffsetForm, ak.forms.RegularForm)):
        for fields, leaf in _leaves(form.content):
            yield fields, form.copy(content=leaf)
    else:
        yield (), form


def _inner_shape(form: ak.forms.Form) -> Shape | None:
    """Shape of a row: () for a number, (None,) for a vector; None if it does not contain numbers."""
    shape: Shape = ()
    while not isinstance(form, ak.forms.NumpyForm):
        if isinstance(form, ak.forms.RegularForm):
            shape += (form.size,)
        elif isinstance(form, ak.forms.ListOffsetForm) and "__array__" not in form.parameters:
            shape += (None,)
        else:
            return None
        form = form.content
    return shape + form.inner_shape


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0][:120]


def _basket_ends(
    tree: uproot.TTree | Model_ROOT_3a3a_RNTuple, columns: Container[str]
) -> np.ndarray:
    """Rows at which the baskets of all readable branches, or the clusters, end."""
    if isinstance(tree, Model_ROOT_3a3a_RNTuple):
        return np.array([c.num_first_entry + c.num_entries for c in tree.cluster_summaries])
    offsets = tree.common_entry_offsets(filter_branch=lambda branch: branch.name in columns)
    return np.asarray(offsets, dtype=np.int64)


def _to_numpy(array: ak.Array) -> np.ndarray | Ragged:
    layout = ak.to_packed(array).layout
    offsets = []
    while isinstance(layout, (ak.contents.ListOffsetArray, ak.contents.ListArray)):
        layout = layout.to_ListOffsetArray64(True)
        offsets.append(layout.offsets.data)
        layout = layout.content
    content = ak.to_numpy(layout, allow_missing=False)
    if not offsets:
        return content
    return Ragged(offsets[0], content, *offsets[1:])
