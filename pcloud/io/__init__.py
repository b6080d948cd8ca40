"""Reading and writing of jets: HDF5, ROOT, Parquet and npz.

:mod:`~pcloud.io.schema` defines which column of a file is which quantity. :mod:`~pcloud.io.read` and
:mod:`~pcloud.io.write` are the functions of the user. Each file format is a
:class:`~pcloud.io.table.Table` in a module of its own (``hdf5``, ``pandas_table``, ``root``,
``parquet``, ``npz``). :mod:`~pcloud.io.load` reads the columns of a schema from a table:
``source_columns`` finds them, ``quantities`` evaluates expressions of them, ``layouts`` converts the
storage of jets of different lengths, ``collections`` reads what jets have besides particles,
``labels`` finds the classes, ``momentum`` computes four-momenta, and ``check`` finds bad jets.
``selection`` counts what a schema leaves out. :mod:`~pcloud.io.jets` contains the two representations
of jets in memory.
"""

from __future__ import annotations

from pcloud.io.check import BadJetWarning, DoubtfulValuesWarning
from pcloud.io.convert import convert, convert_files
from pcloud.io.jets import FlatCollection, FlatJets, momenta, offsets
from pcloud.io.known_schemas import SCHEMAS
from pcloud.io.read import column_names, count_jets, iter_jets, read_jets
from pcloud.io.schema import CollectionSchema, JetSchema
from pcloud.io.selection import SelectionWarning
from pcloud.io.write import write_jets

__all__ = [
    "SCHEMAS",
    "BadJetWarning",
    "CollectionSchema",
    "DoubtfulValuesWarning",
    "FlatCollection",
    "FlatJets",
    "JetSchema",
    "SelectionWarning",
    "column_names",
    "convert",
    "convert_files",
    "count_jets",
    "iter_jets",
    "momenta",
    "offsets",
    "read_jets",
    "write_jets",
]
