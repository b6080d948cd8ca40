"""Peak memory and time of reading jets, making features, training and evaluating.

    python benchmarks/memory_of_reading.py [--jets 200000] [--against FOLDER] [--json FILE]
    python benchmarks/memory_of_reading.py allocator [--models pfn part] [--batch-sizes 512]

Each measurement is a process of its own (on Linux). Its peak memory is that of the process above its
size after the imports, divided by the number of particles in the files; its time is the CPU time. With ``--against`` the same is measured
with the pcloud in another folder, such as a clone of an earlier version. The jets are those of the
embedded sample, rotated about the beam (see io.py), in Parquet files of pcloud and in a file with the
columns of JetClass.

``allocator`` compares training steps by what happens to freed memory, in batches of different
jets, alternating between processes.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).parents[1]
FEATURES = "kin"

Work = Callable[[], object]
TASKS: dict[str, Callable[[Path], Work]] = {}
"""Functions that prepare a measurement with the files of a folder, and return what is measured."""


def task(function: Callable[[Path], Work]) -> Callable[[Path], Work]:
    """Add a measurement to `TASKS`."""
    TASKS[function.__name__] = function
    return function


@task
def read_jets(folder: Path) -> Work:
    import pcloud

    return lambda: pcloud.read_jets(folder / "jets.parquet")


@task
def read_many_files(folder: Path) -> Work:
    import pcloud

    return lambda: pcloud.read_jets(folder / "many")


@task
def iter_jets(folder: Path) -> Work:
    import pcloud

    size = json.loads((folder / "about.json").read_text())["jets"] // 4

    def work() -> None:
        for jets in pcloud.iter_jets(folder / "jets.parquet", chunk_size=size):
            del jets

    return work


@task
def jet_dataset(folder: Path) -> Work:
    import pcloud

    jets = pcloud.read_jets(folder / "jets.parquet")
    return lambda: pcloud.JetDataset(jets, FEATURES)


@task
def train_start(folder: Path) -> Work:
    return lambda: _load_training_data(folder / "jets.parquet")


@task
def train_start_jetclass(folder: Path) -> Work:
    return lambda: _load_training_data(folder / "jetclass.parquet")


@task
def max_jets(folder: Path) -> Work:
    few = {"max_jets": 1000, "max_val_jets": 1000}
    return lambda: _load_training_data(folder / "jets.parquet", **few)


@task
def evaluate(folder: Path) -> Work:
    from pcloud import Run

    run = Run(folder / "run")
    return lambda: run.evaluate(str(folder / "jets.parquet"), num_bootstrap=1)


def _load_training_data(path: Path, **options: Any) -> object:
    from pcloud.training import TrainConfig
    from pcloud.training.data import load_training_data

    options |= {"data": str(path), "model": "pfn", "features": FEATURES, "out": "unused"}
    return load_training_data(TrainConfig.from_dict(options))


def write_files(folder: Path, num_jets: int) -> None:
    """Write the files, and train the network that is evaluated."""
    import awkward as ak

    import pcloud

    make_jets = runpy.run_path(str(Path(__file__).with_name("io.py")))["make_jets"]
    flat = make_jets(num_jets)
    jets = flat.to_awkward(("qcd", "top"))
    pcloud.write_jets(jets, folder / "jets.parquet")
    (folder / "many").mkdir()
    pcloud.write_jets(jets[: num_jets // 2], folder / "many/a.parquet")
    for i in range(100):
        pcloud.write_jets(jets[i : i + 2], folder / f"many/b{i:03d}.parquet")
    write_jetclass(flat, folder / "jetclass.parquet")
    about = {"jets": num_jets, "particles": int(ak.count(jets.p4.E))}
    pcloud.train(
        data="simulated", model="pfn", max_jets=200, max_val_jets=100, epochs=1, batch_size=50,
        out=folder / "run", progress=False,
    )  # fmt: skip
    (folder / "about.json").write_text(json.dumps(about))


def write_jetclass(flat: Any, path: Path) -> None:
    """Write the columns of JetClass to Parquet, random numbers except for the momenta."""
    import awkward as ak

    from pcloud.io import SCHEMAS

    rng = np.random.default_rng(1)
    schema = SCHEMAS["jetclass"]
    columns = {
        c: ak.unflatten(v, flat.counts) for c, v in zip(schema.p4.values(), flat.p4, strict=True)
    }
    for name, column in schema.particle.items():
        values = rng.normal(size=len(flat.p4[0])).astype(np.float32)
        is_flag = name == "charge" or name.startswith("is_")
        values = (values > 1).astype(np.int32) if is_flag else values
        columns[column] = ak.unflatten(values, flat.counts)
    columns |= {c: rng.normal(size=len(flat)).astype(np.float32) + 10 for c in schema.jet.values()}
    columns |= {c: flat.jet["label"] == i for i, c in enumerate(schema.label)}
    ak.to_parquet(ak.Array(columns), path, row_group_size=20_000)


ALLOCATOR_MODELS = ("pfn", "efn", "particlenet", "particlenet_lite", "part", "lorentznet")


def reset_peak() -> int:
    """Start a new measurement of the peak memory; return the present resident memory in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """Largest resident memory since `reset_peak`, in bytes; not that of the parent process."""
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def measure(name: str, folder: Path) -> None:
    """Do one task in this process and print its peak memory in bytes and its CPU time in seconds."""
    import lightning  # noqa: F401
    import torch

    import pcloud
    import pcloud.training
    from pcloud.training import data  # noqa: F401

    torch.set_num_threads(os.cpu_count() or 1)
    pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[:10], FEATURES)  # imports
    pcloud.read_jets(folder / "jets.parquet", stop=1)
    work = TASKS[name](folder)
    before = reset_peak()
    start = time.process_time()
    result = work()
    seconds = time.process_time() - start
    del result
    print(json.dumps({"bytes": peak() - before, "seconds": seconds}))


