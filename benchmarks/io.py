"""Rates of reading and converting jets, compared with the underlying libraries alone.

    python benchmarks/io.py [--jets 50000] [--repeats 7] [--json FILE]

The jets are those of the embedded sample, each rotated about the beam by a different angle, so that
no jet occurs twice. The Landscape file is written by pandas in the original layout (200 slots,
blosc). Files are in the page cache. A rate is the median over the repeats, with the range in
brackets. "cpu" refers to the CPU time of all threads, which other jobs affect less than the
wall-clock time. "floor" is the rate of the library alone, which decodes the same bytes to its own
arrays: h5py reads rows including the padding, and pyarrow, numpy and uproot do not build jets.
Writing the Landscape file needs pandas and tables.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pyarrow.parquet as pq
import uproot

from pcloud import load_dataset
from pcloud.io import SCHEMAS, FlatJets, convert, read_jets, write_jets

TARGETS = {"landscape.h5": 60_000, "ours.parquet": 500_000}
SLOTS = 200
BASKET_JETS = 5_000


def make_jets(num_jets: int, seed: int = 1) -> FlatJets:
    """Jets of the embedded sample, repeated as necessary, each rotated about the beam."""
    flat = FlatJets.from_awkward(load_dataset("simulated", "train"))
    repeats = -(-num_jets // len(flat))
    flat = FlatJets.concatenate([flat] * repeats).slice(0, num_jets)
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, num_jets).astype(np.float32)
    cos, sin = np.repeat(np.cos(angle), flat.counts), np.repeat(np.sin(angle), flat.counts)
    energy, px, py, pz = flat.p4
    flat.p4 = (energy, cos * px - sin * py, sin * px + cos * py, pz)
    return flat


def write_landscape(flat: FlatJets, path: Path) -> None:
    """Write the original layout with pandas."""
    import pandas as pd

    block = np.zeros((len(flat), SLOTS, 4), dtype=np.float32)
    block[np.arange(SLOTS) < flat.counts[:, None]] = np.stack(flat.p4, axis=-1)
    names = [f"{q}_{i}" for i in range(SLOTS) for q in ("E", "PX", "PY", "PZ")]
    truth = np.zeros((len(flat), 4), dtype=np.float32)
    frame = pd.DataFrame(
        np.concatenate([block.reshape(len(flat), -1), truth], axis=1),
        columns=[*names, "truthE", "truthPX", "truthPY", "truthPZ"],
    )
    frame["ttv"], frame["is_signal_new"] = np.int64(0), flat.jet["label"]
    frame.to_hdf(path, key="table", format="table", complevel=5, complib="blosc")


def write_energyflow(flat: FlatJets, path: Path) -> None:
    """Write (pt, rapidity, phi, pid) in float64, padded and compressed."""
    _, px, py, pz = (component.astype(np.float64) for component in flat.p4)
    pt = np.hypot(px, py)
    X = np.zeros((len(flat), flat.counts.max(), 4))
    real = np.arange(X.shape[1]) < flat.counts[:, None]
    X[real] = np.stack([pt, np.arcsinh(pz / pt), np.arctan2(py, px), 0 * pt + 22], axis=-1)
    np.savez_compressed(path, X=X, y=flat.jet["label"])


def write_jetclass(flat: FlatJets, path: Path) -> None:
    """Write all branches of JetClass to a TTree."""
    jets, rng = flat.to_awkward(), np.random.default_rng(1)
    schema = SCHEMAS["jetclass"]
    branches = {column: jets.p4[name] for name, column in schema.p4.items()}
    for name, column in schema.particle.items():
        values = rng.normal(size=len(flat.p4[0])).astype(np.float32)
        is_flag = name == "charge" or name.startswith("is_")
        branches[column] = ak.unflatten(
            (values > 1).astype(np.int32) if is_flag else values, flat.counts
        )
    branches |= {c: rng.normal(size=len(flat)).astype(np.float32) for c in schema.jet.values()}
    branches |= {c: flat.jet["label"] == i for i, c in enumerate(schema.label)}
    with uproot.recreate(path) as file:
        file.mktree("tree", {name: ak.type(column).content for name, column in branches.items()})
        for start in range(0, len(flat), BASKET_JETS):
            rows = slice(start, start + BASKET_JETS)
            file["tree"].extend({name: column[rows] for name, column in branches.items()})


def h5py_alone(path: Path) -> None:
    with h5py.File(path) as file:
        rows = file["table/table"]
        buffer = np.empty(2000, dtype=rows.dtype)
        for start in range(0, len(rows), 2000):
            stop = min(start + 2000, len(rows))
            rows.read_direct(buffer, np.s_[start:stop], np.s_[: stop - start])


def pyarrow_alone(path: Path) -> None:
    file = pq.ParquetFile(path, pre_buffer=False)
    for group in range(file.num_row_groups):
        file.read_row_group(group, use_threads=False)


def numpy_alone(path: Path) -> None:
    with np.load(path) as file:
        for name in file.files:
            file[name]


def uproot_alone(path: Path) -> None:
    with uproot.open(path) as file:
        file["tree"].arrays()


#: Function that writes each file, its fraction of the jets, and the library alone.
FILES: dict[str, tuple[Callable[[FlatJets, Path], None], float, Callable[[Path], None]]] = {
    "landscape.h5": (write_landscape, 1, h5py_alone),
    "ours.h5": (lambda flat, path: write_jets(flat.to_awkward(), path), 1, h5py_alone),
    "ours.parquet": (lambda flat, path: write_jets(flat.to_awkward(), path), 4, pyarrow_alone),
    "ours.npz": (lambda flat, path: write_jets(flat.to_awkward(), path), 4, numpy_alone),
    "energyflow.npz": (write_energyflow, 0.2, numpy_alone),
    "jetclass.root": (write_jetclass, 0.2, uproot_alone),
}


def measure(function: Callable[[], object], num_jets: int, repeats: int) -> dict[str, float]:
    """Jets per second: median and range of wall-clock time; median of CPU time."""
    function()  # the first call imports the library and fills the page cache
    wall, cpu = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        function()
        wall.append(num_jets / (time.perf_counter() - start))
        cpu.append(num_jets / (time.process_time() - used))
    return {
        "rate": float(np.median(wall)),
        "slowest": min(wall),
        "fastest": max(wall),
        "cpu_rate": float(np.median(cpu)),
    }


def run(folder: Path, num_jets: int, repeats: int) -> dict[str, dict[str, float]]:
    """Measure every file, and the conversion of the Landscape file to Parquet."""
    results = {}
    for name, (write, share, alone) in FILES.items():
        flat, path = make_jets(int(num_jets * share)), folder / name
        write(flat, path)
        result = measure(lambda path=path: read_jets(path), len(flat), repeats)
        floor = measure(lambda path=path, alone=alone: alone(path), len(flat), repeats)
        result |= {"floor_rate": floor["rate"], "floor_cpu_rate": floor["cpu_rate"]}
        result |= {"jets": len(flat), "bytes_per_jet": path.stat().st_size / len(flat)}
        result["target"] = TARGETS.get(name, 0)
        results[name] = result
        report(name, result)
    target = folder / "converted.parquet"
    result = measure(
        lambda: convert(folder / "landscape.h5", target, overwrite=True), num_jets, repeats
    )
    result |= {"jets": num_jets, "bytes_per_jet": target.stat().st_size / num_jets}
    results["convert landscape.h5 to Parquet"] = result
    report("convert to Parquet", result)
    return results


def report(name: str, result: dict[str, float]) -> None:
    floor = f"{result['floor_rate']:>10,.0f}" if "floor_rate" in result else f"{'':>10}"
    text = (
        f"{name:<19}{result['jets']:>8,.0f}{result['bytes_per_jet']:>7.0f}"
        f"{result['rate']:>11,.0f}  [{result['slowest']:,.0f}, {result['fastest']:,.0f}]"
    )
    print(f"{text:<70}{result['cpu_rate']:>10,.0f}{floor}", end="")
    if result.get("target"):
        verdict = "reached" if result["rate"] >= result["target"] else "missed"
        print(f"   {result['target']:,.0f} {verdict}", end="")
    print(flush=True)


def machine() -> dict[str, object]:
    """Describe the machine and the versions of the libraries."""
    lines = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if os.name == "posix" else []
    )
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    block = np.ones(1 << 25)
    copy = measure(lambda: block.copy(), 2 * block.nbytes, 5)
    libraries = (np, h5py, uproot, ak)
    return {
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "copy_bandwidth_GB_per_s": copy["rate"] / 1e9,
        "python": platform.python_version(),
        **{library.__name__: library.__version__ for library in libraries},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--jets", type=int, default=50_000, help="jets in the Landscape file")
    parser.add_argument("--repeats", type=int, default=7, help="measurements of each rate")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    about = machine()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(
        f"{'file':<19}{'jets':>8}{'B/jet':>7}{'jets/s':>11}  {'[range]':<23}{'cpu jets/s':>10}{'floor':>10}   target"
    )
    with tempfile.TemporaryDirectory(prefix="pcloud-io-") as folder:
        results = run(Path(folder), options.jets, options.repeats)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": about, "results": results}, indent=2), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
