"""A kind of data of your own: this file registers a simple table, of which an event is a row.

    python examples/my_table.py [--epochs 5]

A `Modality` says how a kind of data is read, described and made into batches. Everything else, from
`pcloud.train` to the report, then works as for the kinds that pcloud has: jets, images, tables
(`pcloud.tables`, which can do more than this example) and series.
"""

import argparse
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

import pcloud
from pcloud.keys import row_keys
from pcloud.modality import Modality, register_modality


@dataclass(frozen=True)
class Table:
    """Rows of numbers and their labels, as they are in a file."""

    rows: Tensor  # (B, F)
    label: Tensor  # (B,)
    fields: ClassVar = ["rows", "label"]
    attrs: ClassVar = {"classes": ["below", "above"]}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> "Table":
        return replace(self, rows=self.rows[index], label=self.label[index])


@dataclass(frozen=True)
class Columns:
    """Inputs of a network: the columns of a table, divided by a scale."""

    kind: ClassVar = "own_table"
    columns: ClassVar = ()
    jet_columns: ClassVar = ()

    names: tuple[str, ...]
    standardisation: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.names)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a checkpoint."""
        return {"names": list(self.names), "scale": list(self.standardisation)}


class Rows:
    """A table with the inputs of a network."""

    teacher = None

    def __init__(self, table: Table, inputs: Columns) -> None:
        self.x = table.rows / torch.tensor(inputs.standardisation)
        self.y = table.label
        self.feature_set = inputs

    def __len__(self) -> int:
        return len(self.x)

    def to_bytes(self) -> bytes:
        """Content, by which a continued run knows its data."""
        return self.x.numpy().tobytes() + self.y.numpy().tobytes()


class RowLoader(pcloud.JetLoader):
    """Loader of batches of rows."""

    def as_dataset(self, data: Rows) -> Rows:
        """Return the data set."""
        return data

    def collate(self, jets: Tensor) -> Data:
        """Batch of the rows with these indices."""
        return Data(x=self.data.x[jets], y=self.data.y[jets])


def read_table(path: str) -> Table:
    """Table in an npz file."""
    with np.load(path) as file:
        return Table(torch.from_numpy(file["rows"]), torch.from_numpy(file["label"]))


class Tables(Modality):
    """Tables from npz files."""

    kind, noun, first_argument, sample_type = "own_table", "events", "numbers", Table

    def own_splits(self, source):
        """Splits of a file: none, they are drawn."""
        return ()

    def load(self, source, split, options, limit=None):
        """Read a table."""
        return self.subsample(read_table(source), limit, options.split_seed)

    def keys(self, sample):
        """Hash of each row, by which it belongs to a split."""
        return row_keys(sample.rows.numpy())

    def stream(self, source, *, chunk_size, **reading):
        """Number of rows to predict, and the rows in chunks."""
        table = read_table(source)
        return len(table), (table[i : i + chunk_size] for i in range(0, len(table), chunk_size))

    def fit_inputs(self, sample, options):
        """Scale of the columns of the training sample."""
        names = tuple(f"column {i}" for i in range(sample.rows.shape[1]))
        return Columns(names, tuple(sample.rows.std(0).tolist()))

    def inputs_from_dict(self, values):
        """Inputs from a checkpoint."""
        return Columns(tuple(values["names"]), tuple(values["scale"]))

    def dataset(self, sample, inputs):
        """A table with its inputs."""
        return Rows(sample, inputs)

    def loader(self, data, batch_size=512, **options):
        """Loader of batches."""
        return RowLoader(data, batch_size, **options)

    def arguments(self, batch):
        """Arguments of a network for a batch."""
        return (batch.x,)


register_modality(Tables())


@pcloud.register_model("own_mlp", paper="", year=2026, use="an example", kind="own_table")
def mlp(in_features: int, num_outputs: int = 2, *, width: int = 32) -> nn.Module:
    """Network with one hidden layer."""
    return nn.Sequential(nn.Linear(in_features, width), nn.ReLU(), nn.Linear(width, num_outputs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    rows = np.random.default_rng(1).normal(size=(2000, 3)).astype(np.float32)
    label = (rows.sum(axis=1) > 0).astype(np.int64)
    np.savez("events.npz", rows=rows, label=label)
    run = pcloud.train(
        data="events.npz",
        model="own_mlp",
        epochs=options.epochs,
        batch_size=32,
        lr=0.1,
        out="runs/mlp",
    )
    print(run.evaluate())


if __name__ == "__main__":
    main()
