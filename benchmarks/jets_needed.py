"""AUC against the number of training jets, from random weights and fine-tuned.

    python benchmarks/jets_needed.py --models transformer lorentznet lgatr_slim --jets 100 300 1000

Each network is first trained on other jets of the embedded sample, whose energies are smeared by 30 %, as
if they were of another detector. Then it is trained on each number of jets, once from random weights and
once from these. All are tested on the same jets. The networks have two layers and few channels, so that
a CPU trains them in minutes. Finished trainings are not repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

import pcloud
from pcloud.evaluation.figures.style import figure_style, line_styles, new_figure, save_figure
from pcloud.evaluation.measured import Measured
from pcloud.io import write_jets

OPTIONS: dict[str, dict[str, Any]] = {
    "transformer": {"embed_widths": [32], "num_heads": 4, "num_layers": 2, "num_class_layers": 1},
    "lorentznet": {"num_layers": 2, "width": 24},
    "lgatr_slim": {"num_layers": 2, "vector_width": 8, "scalar_width": 16, "num_heads": 4},
    "pfn": {"phi_widths": [32, 32], "head_widths": [32]},
}
"""Options of the small networks."""
_SMEARING = 0.3
_BATCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(OPTIONS)[:3], help="networks")
    parser.add_argument("--jets", type=int, nargs="+", default=[100, 300, 1000], help="sizes")
    parser.add_argument("--first-jets", type=int, default=3000, help="jets of the first training")
    parser.add_argument("--test-jets", type=int, default=2000, help="test jets")
    parser.add_argument("--steps", type=int, default=150, help="least steps of a training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds")
    parser.add_argument("--out", type=Path, default=Path("runs/jets_needed"), help="folder")
    parser.add_argument("--figure", type=Path, help="PNG file of the figure")
    options = parser.parse_args()
    make_files(options)
    print(f"| network | weights | {' | '.join(f'{n:,} jets' for n in options.jets)} |")
    print("|---" * (2 + len(options.jets)) + "|")
    curves: dict[str, list[list[Measured]]] = {}
    for model in options.models:
        for start in ("random", "fine-tuned"):
            found = [
                [area(options, model, start, number, seed) for seed in options.seeds]
                for number in options.jets
            ]
            curves[f"{model}, {start}"] = found
            print(f"| {model} | {start} | {' | '.join(map(shown, found))} |", flush=True)
    if options.figure:
        draw(curves, options)


def make_files(options: argparse.Namespace) -> None:
    """Write the jets of the two trainings, which share none, and the test jets."""
    options.out.mkdir(parents=True, exist_ok=True)
    jets = pcloud.load_dataset("simulated", "train")
    number = options.first_jets
    parts = {
        "first": smeared(jets[:number]),
        "train": jets[number : number + max(options.jets)],
        "val": pcloud.load_dataset("simulated", "val")[:500],
        "test": pcloud.load_dataset("simulated", "test")[: options.test_jets],
    }
    for name, part in parts.items():
        if not (file := options.out / f"{name}.parquet").exists():
            write_jets(part, file)


def smeared(jets: ak.Array) -> ak.Array:
    """Jets each of whose particles has another energy, in the same direction."""
    counts = ak.num(jets.p4.E)
    factor = np.maximum(1 + _SMEARING * np.random.default_rng(1).normal(size=ak.sum(counts)), 0.1)
    ratio = ak.unflatten(factor.astype(np.float32), counts)
    p4 = ak.zip({q: jets.p4[q] * ratio for q in ("E", "px", "py", "pz")}, with_name="Momentum4D")
    return ak.with_field(jets[["label"]], p4, "p4")


def train(options: argparse.Namespace, name: str, data: str, **training: Any) -> pcloud.Run:
    """Train a network of two layers with one recipe for all."""
    return pcloud.train(
        data=options.out / f"{data}.parquet",
        val=options.out / "val.parquet",
        test=options.out / "test.parquet",
        out=options.out / name,
        recipe="particlenet_lite_original",
        lr=1e-3,
        batch_size=_BATCH,
        progress=False,
        **training,
    )


def area(options: argparse.Namespace, model: str, start: str, number: int, seed: int) -> Measured:
    """AUC of a network that is trained on a number of jets."""
    steps = max(options.steps, 2 * number // _BATCH)
    common = {"model": model, "seed": seed}
    weights: dict[str, Any] = {"model_options": OPTIONS[model]}
    if start == "fine-tuned":
        epochs = max(1, 2 * options.steps * _BATCH // options.first_jets)
        first = train(options, f"{model}-first-{seed}", "first", epochs=epochs, **common, **weights)
        weights = {"init_from": str(first.path)}
    name = f"{model}-{start}-{number}-{seed}"
    length = max(1, steps * _BATCH // number)
    run = train(options, name, "train", max_jets=number, epochs=length, **common, **weights)
    return run.evaluate(num_bootstrap=0)["auc"]


def shown(found: list[Measured]) -> str:
    """Mean over seeds with the error of the test jets, and the spread of seeds."""
    values = [one.value for one in found]
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{Measured(float(np.mean(values)), found[0].error)}{spread}"


@figure_style()
def draw(curves: dict[str, list[list[Measured]]], options: argparse.Namespace) -> None:
    """Draw 1 - AUC against the number of jets: fine-tuned dashed, in the colour of its network."""
    figure, (axes,) = new_figure(4.2)
    styles = line_styles(len(options.models))
    for i, (label, found) in enumerate(curves.items()):
        values = [1 - np.mean([one.value for one in seeds]) for seeds in found]
        style = styles[i // 2] | {"linestyle": "--" if i % 2 else "-"}
        errors = [seeds[0].error for seeds in found]
        axes.errorbar(options.jets, values, errors, marker="o", markersize=4, label=label, **style)
    axes.set(xscale="log", yscale="log", xlabel="training jets", ylabel="1 - AUC")
    axes.legend(fontsize=8)
    save_figure(figure, options.figure.with_suffix(""))


if __name__ == "__main__":
    main()
