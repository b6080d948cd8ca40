"""Time of exported networks for one jet and for batches, beside eager PyTorch, on one thread.

Each network is exported and called in turn with the others, so that other jobs of the machine slow down all
of them: medians and 99th percentiles in ms, and the ratio of the medians to eager code. The eager code is the
fastest of this package: inference mode, a layout made before, memory retained between calls. One jet has 50
particles; batches are the first jets of the test split, padded to the longest for exported networks.

    python benchmarks/latency.py --out latency --models pfn particlenet_lite
    python benchmarks/latency.py --out latency --models part --runtimes onnx --batches 1 --profile
    python benchmarks/latency.py --out latency --batches 1 --core 1 --again      # the targets
    python benchmarks/latency.py --out latency --batches 128 --core 1 --runtimes onnx ragged weaver

Networks are trained for one epoch on 256 jets: their times do not depend on the weights. Files and results
in the folder `--out` are used again, so that a run that was ended goes on; with `--again` everything is
measured anew with the files that are there. `weaver` is the network of weaver-core (extra `bench`) as
weaver-core exports it, which starts from features and not from momenta.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import MODELS as WEAVER_MODELS
from peers import weaver

import pcloud
from pcloud.errors import InputError, MissingExtraError
from pcloud.export import ExportOptions
from pcloud.export.export import sample_of_test, source_of
from pcloud.export.inputs import CloudInputs, JetArrays
from pcloud.export.package import load_package
from pcloud.export.packages import onnxruntime
from pcloud.export.record import Session
from pcloud.memory import keep_memory
from pcloud.nn.layout import RaggedLayout

_PARTICLES = 50
_TARGETS = {
    "pfn": 3.0, "particlenet_lite": 3.5, "particlenet": 2.0, "part": 3.0, "lgatr_slim": 1.5,
    "lorentznet": 2.5,
}  # fmt: skip
_CALLS_OF_A_TURN = 10
_RUNTIMES = ("torch.export", "onnx", "int8", "static int8", "aot", "ragged", "weaver")
_INT8 = {"int8": "dynamic", "static int8": "static"}
Call = Callable[[], Any]


def interleaved(
    calls: Mapping[str, Call], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> dict[str, tuple[float, float]]:
    """Median and 99th percentile in ms of each call.

    The calls take turns, ten at a time, of which the first one is not counted: the caches then hold
    what other calls have used.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(3):
            call()
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or len(next(iter(times.values()))) < 20:
        for name, call in calls.items():
            call()
            for _ in range(_CALLS_OF_A_TURN - 1):
                start = clock()
                call()
                times[name].append(1e3 * (clock() - start))
    return {n: (float(np.median(t)), float(np.quantile(t, 0.99))) for n, t in times.items()}


def eager(run: pcloud.Run, arrays: list[JetArrays]) -> Call:
    """Probabilities of ragged jets by the network of a run."""
    network = run.network()
    features = run.feature_set
    p4 = torch.from_numpy(np.concatenate([jet["p4"] for jet in arrays]))
    ptr = np.cumsum([0, *(len(jet["p4"]) for jet in arrays)])
    layout = RaggedLayout.from_ptr(torch.from_numpy(ptr))

    def call() -> torch.Tensor:
        with torch.inference_mode():
            x = features(p4, layout.batch, num_jets=layout.num_jets)  # type: ignore[operator]
            return network(x, p4, layout.batch, layout).softmax(-1)

    return call