MEMORY = ("returned", "default", "retained")
"""Nothing set, what pcloud does by default, and `pcloud.keep_memory`."""


def steps(model: str, batch_size: int, memory: str) -> None:
    """Train on batches of different jets, print the median CPU time of a step and the peak memory."""
    import torch

    import pcloud

    torch.set_num_threads(os.cpu_count() or 1)
    if memory == "retained" and not pcloud.keep_memory():
        raise SystemExit("memory cannot be retained on this system")
    if memory == "returned":
        from pcloud.memory import _REUSE

        _REUSE.append(False)
    data = pcloud.JetDataset(pcloud.load_dataset("simulated", "train")[: 12 * batch_size], FEATURES)
    torch.manual_seed(0)
    network = pcloud.build_model(model, in_features=data.x.shape[1])
    optimizer = torch.optim.AdamW(network.parameters())
    loader = pcloud.JetLoader(data, batch_size, shuffle=True)
    times: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < STEP_SECONDS or len(times) < 4:
        for batch in loader:
            start = time.process_time()
            logits = network(batch.x, batch.p4, batch.batch)
            loss = torch.nn.functional.cross_entropy(logits, batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            times.append(time.process_time() - start)
            if time.perf_counter() - begin > STEP_SECONDS and len(times) >= 4:
                break
    print(json.dumps({"bytes": peak(), "seconds": statistics.median(times[2:])}))


STEP_SECONDS = 6.0  # of one process of `allocator`


def child(tree: Path, *arguments: object) -> dict[str, float]:
    """Run this script in a new process with the pcloud of the folder `tree`."""
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join([str(tree), *filter(None, others)])
    command = [sys.executable, __file__, "child", *map(str, arguments)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def compare_trees(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Print and return one row for each task and tree."""
    trees = {"this": REPOSITORY} | ({"other": options.against} if options.against else {})
    rows = []
    with tempfile.TemporaryDirectory(prefix="pcloud-memory-") as temporary:
        folder = options.files or Path(temporary)
        folder.mkdir(exist_ok=True, parents=True)
        if not (folder / "about.json").exists():
            child(REPOSITORY, "files", folder, options.jets)
        particles = json.loads((folder / "about.json").read_text())["particles"]
        print(f"{options.jets:,} jets, {particles:,} particles")
        print(f"{'task':<22}{'pcloud':<8}{'bytes a particle':>17}{'MB':>7}{'s':>7}")
        for name in options.tasks:
            for tree, place in trees.items():
                row = {"task": name, "pcloud": tree, **child(place, name, folder)}
                rows.append(row)
                per_particle = row["bytes"] / particles
                print(
                    f"{name:<22}{tree:<8}{per_particle:>17.0f}{row['bytes'] / 1e6:>7.0f}"
                    f"{row['seconds']:>7.2f}",
                    flush=True,
                )
    return rows


def compare_allocators(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Print and return one row for each network and batch size."""
    print(f"{'network':<18}{'jets':>6}" + "".join(f"{memory:>22}" for memory in MEMORY))
    rows = []
    for model in options.models:
        for size in options.batch_sizes:
            found: dict[str, list[dict[str, float]]] = {memory: [] for memory in MEMORY}
            for _ in range(options.repeats):
                for memory in found:
                    found[memory].append(child(REPOSITORY, "steps", model, size, memory))
            rows.append({"model": model, "batch_size": size, **found})
            text = f"{model:<18}{size:>6}"
            for results in found.values():
                seconds = statistics.median(result["seconds"] for result in results)
                megabytes = statistics.median(result["bytes"] for result in results) / 1e6
                text += f"{seconds * 1e3:>11.0f} ms{megabytes:>5.0f} MB"
            print(text, flush=True)
    return rows


def run_child(what: str, *arguments: str) -> None:
    """Do what `child` asks for."""
    if what == "files":
        write_files(Path(arguments[0]), int(arguments[1]))
        print("{}")
    elif what == "steps":
        steps(arguments[0], int(arguments[1]), arguments[2])
    else:
        measure(what, Path(arguments[0]))


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        run_child(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", nargs="?", choices=("reading", "allocator"), default="reading")
    parser.add_argument("--jets", type=int, default=200_000, help="jets in each file")
    parser.add_argument("--against", type=Path, help="folder of another pcloud")
    parser.add_argument("--files", type=Path, help="folder of the files, to use them again")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--models", nargs="+", default=ALLOCATOR_MODELS)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[128])
    parser.add_argument("--repeats", type=int, default=2, help="processes of each kind (allocator)")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    rows = (compare_allocators if options.what == "allocator" else compare_trees)(options)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
