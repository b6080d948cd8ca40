"""Rank the variables of the ATLAS Higgs challenge of 2014 and their pairs, beside boosted trees.

    python examples/higgs.py [--data atlas-higgs-challenge-2014-v2.csv.gz] [--epochs 10]

The file is record 328 of CERN Open Data. Without it, 10 000 synthetic events of four of its
variables are used, of which one is missing in a third of the events.
"""

import argparse
from pathlib import Path

import numpy as np

import pcloud
from pcloud.studies.baselines import compare_with_trees

SCHEMA = {"label": "Label", "weight": "Weight", "missing": -999, "keep": ["EventId"]}
SCHEMA["classes"] = {"background": "b", "signal": "s"}


def synthetic(path: Path, number: int = 10_000) -> None:
    """Write events of the form of the challenge."""
    rng = np.random.default_rng(1)
    signal = rng.random(number) < 0.35
    mass = np.where(signal, rng.normal(122, 17, number), 60 + rng.exponential(45, number))
    deta = rng.gamma(np.where(signal, 3.0, 1.5), 1.0)
    mass[rng.random(number) < 0.15] = -999
    deta[rng.random(number) < 0.3] = -999
    tau_pt = 20 + rng.exponential(np.where(signal, 22, 16))
    met = rng.exponential(np.where(signal, 45, 35))
    names = "EventId,DER_mass_MMC,DER_deltaeta_jet_jet,PRI_tau_pt,PRI_met,Weight,Label"
    label = np.where(signal, "s", "b")
    columns = np.arange(number), mass, deta, tau_pt, met, np.ones(number), label
    rows = [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    path.write_text("\n".join([names, *rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="atlas-higgs-challenge-2014-v2.csv.gz")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    data, schema = Path(options.data), SCHEMA | {"leave_out": ["KaggleSet", "KaggleWeight"]}
    if not data.exists():
        data, schema = Path("higgs.csv"), SCHEMA
        synthetic(data)
    training = {"model": "mlp", "model_options": {"activation": "tanh"}, "epochs": options.epochs}
    run = pcloud.train(data=str(data), schema=schema, out="runs/higgs", **training)
    run.evaluate()
    print(compare_with_trees(run))
    print(run.explain("taylor"))


if __name__ == "__main__":
    main()
