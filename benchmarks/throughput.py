"""Rates of training and scoring, compared with the same networks of other codes.

    python benchmarks/throughput.py models         # jets/s and ratios, alternating in one process
    python benchmarks/throughput.py memory         # peak memory, each in its own process
    python benchmarks/throughput.py loader         # the loader compared with the fastest models
    python benchmarks/throughput.py latency        # one jet at a time; --forms eager exported
    python benchmarks/throughput.py models --device cuda --graphs --batch-sizes 1 32 512 4096

Results are stored in throughput.json in the folder `--out`, together with those of earlier runs,
and as tables in throughput.md. ``--clock cpu`` measures CPU time, for a machine with other jobs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peers import MODELS, Contender, average_jet, contenders, flat, sample
from torch.nn import functional as F

import pcloud
from pcloud.models import OneJet
from pcloud.models.flops import count_flops
from pcloud.training.environment import describe_environment

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_WARM = 20  # calls before the timing of one jet
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

FORMS = ("eager", "compiled", "exported")

# model, mode, precision of pcloud, precision of the peer, ratio of rates; "best" is the fastest
TARGETS = (
    ("particlenet", "train", "fp32", "fp32", 10),
    ("particlenet", "train", "best", "fp32", 20),
    ("particlenet", "train", "best", "bf16", 8),
    ("particlenet", "infer", "fp32", "fp32", 10),
    ("particlenet", "infer", "bf16", "fp32", 15),
    ("part", "train", "fp32", "fp32", 6),
    ("part", "train", "best", "bf16", 6),
    ("part", "infer", "fp32", "fp32", 4),
    ("particlenet_lite", "train", "fp32", "fp32", 6),
    ("particlenet_lite", "infer", "fp32", "fp32", 8),
    ("lorentznet", "train", "fp32", "fp32", 4),
    ("lorentznet", "infer", "fp32", "fp32", 4),
)


@dataclass(frozen=True)
class Setting:
    """Setting of a measurement."""

    model: str
    mode: str  # train or infer
    batch_size: int
    precision: str = "fp32"
    compiled: bool = False
    device: str = "cpu"
    kept: bool = False  # freed memory is retained in the process, see pcloud.keep_memory


class Step:
    """One training step or one inference step of a contender, always on the same jets."""

    def __init__(self, contender: Contender, setting: Setting, *, graph: bool = False) -> None:
        self.setting = setting
        self.model = contender.model.to(setting.device).train(setting.mode == "train")
        self.network = torch.compile(self.model) if setting.compiled else self.model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        jets = sample(setting.batch_size).to(setting.device)
        self.labels, self.inputs = jets.y, contender.inputs(jets)
        self.run = self.train if setting.mode == "train" else self.infer
        if graph:
            self.run = graphed(self.run)

    def logits(self) -> torch.Tensor:
        """Logits, computed in the precision of the setting."""
        dtype = DTYPES[self.setting.precision]
        with torch.autocast(self.setting.device, dtype, enabled=dtype != torch.float32):
            return self.network(*self.inputs)

    def train(self) -> None:
        """Forward pass, backward pass, and a step of the optimizer."""
        self.optimizer.zero_grad()
        F.cross_entropy(self.logits().float(), self.labels).backward()
        self.optimizer.step()

    @torch.inference_mode()
    def infer(self) -> None:
        """Forward pass."""
        self.logits()

    def flops(self) -> int:
        """Operations of the matrix products; a backward pass counts as two forward passes."""
        return count_flops(self.model, *self.inputs) * (3 if self.setting.mode == "train" else 1)


def graphed(step: Callable[[], None]) -> Callable[[], None]:
    """`step` as one CUDA graph, for small batches, in which launching a kernel takes longest."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def seconds(step: Callable[[], Any], device: str, clock: str) -> float:
    """Duration of one call: from events on a GPU, otherwise from the given clock."""
    if device == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3
    start = CLOCKS[clock]()
    step()
    return CLOCKS[clock]() - start


def matrix_rate(device: str, precision: str, clock: str, size: int = 1024) -> float:
    """FLOP/s of a large matrix product, the highest of ten."""
    a = torch.randn(size, size, device=device, dtype=DTYPES[precision])
    times = [seconds(lambda: a @ a, device, clock) for _ in range(10)]
    return 2 * size**3 / min(times)


