"""Tables: events as rows with columns by name, and networks on them.

A network on tables is a function ``model(rows) -> logits (B, C)`` of ``rows (B, F)``.
"""

from pcloud.tables.columns import TableColumns
from pcloud.tables.files import read_table
from pcloud.tables.networks import MLP, Logistic
from pcloud.tables.schema import TableSchema
from pcloud.tables.table import Table

__all__ = ["MLP", "Logistic", "Table", "TableColumns", "TableSchema", "read_table"]
