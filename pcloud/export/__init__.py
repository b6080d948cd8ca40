"""Export of trained networks: one file from four-momenta to probabilities."""

from pcloud.export.export import ExportedFile, export_run
from pcloud.export.options import ExportOptions
from pcloud.export.parity import Parity

__all__ = ["ExportOptions", "ExportedFile", "Parity", "export_run"]