def summary(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def compare(setting: Setting, options: argparse.Namespace) -> dict[str, Any]:
    """Rates of the peer and of pcloud in alternating steps, and their ratio for each step."""
    pair = contenders(setting.model, precision=setting.precision, compiled=setting.compiled)
    steps = {
        c.name: Step(
            c, setting, graph=options.graphs and c.name == "ours" and setting.mode == "infer"
        )
        for c in pair
    }
    flops = {name: step.flops() for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(options.repeats + 2):
        for name, step in steps.items():
            duration = seconds(step.run, setting.device, options.clock)
            if i >= 2:  # after two warm-up steps
                times[name].append(duration)
    rate = matrix_rate(setting.device, setting.precision, options.clock)
    peer, ours = times.values()
    return {
        "setting": asdict(setting),
        "clock": options.clock,
        "threads": torch.get_num_threads(),
        "ratio": summary([a / b for a, b in zip(peer, ours, strict=True)]),
        "matrix_rate": rate,
        "contenders": {
            name: {
                "seconds": summary(times[name]),
                "jets_per_second": setting.batch_size / statistics.median(times[name]),
                "of_matrix_rate": flops[name] / statistics.median(times[name]) / rate,
            }
            for name in steps
        },
    }


def settings(options: argparse.Namespace) -> Iterator[Setting]:
    for model, precision, compiled, mode, size in itertools.product(
        options.models, options.precisions, options.compiled, options.modes, options.batch_sizes
    ):
        rest = precision, compiled == "yes", options.device, options.keep_memory
        yield Setting(model, mode, size, *rest)


def measure_models(options: argparse.Namespace, results: Results) -> None:
    for setting in settings(options):
        results.add("models", compare(setting, options))


def measure_memory(options: argparse.Namespace, results: Results) -> None:
    """Peak memory of one step in addition to a step on four jets, each in a new process."""
    for setting in settings(options):
        peaks = {}
        for place, who in enumerate(("peer", "ours")):
            command = [sys.executable, __file__, "peak", json.dumps(asdict(setting)), str(place)]
            peaks[who] = float(subprocess.check_output(command))
        results.add("memory", {"setting": asdict(setting), "megabytes": peaks})


def print_peak(setting: Setting, place: int) -> None:
    if setting.kept:
        pcloud.keep_memory()
    contender = contenders(setting.model, precision=setting.precision)[place]
    Step(contender, replace(setting, batch_size=4)).run()  # torch loads libraries on first use
    step = Step(contender, setting)
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step.run()
        print((torch.cuda.max_memory_allocated() - before) / 1e6)
        return
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step.run()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6)


def measure_loader(options: argparse.Namespace, results: Results) -> None:
    """Rates of the loader and of the fastest models, and training with and without the loader."""
    size = max(options.batch_sizes)
    jets = pcloud.load_dataset("simulated", "train")[: 4 * size]
    data = pcloud.JetDataset(jets)
    pin = options.device == "cuda"
    loader = pcloud.JetLoader(data, batch_size=size, shuffle=True, pin_memory=pin)
    times = [seconds(lambda: list(loader), "cpu", options.clock) for _ in range(options.repeats)]
    loading = len(data) / statistics.median(times)
    for name in ("pfn", "particlenet_lite"):
        ours = Contender("ours", pcloud.build_model(name, in_features=7), flat)
        setting = Setting(name, "infer", size, device=options.device)
        step = Step(ours, setting)
        duration = [seconds(step.run, setting.device, options.clock) for _ in range(5)]
        scoring = size / statistics.median(duration[1:])
        row = {"setting": asdict(setting), "loader": loading, "scoring": scoring}
        results.add("loader", row | {"training": training_efficiency(ours, loader, options)})


def training_efficiency(
    ours: Contender, loader: pcloud.JetLoader, options: argparse.Namespace
) -> dict[str, float]:
    """Duration of an epoch divided by that of the same steps on prepared batches; alternating."""
    model = ours.model.to(options.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ready = [batch.to(options.device) for batch in loader]

    def epoch(batches: Any) -> None:
        for batch in batches:
            batch = batch.to(options.device, non_blocking=True)
            optimizer.zero_grad()
            F.cross_entropy(model(*ours.inputs(batch)), batch.y).backward()
            optimizer.step()

    epoch(ready)
    pairs = [
        [seconds(lambda b=b: epoch(b), options.device, options.clock) for b in (loader, ready)]
        for _ in range(options.repeats)
    ]
    return summary([loaded / stepped for loaded, stepped in pairs])


def measure_latency(options: argparse.Namespace, results: Results) -> None:
    """Time for one jet of average length, including its layout."""
    jet = average_jet().to(options.device)
    for name in options.models:
        model = pcloud.build_model(name, in_features=7)
        for form in options.forms:
            setting = Setting(name, "infer", 1, compiled=form == "compiled", device=options.device)
            step = Step(Contender("ours", model, flat), setting)
            step.inputs = flat(jet)
            if form == "exported":
                step.inputs = jet.x, jet.p4
                step.network = exported(model, *step.inputs)
            times = [
                seconds(step.run, setting.device, options.clock)
                for _ in range(_WARM + 20 * options.repeats)
            ]
            how = {"form": form, "threads": torch.get_num_threads()}
            row = {"setting": asdict(setting) | how, "clock": options.clock}
            row["particles"] = len(jet.x)
            row["milliseconds"] = summary([1e3 * t for t in times[_WARM:]])
            results.add("latency", row)


def exported(model: torch.nn.Module, x: torch.Tensor, p4: torch.Tensor) -> Callable[..., Any]:
    """`model` compiled to a file for one jet of any length, with a check of its scores."""
    one = OneJet(model, empty_slots=max(getattr(model, "neighbors", [-1])) + 1)
    particles = torch.export.Dim("particles", min=2, max=1000)
    program = torch.export.export(one, (x, p4), dynamic_shapes=({0: particles},) * 2)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "network.pt2")
        torch._inductor.aoti_compile_and_package(program, package_path=path)
        network = torch._inductor.aoti_load_package(path)
    torch.testing.assert_close(network(x, p4), one(x, p4), rtol=1e-3, atol=1e-4)
    return network


class Results:
    """All results in one file; a repeated measurement replaces the earlier one."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "throughput.json"
        self.tables: dict[str, list[dict[str, Any]]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self.tables = json.loads(self.path.read_text(encoding="utf-8"))["tables"]

    def add(self, table: str, row: dict[str, Any]) -> None:
        """Add `row` to `table`, and write the files."""
        rows = self.tables.setdefault(table, [])
        rows[:] = [r for r in rows if r["setting"] != row["setting"]] + [row]
        everything = {"environment": describe_environment(seed=0), "tables": self.tables}
        self.path.write_text(json.dumps(everything, indent=1), encoding="utf-8")
        self.path.with_suffix(".md").write_text(markdown(self.tables), encoding="utf-8")
        print(json.dumps(row), flush=True)


def markdown(tables: dict[str, list[dict[str, Any]]]) -> str:
    writers = {
        "models": models_table,
        "memory": memory_table,
        "loader": loader_table,
        "latency": latency_table,
    }
    parts = [writers[name](rows) for name, rows in tables.items()]
    if "models" in tables:
        parts.insert(0, targets_table(tables["models"]))
    return "\n".join("\n".join(part) + "\n" for part in parts)


def described(setting: dict[str, Any]) -> str:
    compiled = "compiled" if setting["compiled"] else "eager"
    compiled += ", memory retained" * setting.get("kept", False)
    keys = ("model", "mode", "batch_size", "precision")
    return " | ".join([*(str(setting[k]) for k in keys), compiled, setting["device"]])


def interval(values: dict[str, float], digits: int = 2) -> str:
    median, low, high = (f"{values[k]:.{digits}f}" for k in ("median", "low", "high"))
    return f"{median} [{low}, {high}]"


def models_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| model | mode | batch | precision | | device | peer | peer jets/s | pcloud jets/s | ratio [range] | peer, fraction of matrix rate | pcloud |"
    yield "|---" * 12 + "|"
    for row in rows:
        (name, peer), (_, ours) = row["contenders"].items()
        yield (
            f"| {described(row['setting'])} | {name} | {peer['jets_per_second']:.1f} "
            f"| {ours['jets_per_second']:.1f} | {interval(row['ratio'])} "
            f"| {peer['of_matrix_rate']:.0%} | {ours['of_matrix_rate']:.0%} |"
        )


def targets_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Every target, for all batch sizes and devices for which both networks were measured."""
    yield "| model | mode | pcloud | peer | batch | device | target | measured |"
    yield "|---" * 8 + "|"
    places = ("batch_size", "device", "kept")
    groups = dict.fromkeys(tuple(r["setting"].get(k, False) for k in places) for r in rows)
    for model, mode, precision, of_peer, factor in TARGETS:
        for size, device, kept in groups:
            known = [
                r
                for r in rows
                if [r["setting"].get(k, False) for k in ("model", "mode", *places)]
                == [model, mode, size, device, kept]
            ]
            ours = [
                r["contenders"]["ours"]["jets_per_second"]
                for r in known
                if precision in ("best", r["setting"]["precision"])
            ]
            peer = [
                next(iter(r["contenders"].values()))["jets_per_second"]
                for r in known
                if r["setting"]["precision"] == of_peer
            ]
            if ours and peer:
                yield (
                    f"| {model} | {mode} | {precision} | {of_peer} | {size} "
                    f"| {device}{', memory retained' * kept} | {factor} | {max(ours) / max(peer):.1f} |"
                )


def memory_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| model | mode | batch | precision | | device | peer MB | pcloud MB | pcloud / peer |"
    yield "|---" * 9 + "|"
    for row in rows:
        peer, ours = row["megabytes"]["peer"], row["megabytes"]["ours"]
        yield f"| {described(row['setting'])} | {peer:.0f} | {ours:.0f} | {ours / peer:.3f} |"


def loader_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| model | batch | device | loader jets/s | scoring jets/s | ratio | epoch / its steps [range] |"
    yield "|---" * 7 + "|"
    for row in rows:
        setting, loading, scoring = row["setting"], row["loader"], row["scoring"]
        yield (
            f"| {setting['model']} | {setting['batch_size']} | {setting['device']} | {loading:.0f} "
            f"| {scoring:.0f} | {loading / scoring:.1f} | {interval(row['training'], 3)} |"
        )


def latency_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| model | particles | | device | threads | ms per jet [range] |"
    yield "|---" * 6 + "|"
    for row in rows:
        setting = row["setting"]
        yield (
            f"| {setting['model']} | {row['particles']} | {setting['form']} | {setting['device']} "
            f"| {setting['threads']} | {interval(row['milliseconds'])} |"
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "what", choices=["models", "memory", "loader", "latency", "peak"], help="measurement"
    )
    parser.add_argument("peak", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/throughput"), help="folder of the results"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="models")
    parser.add_argument(
        "--modes", nargs="+", choices=["train", "infer"], default=["train", "infer"], help="modes"
    )
    parser.add_argument(
        "--batch-sizes", nargs="+", type=int, default=[1, 32, 512], help="batch sizes"
    )
    parser.add_argument(
        "--precisions", nargs="+", choices=DTYPES, default=[*DTYPES], help="precisions"
    )
    parser.add_argument(
        "--compiled", nargs="+", choices=["no", "yes"], default=["no"], help="torch.compile"
    )
    parser.add_argument(
        "--forms", nargs="+", choices=FORMS, default=["eager"], help="forms of a model for latency"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="device")
    parser.add_argument("--graphs", action="store_true", help="score with CUDA graphs in pcloud")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="clock on a CPU")
    parser.add_argument("--threads", type=int, help="threads of PyTorch (default: its own choice)")
    parser.add_argument(
        "--keep-memory",
        action="store_true",
        help="retain freed memory in the process, for both networks",
    )
    parser.add_argument("--repeats", type=int, default=7, help="measurements of each setting")
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.keep_memory and not pcloud.keep_memory():
        sys.exit(
            "--keep-memory needs Linux, the GNU C library, and no MALLOC_... in the environment"
        )
    if options.what == "peak":
        setting, place = options.peak
        print_peak(Setting(**json.loads(setting)), int(place))
        return
    measure = {
        "models": measure_models,
        "memory": measure_memory,
        "loader": measure_loader,
        "latency": measure_latency,
    }
    results = Results(options.out)
    measure[options.what](options, results)
    print(markdown(results.tables))


if __name__ == "__main__":
    main()
