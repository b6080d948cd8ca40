"""Files to jets and back: HDF5, ROOT, Parquet and npz."""

from __future__ import annotations

from pcloud.io.check import BadJetWarning
from pcloud.io.jets import FlatJets, momenta, offsets
from pcloud.io.read import count_jets, iter_jets, read_jets
from pcloud.io.schema import SCHEMAS, JetSchema
from pcloud.io.write import convert, write_jets

__all__ = [
    "SCHEMAS",
    "BadJetWarning",
    "FlatJets",
    "JetSchema",
    "convert",
    "count_jets",
    "iter_jets",
    "momenta",
    "offsets",
    "read_jets",
    "write_jets",
]
