"""Scaling of time and memory with particles per jet, jets per batch, and threads.

    python benchmarks/scaling.py --out runs/scaling                 # measure, and draw the figures
    python benchmarks/scaling.py --out runs/scaling --limit 60      # with larger clouds

A curve ends at the first point that takes longer than `--limit` seconds. Every point is measured in
its own process, after a small cloud; memory is the increase of the peak memory after the small
cloud. The results are stored in scaling.json in the folder.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pcloud
import pcloud.models  # which every fork would import otherwise
from pcloud import kinematics
from pcloud.evaluation.figures import figure_style, save_figure
from pcloud.evaluation.figures.style import line_styles, new_figure
from pcloud.features import feature_set
from pcloud.nn import RaggedLayout, knn

PARTICLES = [10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000]
BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
MODELS = ("pfn", "particlenet_lite", "particlenet", "part", "lorentznet")
NEIGHBORS = 16
JET = 52  # particles in an average jet


def clouds(count: int, particles: int) -> tuple[Tensor, Tensor, Tensor]:
    """``x, p4, batch`` of clouds around the origin of pseudorapidity and azimuth."""
    generator = torch.Generator().manual_seed(0)
    n = count * particles
    eta, phi = 0.3 * torch.randn(2, n, generator=generator)
    pt = torch.rand(n, generator=generator) * 10 + 0.5
    p4 = kinematics.from_pt_eta_phi_mass(pt, eta, phi, 0.14)
    batch = torch.arange(count).repeat_interleave(particles)
    return feature_set("kin")(p4, batch), p4, batch


def search(backend: str, count: int, particles: int, dimensions: int) -> Callable[[], Any]:
    """Neighbour search in normally distributed points."""
    pos = torch.randn(count * particles, dimensions, generator=torch.Generator().manual_seed(0))
    layout = RaggedLayout.from_ptr(torch.arange(count + 1) * particles)
    return lambda: knn(pos, layout, NEIGHBORS, backend=backend)


def score(name: str, count: int, particles: int) -> Callable[[], Any]:
    """Scoring of clouds with a model."""
    model, inputs = pcloud.build_model(name, in_features=7).eval(), clouds(count, particles)
    return lambda: model(*inputs)


WORK: dict[str, Callable[[int, int], Callable[[], Any]]] = {
    "neighbours, 2 dimensions": lambda b, p: search("torch", b, p, 2),
    "neighbours, 32 dimensions": lambda b, p: search("torch", b, p, 32),
    "torch_cluster, 2 dimensions": lambda b, p: search("torch_cluster", b, p, 2),
    **{name: lambda b, p, name=name: score(name, b, p) for name in MODELS},
}


@torch.inference_mode()
def measure(queue: Any, what: str, count: int, particles: int, threads: int, repeats: int) -> None:
    """Shortest time of several in seconds (CPU time for one thread), and memory in megabytes."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    WORK[what](1, 10)()  # libraries are loaded on first use
    step, times = WORK[what](count, particles), []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while len(times) < repeats and sum(times) < 5:
        start = clock()
        step()
        times.append(clock() - start)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    queue.put((min(times), (after - before) * 1024 / 1e6))


def curve(what: str, points: list[tuple[int, int, int]], options: argparse.Namespace) -> list[Any]:
    """Rows for ``(jets, particles, threads)``, up to the first that exceeds the time limit."""
    rows = []
    for count, particles, threads in points:
        # A fork avoids the imports and starts with the memory of an idle process.
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        arguments = (queue, what, count, particles, threads, options.repeats)
        process = context.Process(target=measure, args=arguments)
        process.start()
        seconds, megabytes = queue.get()
        process.join()
        row = {"jets": count, "particles": particles, "threads": threads}
        rows.append(row | {"seconds": seconds, "megabytes": megabytes})
        print(what, rows[-1], flush=True)
        if seconds > options.limit:
            break
    return rows


def run(options: argparse.Namespace) -> dict[str, dict[str, list[Any]]]:
    work = [w for w in WORK if options.work is None or w in options.work]
    if not has_torch_cluster():
        work = [w for w in work if not w.startswith("torch_cluster")]
    models = [w for w in work if w in MODELS]
    particles = [p for p in PARTICLES if p <= options.particles]
    batches = [b for b in BATCHES if b <= options.jets]
    threads = sorted({2**i for i in range(os.cpu_count().bit_length())} & {*options.threads})
    one = threads[0]
    return {
        "particles": {w: curve(w, [(1, p, one) for p in particles], options) for w in work},
        "batch": {w: curve(w, [(b, JET, one) for b in batches], options) for w in models},
        "threads": {w: curve(w, [(64, JET, t) for t in threads], options) for w in models},
    }


def has_torch_cluster() -> bool:
    try:
        import torch_cluster  # noqa: F401
    except ImportError:
        return False
    return True


def draw(curves: dict[str, dict[str, list[Any]]], folder: Path) -> None:
    with figure_style():
        for name, x, y, xlabel, ylabel in (
            ("time", "particles", "seconds", "particles per cloud", "seconds"),
            ("memory", "particles", "megabytes", "particles per cloud", "peak memory in MB"),
            ("batch", "batch", "rate", "jets per batch", "jets per second"),
            ("threads", "threads", "rate", "threads", "jets per second"),
        ):
            figure, (axes,) = new_figure(4.0)
            styles = line_styles(len(curves[x]))
            for style, (label, rows) in zip(styles, curves[x].items(), strict=True):
                key = "jets" if x == "batch" else x
                points = [(r[key], value(r, y)) for r in rows if value(r, y) > 0]
                if points:  # memory may be too small to be measured
                    x_values, y_values = zip(*points, strict=True)
                    axes.plot(x_values, y_values, marker="o", ms=3.5, **style, label=label)
            scale = "log" if axes.lines else "linear"
            axes.set(xscale=scale, yscale=scale, xlabel=xlabel, ylabel=ylabel)
            if x == "threads":  # small numbers, without powers of ten
                axes.set_xticks(sorted({r["threads"] for rows in curves[x].values() for r in rows}))
                axes.xaxis.set_major_formatter("{x:g}")
                axes.xaxis.set_minor_formatter("")
            if axes.lines:
                axes.legend(fontsize=8)
            save_figure(figure, folder / name)


def value(row: dict[str, float], quantity: str) -> float:
    return row["jets"] / row["seconds"] if quantity == "rate" else row[quantity]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, default=Path("runs/scaling"), help="folder of the results"
    )
    parser.add_argument(
        "--limit", type=float, default=20.0, help="longest time of a point in seconds"
    )
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each point")
    parser.add_argument("--work", nargs="+", choices=WORK, help="curves (default: all)")
    parser.add_argument("--particles", type=int, default=PARTICLES[-1], help="largest cloud")
    parser.add_argument("--jets", type=int, default=BATCHES[-1], help="largest batch")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[2**i for i in range(8)], help="threads"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "scaling.json"
    curves = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for kind, found in run(options).items():
        curves.setdefault(kind, {}).update(found)
    path.write_text(json.dumps(curves, indent=1), encoding="utf-8")
    draw(curves, options.out)


if __name__ == "__main__":
    main()
