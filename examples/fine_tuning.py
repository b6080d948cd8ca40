"""What weights trained on other jets are worth: fine-tuned against from scratch, by training jets.

    python examples/fine_tuning.py ParticleNet_kin.pt

takes the official JetClass weights of ParticleNet (github.com/jet-universe/particle_transformer,
models/ParticleNet_kin.pt), or a run of your own, to top tagging on the jets in the package. Every
training is a run folder and every result is kept: started again, it goes on where it was.
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
    parser.add_argument("--model", default="particlenet")
    parser.add_argument("--jets", type=int, nargs="+", default=[500, 2000, 16000])
    parser.add_argument("--epochs", type=int, nargs="+", default=[8, 4, 1], help="of each size")
    parser.add_argument("--steps", type=int, default=125, help="in each training: sets the batch")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test-jets", type=int, default=5000)
    parser.add_argument("--max-runs", type=int, help="train so many, draw, and stop")
    parser.add_argument("--out", type=Path, default=Path("runs/fine_tuning"))
    return parser.parse_args()


def main() -> None:
    options = arguments()
    file = options.out / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    test = pcloud.load_dataset("simulated", "test")[: options.test_jets]
    todo = [training for training in trainings(options) if training[0] not in results]
    for name, settings in todo[: options.max_runs]:
        run = pcloud.train(out=options.out / name, **settings)
        table = pcloud.evaluate(test.label, run.predict(test), classes=run.classes, num_bootstrap=0)
        results[name] = {metric: table[metric].to_dict() for metric in METRICS}
        file.write_text(json.dumps(results, indent=2) + "\n")
        print(f"{name}: AUC {table['auc']}, 1/εB at εS = 0.5 {table['rejection@0.5']}")
    draw(options, results)
    print(f"figure: {options.out / 'fine_tuning.png'}")
    print(markdown(options, results))


def trainings(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and settings of each training: the first seed at all sizes, then the others."""
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
            "split_seed": seed,  # other jets too: the spread is that of the whole procedure
        }
        yield f"scratch_{jets}_{seed}", settings
        # the recipe of the published fine-tuning is chosen by default
        trained = {"init_from": options.weights, "reset_head": True}
        yield f"fine_tuned_{jets}_{seed}", settings | trained


def of_seeds(
    options: argparse.Namespace, results: dict[str, Any], beginning: str, jets: int, metric: str
) -> list[Measured]:
    """The measured values of the seeds that are there."""
    names = [f"{beginning}_{jets}_{seed}" for seed in options.seeds]
    return [Measured.from_dict(results[name][metric]) for name in names if name in results]


def summary(values: list[Measured]) -> tuple[float, float, float]:
    """Mean of the seeds, their standard deviation (0 for one), mean counting error."""
    numbers = [value.value for value in values]
    spread = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return statistics.mean(numbers), spread, statistics.mean(value.error for value in values)


@figure_style()
def draw(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """A panel for each metric: thick bars are the spread of the seeds, thin ones count jets."""
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
    """The same as a table: mean ± spread of the seeds, if several, ± counting error."""
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
