"""Rate of reading JetClass files for the features `kin`, beside an older version and the floor.

    python benchmarks/jetclass_rate.py [--jets 100000] [--against OLDER_CLONE] [--repeats 7]

The file has the branches of JetClass in baskets of 5000 jets, compressed by zlib at level 1 like the
published files; the momenta are those of the embedded sample (see io.py). Processes of both versions
alternate, and each reads the file three times with retained memory, the last time with a clock. Versions
that cannot select columns read all. The floor is what no reader of these columns can avoid: their
decompression, by zlib and by libdeflate, in one thread, and a copy of them.
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
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import uproot

REPOSITORY = Path(__file__).parents[1]
MOMENTA = ["part_energy", "part_px", "part_py", "part_pz", "part_deta", "part_dphi"]
READ = """
import inspect, json, sys, time
import pcloud
from pcloud.io import read_jets
pcloud.keep_memory()  # as the commands do
columns = {"columns": ["stored_deta", "stored_dphi"]}
given = columns if "columns" in inspect.signature(read_jets).parameters else {}
for _ in range(2):
    read_jets(sys.argv[1], **given)
start, used = time.perf_counter(), time.process_time()
jets = read_jets(sys.argv[1], **given)
print(json.dumps([len(jets) / (time.perf_counter() - start), len(jets) / (time.process_time() - used)]))
"""


def rate(tree: Path, path: Path) -> list[float]:
    """Jets per second, and per second of CPU time, of the pcloud in a folder."""
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tree), *filter(None, others)])}
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(
        command, env=environment, cwd=path.parent, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def blocks(path: Path) -> list[tuple[bytes, int]]:
    """Compressed blocks of the columns, and the number of bytes that each becomes."""
    found = []
    with uproot.open(path) as file, path.open("rb") as raw:
        for name in MOMENTA:
            branch = file["tree"][name]
            for key in map(branch.basket_key, range(branch.num_baskets)):
                raw.seek(key.fSeekKey + key.fKeylen + 9)  # behind the header of the only block
                stored = raw.read(key.fNbytes - key.fKeylen - 9)
                found.append((stored, key.data_uncompressed_bytes))
    return found


def floor(path: Path, num_jets: int) -> dict[str, float]:
    """Jets per second of CPU time of what no reader can avoid."""
    pieces = blocks(path)
    memory = np.ones(sum(size for _, size in pieces), dtype=np.uint8)
    work: dict[str, Callable[[], object]] = {
        "zlib": lambda: [zlib.decompress(data, bufsize=size) for data, size in pieces],
        "copy": memory.copy,
    }
    try:
        import deflate
    except ImportError:
        pass
    else:
        work["libdeflate"] = lambda: [deflate.zlib_decompress(d, size) for d, size in pieces]
    rates = {}
    for name, function in work.items():
        start = time.process_time()
        function()
        rates[name] = num_jets / (time.process_time() - start)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--jets", type=int, default=100_000, help="jets in the file")
    parser.add_argument("--against", type=Path, help="clone of another version")
    parser.add_argument("--repeats", type=int, default=7, help="processes of each version")
    options = parser.parse_args()
    shared = runpy.run_path(str(Path(__file__).with_name("io.py")))
    trees = {"this": REPOSITORY} | ({"other": options.against} if options.against else {})
    with tempfile.TemporaryDirectory(prefix="pcloud-jetclass-") as folder:
        path = Path(folder) / "jetclass.root"
        shared["write_jetclass"](shared["make_jets"](options.jets), path)
        floors = floor(path, options.jets)
        rates: dict[str, list[list[float]]] = {name: [] for name in trees}
        for _ in range(options.repeats):
            for name, tree in trees.items():
                rates[name].append(rate(tree, path))
    print(f"load {os.getloadavg()[0]:.1f}; jets/s, and jets per second of CPU time")
    for name, found in rates.items():
        wall, cpu = ([pair[i] for pair in found] for i in (0, 1))
        print(
            f"{name:<6}{statistics.median(wall):>10,.0f} [{min(wall):,.0f}, {max(wall):,.0f}]"
            f"{statistics.median(cpu):>10,.0f} [{min(cpu):,.0f}, {max(cpu):,.0f}]"
        )
    for i, kind in enumerate(("wall-clock", "CPU")) if options.against else ():
        ratios = [a[i] / b[i] for a, b in zip(rates["this"], rates["other"], strict=True)]
        low, high = min(ratios), max(ratios)
        print(f"ratio of {kind} rates {statistics.median(ratios):.1f} [{low:.1f}, {high:.1f}]")
    print("floor " + ", ".join(f"{name} {value:,.0f}" for name, value in floors.items()))


if __name__ == "__main__":
    main()
