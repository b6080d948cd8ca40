"""A data set of your own is one value: this file registers one that it makes itself.

    python examples/my_dataset.py [--epochs 3]

A `DatasetInfo` names the files of each split and their schema, or, as here, a function that makes
the jets of a split. It is then known by its name: `pcloud.load_dataset`, `pcloud.train(data=...)`.
"""

import argparse

import awkward as ak
import numpy as np

import pcloud
from pcloud.datasets import DatasetInfo, Split

CLASSES = ("one prong", "two prongs")
SEEDS = {"train": 1, "val": 2, "test": 3}


def make_jets(split: str, number: int = 2000, particles: int = 20) -> ak.Array:
    """Jets of 500 GeV whose particles lie around one axis or two."""
    generator = np.random.default_rng(SEEDS[split])
    label = generator.integers(2, size=number)
    side = generator.choice([-0.3, 0.3], size=(number, particles)) * label[:, None]
    pt = generator.dirichlet(np.ones(particles), size=number) * 500
    eta = side + 0.05 * generator.normal(size=pt.shape)
    phi = 0.05 * generator.normal(size=pt.shape)
    momenta = {
        "E": pt * np.cosh(eta),
        "px": pt * np.cos(phi),
        "py": pt * np.sin(phi),
        "pz": pt * np.sinh(eta),
    }
    columns = {name: values.astype(np.float32) for name, values in momenta.items()}
    return ak.zip({"p4": ak.zip(columns, with_name="Momentum4D"), "label": label}, depth_limit=1)


pcloud.register_dataset(
    DatasetInfo(
        name="prongs",
        description="Toy jets of one prong and of two",
        splits={split: Split((f"{split}.parquet",)) for split in SEEDS},
        classes=CLASSES,
        load=make_jets,
    )
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", default="runs/my_dataset")
    options = parser.parse_args()
    run = pcloud.train(
        data="prongs", model="pfn", epochs=options.epochs, batch_size=128, out=options.out
    )
    jets = pcloud.load_dataset("prongs", "test")
    table = pcloud.evaluate(jets.label, run.predict(jets), classes=CLASSES)
    print(f"AUC {table['auc']}")


if __name__ == "__main__":
    main()
