"""Table of exported networks: parity, size, operators and time per jet.

Trains each network on the embedded sample, exports it for one jet, and prints one row. The time is that of
one jet of 50 particles on one thread: the median over repeated calls of our eager code and of ONNX Runtime.

    python benchmarks/export.py --models pfn particlenet_lite part
    python benchmarks/export.py --models all --epochs 4 --out exported
    python benchmarks/export.py --models part lgatr --jets 1000 --out exported --train
    python benchmarks/export.py --models all --out exported --markdown

A call goes on where an earlier one with the same folder `--out` was ended: networks that are trained and rows
that are there are used again. With `--train` networks are trained only.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import pcloud
from pcloud.errors import InputError
from pcloud.export.check import ExportedTagger
from pcloud.models import list_models
from pcloud.nn.layout import RaggedLayout

_PARTICLES = 50


def milliseconds(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and 99th percentile of the time of a call."""
    for _ in range(10):
        call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times)), float(np.quantile(times, 0.99))


def eager(run: pcloud.Run, p4: np.ndarray) -> Callable[[], torch.Tensor]:
    """Our fastest eager code: inference mode, and a layout made before."""
    network = run.network()
    momenta = torch.from_numpy(p4)
    layout = RaggedLayout.from_ptr(torch.tensor([0, len(p4)]))
    features = run.feature_set

    def call() -> torch.Tensor:
        with torch.inference_mode():
            x = features(momenta, layout.batch, num_jets=1)  # type: ignore[operator]
            return network(x, momenta, layout.batch, layout).softmax(-1)

    return call


def trained(name: str, arguments: argparse.Namespace, folder: Path) -> int:
    """Train a network, unless that is done; number of training jets."""
    done = folder / f"{name}.trained"
    if not done.exists():
        pcloud.train(
            data="simulated", model=name, epochs=arguments.epochs, max_jets=arguments.jets,
            max_val_jets=500, batch_size=arguments.batch_size, out=str(folder / name), progress=False, overwrite=True,
        )  # fmt: skip
        done.write_text(str(arguments.jets))
    return int(done.read_text())


def row(name: str, arguments: argparse.Namespace, folder: Path) -> list[str]:
    """Train, export and time one network; one cell with the reason where it cannot be exported."""
    try:
        jets_of_training = trained(name, arguments, folder)
        run = pcloud.Run(folder / name)
        written = run.export(folder / f"{name}.onnx", overwrite=True)
    except InputError as error:
        return [name, str(error)]
    tagger = ExportedTagger(written.path)
    jets = tagger.inputs.arrays(pcloud.load_dataset("simulated", "test")[:2000])
    jet = min(jets, key=lambda a: abs(len(a["p4"]) - _PARTICLES))
    ours, _ = milliseconds(eager(run, jet["p4"]), arguments.repeats)
    theirs, slowest = milliseconds(lambda: tagger.session(jet), arguments.repeats)
    parity = written.parity
    same = "" if parity.with_neighbors is None else f"{parity.with_neighbors:.0e}"
    change = "" if parity.auc_change is None else f"{parity.auc_change:+.0e}"
    return [
        name,
        f"{jets_of_training:,}",
        f"{parity.difference:.0e}",
        f"{100 * parity.share:.1f}",
        same,
        change,
        f"{written.num_bytes / 1e6:.2f}",
        str(len(written.operators)),
        f"{ours:.2f}",
        f"{theirs:.2f}",
        f"{slowest:.2f}",
        f"{ours / theirs:.1f}",
    ]


def markdown(cells: list[str]) -> str:
    """Line of a table in Markdown; below the header, its rule."""
    line = f"| {' | '.join(cells)} |"
    return line if cells != _HEADER else f"{line}\n|{'---|' * len(cells)}"


_HEADER = [
    *(
        "network",
        "training jets",
        "largest difference",
        "below 1e-4, %",
        "same neighbours",
        "change of AUC",
    ),
    *("MB", "operators", "eager, ms", "ONNX Runtime, ms", "99 %, ms", "ratio"),
]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["pfn", "particlenet_lite", "part"])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--jets", type=int, default=5000, help="training jets")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--train", action="store_true", help="train only, without exports")
    parser.add_argument(
        "--markdown", action="store_true", help="rows for a page of the documentation"
    )
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--out", help="folder of runs and files, kept for another call")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = list_models() if arguments.models == ["all"] else arguments.models
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.out or temporary)
        folder.mkdir(exist_ok=True)
        show = markdown if arguments.markdown else " | ".join
        print(show(_HEADER))
        for name in names:
            if arguments.train:
                print(f"{name}: {trained(name, arguments, folder)} jets", flush=True)
                continue
            stored = folder / f"{name}.row.json"
            if not stored.exists():
                stored.write_text(json.dumps(row(name, arguments, folder)))
            print(show(json.loads(stored.read_text())), flush=True)


if __name__ == "__main__":
    main()