def exported(run: pcloud.Run, runtime: str, padded: bool, folder: Path) -> Callable[..., Any]:
    """Function of the inputs by name in a runtime; files that exist are used again."""
    if runtime == "weaver":
        return peer(run, folder)
    form = {"ragged": True} if runtime == "ragged" else {"padded": padded}
    options = ExportOptions(**form, jets=50, int8=_INT8.get(runtime))
    if runtime == "torch.export":
        source = source_of(run, options, sample_of_test(run, 50))
        free = [
            {i: torch.export.Dim.DYNAMIC for i, axis in enumerate(s) if isinstance(axis, str)}
            for s in source.shapes().values()
        ]
        graph = source.graph()
        program = torch.export.export(
            graph, tuple(source.example()), dynamic_shapes=(tuple(free),)
        ).module()

        def call(feed: dict[str, np.ndarray]) -> Any:
            with torch.inference_mode():
                return program(*(torch.from_numpy(feed[name]) for name in graph.names))

        return call
    kind = "ragged" if runtime == "ragged" else "padded" if padded else "one"
    suffix = ".pt2" if runtime == "aot" else ".onnx"
    path = folder / f"{Path(run.path).name}_{kind}{_name(_INT8.get(runtime))}{suffix}"
    if not path.exists():
        run.export(path, **form, jets=50, int8=_INT8.get(runtime))
    return load_package(path) if runtime == "aot" else Session(str(path))


def _name(int8: str | None) -> str:
    return "" if int8 is None else f"_{int8}"


def peer(run: pcloud.Run, folder: Path) -> Session:
    """Network of weaver-core of the kind of a run, with the settings of its export."""
    name = Path(run.path).name
    path = folder / f"{name}_weaver.onnx"
    if name not in WEAVER_MODELS:
        raise InputError(f"weaver-core has no {name}")
    if not path.exists():
        model = weaver(name, "fp32", compiled=False).model
        if name == "part":
            model.for_onnx = True
            model.pair_embed.for_onnx = True
        names = (
            ["features", "vectors", "mask"] if name == "part" else ["points", "features", "mask"]
        )
        sizes = {"points": 2, "features": 7, "vectors": 4, "mask": 1}
        axes = {n: {0: "N", 2: f"n_{n}"} for n in names}
        inputs = tuple(torch.rand(2, sizes[n], 64) + (n == "mask") for n in names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Softmax(model.eval()), inputs, str(path), input_names=names,
                output_names=["softmax"], dynamic_axes=axes | {"softmax": {0: "N"}},
                opset_version=15, dynamo=False,
            )  # fmt: skip
    return Session(str(path))


class _Softmax(torch.nn.Module):
    """Probabilities, as in the networks that weaver-core exports."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, C)."""
        return self.network(*tensors).softmax(1)


def inputs_of_peer(run: pcloud.Run, arrays: list[JetArrays]) -> dict[str, np.ndarray]:
    """Preprocessed inputs of weaver-core, padded to the longest jet."""
    feed = {}
    length = max(len(jet["p4"]) for jet in arrays)
    parts: dict[str, list[np.ndarray]] = {n: [] for n in ("points", "features", "vectors", "mask")}
    for jet in arrays:
        p4 = torch.from_numpy(jet["p4"])
        x = run.feature_set(p4, torch.zeros(len(p4), dtype=torch.long), num_jets=1)  # type: ignore[operator]
        rows = {
            "points": x[:, 5:7], "features": x, "vectors": p4[:, [1, 2, 3, 0]],
            "mask": torch.ones(len(p4), 1),
        }  # fmt: skip
        for name, values in rows.items():
            empty = length - len(values)
            parts[name].append(torch.nn.functional.pad(values, (0, 0, 0, empty)).T.numpy())
    for name, values in parts.items():
        feed[name] = np.ascontiguousarray(np.stack(values))
    return feed


