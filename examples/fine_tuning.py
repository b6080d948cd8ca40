"""Fine-tuning compared with training from scratch, against the number of training jets.

    python examples/fine_tuning.py ParticleNet_kin.pt

Fine-tunes the official JetClass weights of ParticleNet (models/ParticleNet_kin.pt in
github.com/jet-universe/particle_transformer), or a run of your own, for top tagging on the embedded
sample. Every training is a run folder, and every result is stored, so that an interrupted script
resumes where it stopped.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pcloud
from pcloud.evaluation.figures.style import figure_style, line_styles, new_figure, save_figure
from pcloud.evaluation.measured import Measured

METRICS = {"auc": "AUC", "rejection@0.5": r"$1/\varepsilon_B$ at $\varepsilon_S = 0.5$"}
BEGINNINGS = {"scratch": "from scratch", "fine_tuned": "fine-tuned"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", help="official weights, or the folder of a run")
    parser.add_argument("--model", default="particlenet", help="model of the weights")
    parser.add_argument(
        "--jets", type=int, nargs="+", default=[500, 2000, 16000], help="numbers of training jets"
    )
    parser.add_argument(
        "--epochs", type=int, nargs="+", default=[8, 4, 1], help="epochs for each number of jets"
    )
    parser.add_argument(
        "--steps", type=int, default=125, help="steps of each training; sets the batch size"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds, one training each"
    )
    parser.add_argument("--test-jets", type=int, default=5000, help="number of test jets")
    parser.add_argument("--max-runs", type=int, help="maximum number of new trainings")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/fine_tuning"), help="folder of the runs and results"
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    file = options.out / "results.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    test = pcloud.load_dataset("simulated", "test")[: options.test_jets]
    todo = [training for training in trainings(options) if training[0] not in results]
    for name, settings in todo[: options.max_runs]:
        run = pcloud.train(out=options.out / name, **settings)
        table = pcloud.evaluate(test.label, run.predict(test), classes=run.classes, num_bootstrap=0)
        results[name] = {metric: table[metric].to_dict() for metric in METRICS}
        file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        print(f"{name}: AUC {table['auc']}, 1/εB at εS = 0.5 {table['rejection@0.5']}")
    draw(options, results)
    print(f"figure: {options.out / 'fine_tuning.png'}")
    print(markdown(options, results))


def trainings(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and settings of each training: all sizes with the first seed, then the other seeds."""
    lengths = list(zip(options.jets, options.epochs, strict=True))
    order = [(seed, *length) for seed in options.seeds[:1] for length in lengths]
    order += [(seed, *length) for length in lengths for seed in options.seeds[1:]]
    for seed, jets, epochs in order:
        settings = {
            "data": "simulated",
            "model": options.model,
            "max_jets": jets,
            "max_val_jets": max(options.test_jets // 5, 100),
            "epochs": epochs,
            "batch_size": max(jets * epochs // options.steps, 2),
            "seed": seed,
            "split_seed": seed,  # different jets, so that the spread includes their choice
        }
        yield f"scratch_{jets}_{seed}", settings
        # the default recipe is the published one for fine-tuning
        trained = {"init_from": options.weights, "reset_head": True}
        yield f"fine_tuned_{jets}_{seed}", settings | trained


def of_seeds(
    options: argparse.Namespace, results: dict[str, Any], beginning: str, jets: int, metric: str
) -> list[Measured]:
    """Measured values of the seeds that have been trained."""
    names = [f"{beginning}_{jets}_{seed}" for seed in options.seeds]
    return [Measured.from_dict(results[name][metric]) for name in names if name in results]


def summary(values: list[Measured]) -> tuple[float, float, float]:
    """Mean over seeds, standard deviation over seeds (0 for one seed), mean statistical error."""
    numbers = [value.value for value in values]
    spread = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return statistics.mean(numbers), spread, statistics.mean(value.error for value in values)


@figure_style()
def draw(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Draw one panel per metric: thick bars for the spread of seeds, thin bars for test jets."""
    figure, panels = new_figure(5.6, rows=len(METRICS))
    for axes, (metric, label) in zip(panels, METRICS.items(), strict=True):
        for side, beginning, style in zip((0.96, 1.04), BEGINNINGS, line_styles(2), strict=True):
            points = []
            for jets in options.jets:
                if values := of_seeds(options, results, beginning, jets, metric):
                    points.append((side * jets, *summary(values)))
            if not points:
                continue
            x, mean, spread, counting = zip(*points, strict=True)
            axes.plot(x, mean, "o", label=BEGINNINGS[beginning], linewidth=1, markersize=6, **style)
            bars = {"fmt": "none", "ecolor": style["color"]}
            axes.errorbar(x, mean, spread, elinewidth=7, alpha=0.35, **bars)
            axes.errorbar(x, mean, counting, elinewidth=1.2, capsize=3, **bars)
        axes.set(xscale="log", ylabel=label)
        axes.set_xticks(options.jets, [f"{jets:,}" for jets in options.jets])
        axes.minorticks_off()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    panels[-1].set_xlabel("training jets")
    save_figure(figure, options.out / "fine_tuning")


def markdown(options: argparse.Namespace, results: dict[str, Any]) -> str:
    """Table in Markdown: mean ± standard deviation over seeds, if several, ± statistical error."""
    lines = ["| training jets | | seeds | AUC | 1/εB at εS = 0.5 |", "|---|---|---|---|---|"]
    for jets in options.jets:
        for beginning, label in BEGINNINGS.items():
            cells = []
            for metric, digits in (("auc", 4), ("rejection@0.5", 0)):
                values = of_seeds(options, results, beginning, jets, metric)
                if values:
                    mean, spread, counting = summary(values)
                    numbers = [mean, spread, counting] if len(values) > 1 else [mean, counting]
                    cells.append(" ± ".join(f"{number:.{digits}f}" for number in numbers))
            if values:
                lines.append(f"| {jets:,} | {label} | {len(values)} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
