"""Classes of jets from the label of a file: a number, words, one-hot columns, or expressions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from pcloud.errors import InputError
from pcloud.io.quantities import (
    Quantity,
    Rows,
    find_quantity,
    locate_quantity,
    without_missing,
)
from pcloud.io.schema import JetSchema
from pcloud.io.table import Table

__all__ = ["NO_CLASS", "SEVERAL_CLASSES", "ClassOfFile", "Label", "make_label"]

#: Label of jets that are in none of the classes of a schema, and are left out.
NO_CLASS = np.iinfo(np.int64).min

#: Label of jets that are in more than one class, which is an error.
SEVERAL_CLASSES = -2

Sorted = tuple[int, str]
"""Index of a class, or `NO_CLASS`, and a value of the label."""

_NUM_SHOWN_ROWS = 1000  # whose words are shown if the classes are not known


@dataclass(frozen=True)
class ClassOfFile:
    """Class of all jets of a file.

    Parameters
    ----------
    classes : tuple of str
        Names of all classes.
    index : int
        Index of the class of the file.
    """

    classes: tuple[str, ...]
    index: int


class Label(ABC):
    """Reader of the class of each jet.

    Attributes
    ----------
    classes : tuple of str
        Names of the classes; empty if they are not known.
    quantities : list of Quantity
        Quantities per jet that are read.
    reference : str
        Columns of the label, for messages.
    """

    classes: tuple[str, ...]
    quantities: Sequence[Quantity] = ()
    reference: str = "label"

    @abstractmethod
    def read(self, rows: Rows) -> np.ndarray:
        """Class index (B,) of any numeric type; -1 or `SEVERAL_CLASSES` where it is not valid."""

    def count(self, rows: Rows, label: np.ndarray, selected: np.ndarray) -> Counter[Sorted]:
        """Numbers of selected jets of each class and value, if the schema sorts values to classes.

        Parameters
        ----------
        rows : Rows
            Columns of the jets.
        label : array, shape (B,)
            Result of `read`.
        selected : array of bool, shape (B,)
            Jets that are counted.
        """
        return Counter()


class NumberLabel(Label):
    """Label of one column with the class index."""

    def __init__(self, quantity: Quantity, classes: tuple[str, ...]) -> None:
        self.quantities = [quantity]
        self.classes = classes
        self.reference = quantity.reference

    def read(self, rows: Rows) -> np.ndarray:
        """Class index (B,) as it is stored."""
        return without_missing(rows.of_jets(self.quantities[0]), self.reference)


class OneHotLabel(Label):
    """Label of one column per class."""

    def __init__(self, quantities: Sequence[Quantity], classes: tuple[str, ...]) -> None:
        self.quantities = quantities
        self.classes = classes
        self.reference = "/".join(quantity.reference for quantity in quantities)

    def read(self, rows: Rows) -> np.ndarray:
        """Class index (B,); -1 unless exactly one column is 1 and the others are 0."""
        columns = [rows.of_jets(quantity).astype(np.float64) for quantity in self.quantities]
        one_hot = np.stack(columns, axis=1)
        is_one = one_hot == 1
        valid = (is_one.sum(axis=1) == 1) & (is_one | (one_hot == 0)).all(axis=1)
        return np.where(valid, is_one.argmax(axis=1), -1).astype(np.int64)


class ValueLabel(Label):
    """Label of one column, some of whose values or words belong to each class."""

    def __init__(
        self, quantity: Quantity, classes: dict[str, tuple[int | float | str, ...]]
    ) -> None:
        self.quantities = [quantity]
        self.classes = tuple(classes)
        self.reference = quantity.reference
        self._values = list(classes.values())

    def read(self, rows: Rows) -> np.ndarray:
        """Class index (B,); `NO_CLASS` for values that belong to none."""
        found = self._found(rows)
        is_text = found.dtype.kind == "U"
        label = np.full(len(found), NO_CLASS)
        for i, values in enumerate(self._values):
            for value in values:
                if isinstance(value, str) != is_text:
                    kind = "words" if is_text else f"numbers ({found.dtype})"
                    raise InputError(
                        f"class {self.classes[i]!r} has the value {value!r}, but the label "
                        f"{self.reference} holds {kind}; an expression is a class without a label"
                    )
                label[found == value] = i
        return label

    def _found(self, rows: Rows) -> np.ndarray:
        return without_missing(rows.of_jets(self.quantities[0]), self.reference)

    def count(self, rows: Rows, label: np.ndarray, selected: np.ndarray) -> Counter[Sorted]:
        """Numbers of jets of each value."""
        found = self._found(rows)[selected]
        values, first, counts = np.unique(found, return_index=True, return_counts=True)
        classes = label[selected][first]
        parts = zip(classes, values, counts, strict=True)
        return Counter({(int(i), str(value)): int(number) for i, value, number in parts})


class ExpressionLabel(Label):
    """Label of an expression for each class, which is true for its jets."""

    reference = "expressions"

    def __init__(self, quantities: Sequence[Quantity], classes: tuple[str, ...]) -> None:
        self.quantities = quantities
        self.classes = classes

    def read(self, rows: Rows) -> np.ndarray:
        """Class index (B,); `NO_CLASS` where no expression is true."""
        label: np.ndarray | None = None
        for i, quantity in enumerate(self.quantities):
            values = rows.of_jets(quantity)
            if label is None:
                label = np.full(len(values), NO_CLASS)
            is_class = (values != 0) & (values == values)  # NaN is not true
            label[is_class] = np.where(label[is_class] == NO_CLASS, i, SEVERAL_CLASSES)
        assert label is not None
        return label

    def count(self, rows: Rows, label: np.ndarray, selected: np.ndarray) -> Counter[Sorted]:
        """Numbers of jets of each class."""
        classes, counts = np.unique(label[selected], return_counts=True)
        return Counter({(int(i), ""): int(n) for i, n in zip(classes, counts, strict=True)})


class FileLabel(Label):
    """Label of a file whose jets are all of one class."""

    def __init__(self, class_of_file: ClassOfFile) -> None:
        self.classes = class_of_file.classes
        self._index = class_of_file.index

    def read(self, rows: Rows) -> np.ndarray:
        """Class index (B,)."""
        return np.full(len(rows.offsets) - 1, self._index, dtype=np.int64)


def make_label(
    table: Table, schema: JetSchema, class_of_file: ClassOfFile | None = None
) -> Label | None:
    """Label of a file; None if the schema has none, or the file does not have an optional one.

    Raises
    ------
    UnknownNameError
        If a column is missing.
    InputError
        If the label has words and the classes are not known.
    """
    if class_of_file is not None:
        return FileLabel(class_of_file)
    classes = schema.classes
    if schema.label is None and isinstance(classes, dict):
        references = [str(text) for text in classes.values()]
    else:
        references = [schema.label] if isinstance(schema.label, str) else [*schema.one_hot]
    found = [find_quantity(table, text, texts=True) is not None for text in references]
    is_absent = not (any(found) if schema.one_hot else all(found))
    if not references or (is_absent and "label" in schema.optional):
        return None
    quantities = [locate_quantity(table, text, texts=True) for text in references]
    names = tuple(classes)
    if schema.label is None:
        return ExpressionLabel(quantities, names)
    if schema.one_hot:
        return OneHotLabel(quantities, names)
    (quantity,) = quantities
    if isinstance(classes, dict):
        values = {n: (v,) if isinstance(v, str) else v for n, v in classes.items()}
        return ValueLabel(quantity, values)
    if quantity.expression is None and quantity.columns[0].source in table.texts:
        if not names:
            _refuse_words(table, quantity)
        return ValueLabel(quantity, {name: (name,) for name in names})
    return NumberLabel(quantity, names or table.classes)


def _refuse_words(table: Table, quantity: Quantity) -> NoReturn:
    """Raise an error that shows the words of a label."""
    name = str(quantity.columns[0].source)
    number = min(table.texts[name][0] or 0, _NUM_SHOWN_ROWS)
    found = np.unique(np.asarray(table.read_columns([name], 0, number)[name])).tolist()
    words = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
    raise InputError(
        f"{table.path}: the label {name!r} holds words ({words}): give the schema the names of the "
        "classes in their order, as classes"
    )