def measure(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Times of one network by number of jets and runtime."""
    out = folder / name
    if not (out / "config.yaml").exists():
        pcloud.train(
            data="simulated", model=name, epochs=1, max_jets=256, out=str(out), progress=False
        )  # fmt: skip
    run = pcloud.Run(out)
    sample = pcloud.load_dataset("simulated", "test")[:2000]
    inputs = CloudInputs.of(run.feature_set, sample)  # type: ignore[arg-type]
    arrays = inputs.arrays(sample)
    jet = min(arrays, key=lambda a: abs(len(a["p4"]) - _PARTICLES))
    found = {}
    for number in arguments.batches:
        padded = number > 1
        jets = arrays[:number] if padded else [jet]
        feed = inputs.padded(jets) if padded else dict(jet)
        calls: dict[str, Call] = {"eager": eager(run, jets)}
        for runtime in arguments.runtimes:
            if runtime in ("ragged", "weaver") and not padded:
                continue
            try:
                function = exported(run, runtime, padded, folder)
            except (InputError, MissingExtraError) as error:
                print(f"{name}, {runtime}: {error}", flush=True)
                continue
            given = feed
            if runtime == "ragged":
                given = inputs.ragged(jets)
            elif runtime == "weaver":
                given = inputs_of_peer(run, jets)
            calls[runtime] = lambda f=function, x=given: f(x)  # type: ignore[misc]
        clock = time.thread_time if arguments.cpu_time else time.perf_counter
        found[str(number)] = interleaved(calls, arguments.seconds, clock)
        for line in rows(name, {str(number): found[str(number)]}):
            print(line, flush=True)
    return found


def rows(name: str, found: dict[str, Any]) -> list[str]:
    """Lines of the table."""
    lines = []
    for number, times in found.items():
        base = times["eager"][0]
        parts = [f"{n} {m:.2f} ({q:.2f}), {base / m:.2f}" for n, (m, q) in times.items()]
        line = f"| {name} | {number} | " + " | ".join(parts) + " |"
        fastest = min((times[r][0] for r in ("onnx", "aot") if r in times), default=None)
        if number == "1" and name in _TARGETS and fastest is not None:
            is_met = base / fastest >= _TARGETS[name]
            line += f" target {_TARGETS[name]}: {'met' if is_met else 'missed'}"
        lines.append(line)
    return lines


def profile(path: Path, feed: dict[str, np.ndarray], repeats: int = 100) -> list[str]:
    """Share of the time of ONNX Runtime by operator, the largest first."""
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(""))
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for _ in range(repeats):
        session.run(None, feed)
    written = Path(session.end_profiling())
    events = json.loads(written.read_text())
    written.unlink()
    spent: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
            calls[event["args"]["op_name"]] += 1
    total = sum(spent.values())
    return [
        f"{name}: {100 * time / total:.0f} %, {calls[name] // repeats} nodes"
        for name, time in spent.most_common(8)
    ]


def main() -> None:
    """Measure networks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(_TARGETS))
    parser.add_argument("--runtimes", nargs="+", choices=_RUNTIMES, default=list(_RUNTIMES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 128, 1024])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each runtime and batch")
    parser.add_argument("--profile", action="store_true", help="operators of ONNX Runtime, one jet")
    parser.add_argument("--out", default="latency", help="folder of runs, files and results")
    parser.add_argument("--again", action="store_true", help="measure what has been measured")
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time, on a machine with other jobs"
    )
    parser.add_argument("--core", type=int, help="number of the core on which all calls run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    keep_memory()
    folder = Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"load of the machine in the last 1, 5 and 15 minutes: {load}")
    print("| network | jets | runtime median (99 %) in ms, ratio to eager |")
    for name in arguments.models:
        stored = folder / f"{name}_{'_'.join(arguments.runtimes).replace(' ', '_')}.json"
        found = json.loads(stored.read_text()) if stored.exists() else {}
        if set(map(str, arguments.batches)) <= set(found) and not arguments.again:
            print("\n".join(rows(name, found)), flush=True)
        else:
            found |= measure(name, arguments, folder)
            stored.write_text(json.dumps(found))
        if arguments.profile:
            run = pcloud.Run(folder / name)
            sample = pcloud.load_dataset("simulated", "test")[:500]
            arrays = CloudInputs.of(run.feature_set, sample).arrays(sample)  # type: ignore[arg-type]
            jet = min(arrays, key=lambda a: abs(len(a["p4"]) - _PARTICLES))
            print("\n".join(profile(folder / f"{name}_one.onnx", dict(jet))), flush=True)


if __name__ == "__main__":
    main()
