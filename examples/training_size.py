"""Epistemic uncertainty against the number of training jets.

    python examples/training_size.py

Trains a small particle flow network on subsets of the embedded sample of increasing size. For each
network, the Laplace approximation gives the epistemic uncertainty of test jets, of jets with higher
momenta, of jets measured with a worse resolution, and of jets with pile-up. Every training is a run
folder, and every result is stored, so that an interrupted script resumes where it stopped.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pcloud
from pcloud.evaluation.figures.style import figure_style, line_styles, new_figure, save_figure
from pcloud.evaluation.measured import Measured

SAMPLES = ("test jets", "pT x 1.5", "smeared 30 %", "soft pile-up")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--jets",
        type=int,
        nargs="+",
        default=[300, 1000, 3000, 10_000, 30_000],
        help="numbers of training jets",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="seeds, one training each"
    )
    parser.add_argument(
        "--steps", type=int, default=200, help="minimum number of steps of each training"
    )
    parser.add_argument("--test-jets", type=int, default=2000, help="number of test jets")
    parser.add_argument("--width", type=int, default=48, help="width of all layers")
    parser.add_argument("--max-runs", type=int, help="maximum number of new trainings")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/training_size"),
        help="folder of the runs and results",
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    file = options.out / "results.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    todo = [(n, s) for s in options.seeds for n in options.jets if name(n, s) not in results]
    for jets, seed in todo[: options.max_runs]:
        run = train(options, jets, seed)
        samples = run.uncertainty("laplace", jets=options.test_jets).samples
        results[name(jets, seed)] = {s: samples[s]["epistemic"].to_dict() for s in SAMPLES}
        file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    draw(options, results)
    print(f"figure: {options.out / 'training_size.png'}")
    print(markdown(options, results))


def name(jets: int, seed: int) -> str:
    return f"jets_{jets}_{seed}"


def train(options: argparse.Namespace, jets: int, seed: int) -> pcloud.Run:
    widths, batch = [options.width] * 3, min(100, jets // 4)
    return pcloud.train(
        data="simulated",
        model="pfn",
        model_options={"phi_widths": widths, "head_widths": widths},
        max_jets=jets,
        max_val_jets=max(jets // 10, 100),
        epochs=max(options.steps * batch // jets, 1),
        batch_size=batch,
        seed=seed,
        split_seed=seed,
        out=options.out / name(jets, seed),
    )


@figure_style()
def draw(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Draw the mean epistemic uncertainty against the training jets, one line per test sample."""
    figure, (axes,) = new_figure(4.2)
    for sample, style in zip(SAMPLES, line_styles(len(SAMPLES)), strict=True):
        for seed in options.seeds:
            sizes = [n for n in options.jets if name(n, seed) in results]
            found = [Measured.from_dict(results[name(n, seed)][sample]) for n in sizes]
            values, errors = [m.value for m in found], [m.error for m in found]
            label = sample if seed == options.seeds[0] else None
            axes.errorbar(sizes, values, errors, marker="o", markersize=4, label=label, **style)
    axes.set(
        xscale="log", yscale="log", xlabel="training jets", ylabel="epistemic uncertainty (nat)"
    )
    axes.set_xticks(options.jets, [f"{n:,}" for n in options.jets])
    axes.minorticks_off()
    axes.legend(loc="lower left", fontsize=9)
    save_figure(figure, options.out / "training_size")


def markdown(options: argparse.Namespace, results: dict[str, Any]) -> str:
    """Table of the results in Markdown, in units of 10^-3 nat."""
    lines = [f"| training jets | seed | {' | '.join(SAMPLES)} |", "|---" * (2 + len(SAMPLES)) + "|"]
    for jets in options.jets:
        for seed in options.seeds:
            if row := results.get(name(jets, seed)):
                found = [Measured.from_dict(row[sample]) for sample in SAMPLES]
                cells = [str(m.scaled(1e3)) for m in found]
                lines.append(f"| {jets:,} | {seed} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
