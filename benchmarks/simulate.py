"""Rate of the simulation of jets, and comparison with the jets of the Landscape sample.

    python benchmarks/simulate.py --out simulate.png [--landscape test.h5] [--jets 1000]

Prints the rate for each process and a table of the distributions of jets simulated with the two
detectors and of Landscape jets, and draws the distributions. The jets of the fine detector are the
test split of the embedded sample. Without ``--landscape``, the 1000 jets of the reference data are
used, from the folder that PCLOUD_REFERENCE_DATA names.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import awkward as ak
import matplotlib.pyplot as plt
import numpy as np

import pcloud
from pcloud.evaluation.measured import Measured
from pcloud.simulate import DETECTORS, simulate_jets

REFERENCE = "landscape_test_rows_0000_0999.npz"
REFERENCE_SCHEMA = pcloud.JetSchema(
    p4={"E": "p4[0]", "px": "p4[1]", "py": "p4[2]", "pz": "p4[3]"},
    counts="counts",
    label="label",
    classes=("qcd", "top"),
)
QUANTITIES = {
    "multiplicity": ("number of constituents", np.linspace(0, 150, 51)),
    "mass": ("jet mass [GeV]", np.linspace(0, 300, 61)),
    "pt": ("jet $p_T$ [GeV]", np.linspace(540, 660, 41)),
    "leading": ("$p_T$ fraction of the leading constituent", np.linspace(0, 1, 41)),
    "width": (r"$\sum p_T \Delta R / \sum p_T$", np.linspace(0, 0.6, 41)),
    "w_mass": ("smallest mass of two of three $k_T$ subjets [GeV]", np.linspace(0, 160, 41)),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("simulate.png"), help="figure to draw")
    parser.add_argument("--landscape", type=Path, help="a file of the Landscape sample")
    parser.add_argument("--jets", type=int, default=1000, help="simulated jets of each process")
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    arguments = parser.parse_args()
    landscape = read_landscape(arguments.landscape)
    samples = {
        "fine": measure(pcloud.load_dataset("simulated", "test")),
        "coarse": measure(simulate_timed(arguments.jets, arguments.workers)),
        "Landscape": measure(landscape),
    }
    print_table(samples)
    draw(samples, arguments.out)
    print(f"figure: {arguments.out}")


def simulate_timed(num_jets: int, workers: int) -> ak.Array:
    """Simulate jets with the coarse detector, and print the rate."""
    print(f"{num_jets} jets of each process, {workers} workers, {os.cpu_count()} cores")
    samples = []
    for process in ("top", "qcd"):
        wall, cpu = time.perf_counter(), sum(os.times()[:4])
        samples.append(
            simulate_jets(
                num_jets,
                process=process,
                workers=workers,
                detector=DETECTORS["coarse"],
                progress=False,
            )
        )
        wall, cpu = time.perf_counter() - wall, sum(os.times()[:4]) - cpu
        print(
            f"{process}  {num_jets / wall:5.1f} jets/s, "
            f"{num_jets / cpu:5.1f} per second of CPU time"
        )
    return ak.concatenate(samples)


def read_landscape(path: Path | None) -> ak.Array:
    if path is not None:
        return pcloud.read_jets(path, "landscape", stop=10_000)
    folder = Path(os.environ.get("PCLOUD_REFERENCE_DATA", "../shared/data"))
    return pcloud.read_jets(folder / REFERENCE, REFERENCE_SCHEMA)


def measure(jets: ak.Array) -> dict[str, dict[str, np.ndarray]]:
    """Quantities of the jets of each class."""
    result = {}
    for label, name in enumerate(("qcd", "top")):
        p4 = ak.values_astype(jets[jets.label == label].p4, np.float64)
        axis = ak.sum(p4, axis=1)
        columns = {
            "multiplicity": ak.num(p4),
            "mass": axis.mass,
            "pt": axis.pt,
            "leading": ak.max(p4.pt, axis=1) / axis.pt,
            "width": ak.sum(p4.pt * p4.deltaR(axis), axis=1) / axis.pt,
            "w_mass": subjet_mass(p4),
        }
        result[name] = {key: ak.to_numpy(values) for key, values in columns.items()}
    return result


def subjet_mass(p4: ak.Array) -> np.ndarray:
    """Smallest mass of two of the three exclusive kT subjets: that of the W in a top jet."""
    import fastjet

    p4 = p4[ak.num(p4) >= 3]
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, 1.0)
    subjets = fastjet.ClusterSequence(p4, definition).exclusive_jets(3)
    first, second = ak.unzip(ak.combinations(subjets, 2))
    return np.asarray(ak.min((first + second).mass, axis=1))


def print_table(samples: dict) -> None:
    print(f"{'':22s}" + "".join(f"{name:>30s}" for name in samples))
    for label in ("qcd", "top"):
        for quantity in QUANTITIES:
            row = f"{label:5s}{quantity:17s}"
            for sample in samples.values():
                values = sample[label][quantity]
                low, middle, high = np.percentile(values, [16, 50, 84])
                row += f"{Measured.mean(values).format(1):<17s}{low:7.3g}{middle:7.3g}{high:7.3g}"
            print(row)
    print("mean ± error, and the 16, 50 and 84 % quantiles")


def draw(samples: dict, out: Path) -> None:
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
    for axis, (quantity, (title, bins)) in zip(axes.flat, QUANTITIES.items(), strict=True):
        for label, color in (("qcd", "C0"), ("top", "C3")):
            for name, style in (
                ("fine", {"histtype": "stepfilled", "alpha": 0.35}),
                ("coarse", {"histtype": "step"}),
            ):
                values = samples[name][label][quantity]
                axis.hist(
                    values, bins, density=True, color=color, label=f"{label}, {name}", **style
                )
            theirs = samples["Landscape"][label][quantity]
            count, _ = np.histogram(theirs, bins)
            scale = 1 / (len(theirs) * np.diff(bins))
            axis.errorbar(
                (bins[1:] + bins[:-1]) / 2,
                count * scale,
                np.sqrt(count) * scale,
                fmt=".",
                color=color,
                label=f"{label}, Landscape",
            )
        axis.set_xlabel(title)
        axis.set_ylabel("density")
        axis.set_xlim(bins[0], bins[-1])
    axes[0, 0].legend(frameon=False)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
