"""Trade-off between background rejection and mass sculpting.

    python examples/decorrelation.py

Trains a small particle flow network on the embedded sample, without and with a penalty on the
distance correlation of score and mass over background jets (DisCo), for several weights of the
penalty. Every training is a run folder, and every result is stored, so that an interrupted script
resumes where it stopped. A training takes half a minute of CPU time; more ``--epochs`` give better
taggers.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pcloud
from pcloud.evaluation.figures.style import (
    MUTED,
    figure_style,
    line_styles,
    new_figure,
    save_figure,
)
from pcloud.evaluation.measured import Measured
from pcloud.evaluation.sculpting import measure_sculpting
from pcloud.io.jets import FlatJets
from pcloud.observables import jet_observables
from pcloud.training.decorrelation import distance_correlation

EFFICIENCY = 0.5
PAIRED_JETS = 3000  # background jets of the distance correlation, which uses all pairs


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--weights", type=float, nargs="+", default=[0, 0.5, 1.5, 3], help="weights of the penalty"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1], help="seeds, one training each"
    )
    parser.add_argument("--jets", type=int, default=36_000, help="training jets")
    parser.add_argument("--test-jets", type=int, default=10_000, help="number of test jets")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of each training")
    parser.add_argument(
        "--batch-size", type=int, default=500, help="jets in a batch; the penalty needs many"
    )
    parser.add_argument("--width", type=int, default=48, help="width of all layers")
    parser.add_argument("--max-runs", type=int, help="maximum number of new trainings")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/decorrelation"),
        help="folder of the runs and results",
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    file = options.out / "results.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    test = pcloud.load_dataset("simulated", "test")[: options.test_jets]
    mass = jet_observables(FlatJets.from_awkward(test), ["mass"])["mass"]
    todo = [(w, s) for s in options.seeds for w in options.weights if name(w, s) not in results]
    for weight, seed in todo[: options.max_runs]:
        run = train(options, weight, seed)
        scores = run.predict(test)
        results[name(weight, seed)] = measure(np.asarray(test.label), scores, mass, run.classes)
        file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        print(f"weight {weight:g}, seed {seed}: {said(results[name(weight, seed)])}")
    draw(options, results)
    print(f"figure: {options.out / 'decorrelation.png'}")
    print(markdown(options, results))


def name(weight: float, seed: int) -> str:
    return f"weight_{weight:g}_{seed}"


def train(options: argparse.Namespace, weight: float, seed: int) -> pcloud.Run:
    widths = [options.width] * 3
    penalty = {"decorrelate": "mass", "decorrelate_weight": weight} if weight else {}
    return pcloud.train(
        data="simulated",
        model="pfn",
        model_options={"phi_widths": widths, "head_widths": widths},
        max_jets=options.jets,
        max_val_jets=max(options.jets // 10, 100),
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=3e-3,
        seed=seed,
        out=options.out / name(weight, seed),
        **penalty,
    )


def measure(
    labels: np.ndarray, scores: np.ndarray, mass: np.ndarray, classes: list[str]
) -> dict[str, Any]:
    given = {"classes": classes, "signal": "top"}
    table = pcloud.evaluate(labels, scores, efficiencies=[EFFICIENCY], num_bootstrap=0, **given)
    (cut,) = measure_sculpting(labels, scores, mass, efficiencies=[EFFICIENCY], **given)
    found = {"rejection": table[f"rejection@{EFFICIENCY:g}"], "auc": table["auc"]}
    found |= {"distance": cut.distance, "noise": cut.noise}
    result = {key: value.to_dict() for key, value in found.items()}
    result["correlation"] = correlation(scores[labels == 0], mass[labels == 0])
    return result


def correlation(scores: np.ndarray, mass: np.ndarray) -> float:
    """Distance correlation (not squared) of the top score and the mass."""
    pairs = [torch.from_numpy(v[:PAIRED_JETS].astype(float)) for v in (scores[:, 1], mass)]
    return float(distance_correlation(*pairs, unbiased=True).clamp(min=0).sqrt())


def said(result: dict[str, Any]) -> str:
    """Row of the table."""
    order = ("auc", "rejection", "distance", "noise")
    numbers = [str(Measured.from_dict(result[key])) for key in order]
    return " | ".join([*numbers[:2], f"{result['correlation']:.3f}", *numbers[2:]])


@figure_style()
def draw(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Draw rejection against the distance of the background mass before and after the cut."""
    figure, (axes,) = new_figure(4.4)
    for seed, style in zip(options.seeds, line_styles(len(options.seeds)), strict=True):
        weights = [w for w in options.weights if name(w, seed) in results]
        if not weights:
            continue
        found = [results[name(w, seed)] for w in weights]
        x, y, noise = (
            [Measured.from_dict(r[key]) for r in found]
            for key in ("distance", "rejection", "noise")
        )
        at, up = [m.value for m in x], [m.value for m in y]
        bars = {
            "xerr": list(zip(*(m.sides() for m in x), strict=True)),
            "yerr": list(zip(*(m.sides() for m in y), strict=True)),
        }
        axes.errorbar(at, up, **bars, marker="o", capsize=2, linewidth=1, color=style["color"])
        blind = [m.value for m in noise]
        axes.plot(blind, up, "|", color=MUTED, markersize=9)
        for weight, *point in zip(weights, at, up, strict=True):
            text = f"{weight:g}" if weight else "no penalty"
            left = point[0] > 0.6 * max(at)
            where = {"xytext": (-7 if left else 7, 4), "ha": "right" if left else "left"}
            axes.annotate(text, point, textcoords="offset points", fontsize=9, **where)
    axes.set(
        xlabel=f"distance of the QCD mass before and after, $\\varepsilon_S = {EFFICIENCY:g}$",
        ylabel=r"rejection $1/\varepsilon_B$",
    )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    save_figure(figure, options.out / "decorrelation")


def markdown(options: argparse.Namespace, results: dict[str, Any]) -> str:
    """Table of the results in Markdown."""
    header = "weight | seed | AUC | 1/εB at εS = 0.5 | distance correlation | distance"
    header += " | random selection"
    lines = [f"| {header} |", "|---|---|---|---|---|---|---|"]
    for weight in options.weights:
        for seed in options.seeds:
            if name(weight, seed) in results:
                lines.append(f"| {weight:g} | {seed} | {said(results[name(weight, seed)])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
