"""Performance, with errors, and cost of taggers that are trained on the same jets.

    python benchmarks/top_tagging.py --out runs/top_tagging --seeds 1 2 3
    python benchmarks/top_tagging.py --out runs/landscape --data landscape --data-root FOLDER

Trains every model (or those of `--models`) with every seed, scores the test jets, counts operations
and measures rates. All numbers (top_tagging.json), a table (top_tagging.md) and a figure
(top_tagging.png) are written to the folder and updated after every training. Each training is a run
folder there. An interrupted command resumes when it is started again, and additional models or
seeds are added to the results.

`--recipe published` trains with the recipes of the papers and is the default for the Landscape set.
`--recipe short` trains all models with the same settings, for a number of epochs that is feasible
on a laptop. Published results are listed only for trainings on the full Landscape set with the
published recipes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch
from torch.nn import functional as F

import pcloud
from pcloud.errors import InputError, MissingExtraError
from pcloud.evaluation import EvaluationTable
from pcloud.evaluation.measured import Measured, round_together
from pcloud.models.flops import flops_per_jet
from pcloud.training.environment import describe_environment

METRICS = ("accuracy", "auc", "rejection@0.5", "rejection@0.3")
SHORT = {
    "optimizer": "adamw",
    "schedule": "one_cycle",
    "lr": 1e-3,
    "weight_decay": 0.01,
    "batch_size": 32,
    "gradient_clip": 1.0,
    "precision": "float32",
}

# Accuracy, AUC, 1/eB at eS = 0.5 and at 0.3 on the 404 000 test jets: PFN, P-CNN, ParticleNet and
# ParT from arXiv:2202.03772, ParticleNet-Lite from 1902.08570, LorentzNet from 2201.08187, PELICAN
# from 2307.16506, L-GATr from 2411.00446 (2405.14806 has 0.9868, 548 ± 26, 2148 ± 106),
# L-GATr-slim from 2512.17011.
PUBLISHED = {
    "pfn": ("0.932", "0.9819", "247 ± 3", "888 ± 17"),
    "pcnn": ("0.930", "0.9803", "201 ± 4", "759 ± 24"),
    "particlenet_lite": ("0.937", "0.9844", "325 ± 5", "1262 ± 49"),
    "particlenet": ("0.940", "0.9858", "397 ± 7", "1615 ± 93"),
    "part": ("0.940", "0.9858", "413 ± 16", "1602 ± 81"),
    "lorentznet": ("0.942", "0.9868", "498 ± 18", "2195 ± 173"),
    "pelican": ("0.9426", "0.9870", "", "2250 ± 75"),
    "lgatr": ("0.9423", "0.9870", "540 ± 20", "2240 ± 70"),
    "lgatr_slim": ("0.9420", "0.9869", "546 ± 7", "2264 ± 93"),
}
LANDSCAPE_TEST_JETS = 404_000


@dataclass
class Cost:
    """Cost of a model: parameters, operations and jets per second."""

    parameters: int
    flops_per_jet: float
    train_rate: float
    infer_rate: float


@dataclass
class Entry:
    """Results of a model: the metrics of every seed, and its cost."""

    seeds: dict[str, EvaluationTable] = field(default_factory=dict)
    cost: Cost | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        seeds = {seed: table.to_dict() for seed, table in self.seeds.items()}
        return {"cost": self.cost and asdict(self.cost), "seeds": seeds}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Entry:
        """Inverse of `to_dict`."""
        seeds = {seed: EvaluationTable.from_dict(t) for seed, t in fields["seeds"].items()}
        return cls(seeds, Cost(**fields["cost"]) if fields["cost"] else None)


@dataclass
class Results:
    """File of all results; results in the file are not computed again."""

    path: Path
    settings: dict[str, Any]
    entries: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, settings: dict[str, Any]) -> Results:
        """Results of a file; none if it does not exist.

        Raises
        ------
        InputError
            If the file contains results of other settings.
        """
        if not path.exists():
            return cls(path, settings)
        content = json.loads(path.read_text(encoding="utf-8"))
        for name, value in settings.items():
            if content["settings"].get(name) != value:
                raise InputError(
                    f"{path} has results of {name}={content['settings'].get(name)}, not {value}: "
                    f"choose another --out"
                )
        return cls(path, settings, {n: Entry.from_dict(e) for n, e in content["models"].items()})

    def of(self, model: str) -> Entry:
        """Results of `model`, which can be extended."""
        return self.entries.setdefault(model, Entry())

    def save(self) -> None:
        """Write the file."""
        models = {name: entry.to_dict() for name, entry in self.entries.items()}
        content = {"settings": self.settings, "models": models}
        self.path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def ranked(self) -> dict[str, Entry]:
        """Models with metrics, in order of increasing AUC."""
        trained = {name: entry for name, entry in self.entries.items() if entry.seeds}
        return dict(sorted(trained.items(), key=lambda item: mean(item[1], "auc")))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--models", nargs="+", default=pcloud.list_models(), help="models (default: all)"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="seeds")
    parser.add_argument("--data", default="simulated", help="data set with a test split")
    parser.add_argument("--data-root", help="folder of the public data sets")
    parser.add_argument("--recipe", choices=["short", "published"], help="training recipe")
    parser.add_argument(
        "--epochs", type=int, help="epochs, instead of those of the recipe (short: 3)"
    )
    parser.add_argument("--max-jets", type=int, help="training jets (default: all)")
    parser.add_argument("--max-val-jets", type=int, help="validation jets (short: 1000)")
    parser.add_argument("--max-test-jets", type=int, help="test jets (default: all)")
    parser.add_argument("--rate-jets", type=int, default=64, help="jets in the batch that is timed")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of the timing")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and results")
    options = parser.parse_args()
    if options.recipe is None:
        options.recipe = "published" if options.data == "landscape" else "short"
    if options.recipe == "short":
        options.epochs = options.epochs or 3
        options.max_val_jets = options.max_val_jets or 1000
    return options


# Training


def train_and_test(
    model: str, seed: int, options: argparse.Namespace, test: ak.Array
) -> EvaluationTable:
    """Train in a run folder, or resume the training, and score the test jets."""
    run = pcloud.train(
        data=options.data,
        data_root=options.data_root,
        model=model,
        max_jets=options.max_jets,
        max_val_jets=options.max_val_jets,
        epochs=options.epochs,
        seed=seed,
        out=str(options.out / model / f"seed{seed}"),
        **(SHORT if options.recipe == "short" else {}),
    )
    return pcloud.evaluate(test.label.to_numpy(), run.predict(test), classes=run.classes)


# Cost


class Timer:
    """Rates of several models on one batch, in turn, so that other jobs affect all equally."""

    def __init__(self, num_jets: int) -> None:
        data = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[:num_jets])
        (self.batch,) = pcloud.JetLoader(data, batch_size=num_jets)

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        """Inputs of a model."""
        return self.batch.x, self.batch.p4, self.batch.batch

    def costs(self, models: list[str], repeats: int) -> dict[str, Cost]:
        """Numbers of parameters, operations and median rates of the models."""
        networks = {name: pcloud.build_model(name, in_features=7) for name in models}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
        for i in range(repeats + 1):
            for name, model in networks.items():
                pair = self._train(model), self._infer(model)
                if i:  # the first repeat is a warm-up
                    times[name].append(pair)
        return {name: self._cost(networks[name], np.median(t, axis=0)) for name, t in times.items()}

    def _train(self, model: torch.nn.Module) -> float:
        start = time.perf_counter()
        model.train().zero_grad()
        F.cross_entropy(model(*self.inputs), self.batch.y).backward()
        return time.perf_counter() - start

    @torch.no_grad()
    def _infer(self, model: torch.nn.Module) -> float:
        start = time.perf_counter()
        model.eval()(*self.inputs)
        return time.perf_counter() - start

    def _cost(self, model: torch.nn.Module, seconds: np.ndarray) -> Cost:
        jets = self.batch.num_graphs
        return Cost(
            sum(p.numel() for p in model.parameters()),
            flops_per_jet(model),
            *(jets / seconds).tolist(),
        )


# Table


def mean(entry: Entry, metric: str) -> float:
    """Mean of a metric over the seeds."""
    return float(np.mean([table[metric].value for table in entry.seeds.values()]))


def cell(entry: Entry, metric: str) -> str:
    """Mean ± standard deviation over the seeds, and (± statistical error of the test jets)."""
    values: list[Measured] = [table[metric] for table in entry.seeds.values()]
    limits = [v for v in values if v.limit]
    if limits:
        return str(min(limits, key=float))
    average, counting = mean(entry, metric), float(np.mean([v.error for v in values]))
    if len(values) == 1:
        return "{} (± {})".format(*round_together(average, counting))
    value, spread = round_together(average, float(np.std([v.value for v in values], ddof=1)))
    return f"{value} ± {spread} (± {round_together(average, counting)[1]})"


def rows(found: dict[str, Entry], *, published: bool) -> Iterator[list[str]]:
    """Header, and a row for every model."""
    header = ["model", "seeds", "accuracy", "AUC", "1/εB at εS = 0.5", "1/εB at εS = 0.3"]
    header += ["parameters", "MFLOP per jet", "training jets/s", "inference jets/s"]
    papers = ["accuracy", "AUC", "1/εB (0.5)", "1/εB (0.3)"] if published else []
    yield header + [f"published {name}" for name in papers]
    for name, entry in found.items():
        row = [name, str(len(entry.seeds)), *(cell(entry, metric) for metric in METRICS)]
        row += costs_of(entry.cost)
        yield row + (list(PUBLISHED.get(name, [""] * 4)) if published else [])


def costs_of(cost: Cost | None) -> list[str]:
    """Cells of the cost of a model."""
    if cost is None:
        return [""] * 4
    rates = (f"{r:,.0f}" if r >= 10 else f"{r:.2g}" for r in (cost.train_rate, cost.infer_rate))
    return [f"{cost.parameters:,}", f"{cost.flops_per_jet / 1e6:.3g}", *rates]


def write_results(results: Results, options: argparse.Namespace, test: ak.Array) -> None:
    """Write numbers, table and figure of all results."""
    results.save()
    found = results.ranked()
    full = options.data == "landscape" and options.recipe == "published" and not options.max_jets
    header, *body = rows(found, published=full and len(test) == LANDSCAPE_TEST_JETS)
    lines = [header, ["---"] * len(header), *body]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    (options.out / "top_tagging.md").write_text(
        f"{table}\n\n{caption(options, test)}\n", encoding="utf-8"
    )
    draw(found, options.out / "top_tagging.png")


def caption(options: argparse.Namespace, test: ak.Array) -> str:
    """Caption of the table: training, test jets and machine."""
    jets = f"{options.max_jets:,}" if options.max_jets else "all"
    how = (
        f"{options.epochs} epochs of AdamW with a one-cycle schedule up to {SHORT['lr']}, "
        f"batches of {SHORT['batch_size']}"
        if options.recipe == "short"
        else "the published recipes"
    )
    return (
        f"Trained on {jets} jets of `{options.data}`, {how}; tested on {len(test):,}. "
        "± is the standard deviation over the seeds, (±) the statistical error of the test jets. "
        f"Rates: one batch of {options.rate_jets} jets, {torch.get_num_threads()} threads of "
        f"{describe_environment(0)['cpu']}, torch {torch.__version__}, medians."
    )


def draw(found: dict[str, Entry], path: Path) -> None:
    """Draw a row for each model: thick bars for the seeds, thin bars for the test jets."""
    from matplotlib.ticker import LogLocator, NullFormatter

    from pcloud.evaluation.figures import figure_style, save_figure
    from pcloud.evaluation.figures.style import COLORS, new_figure

    panels = {"auc": "AUC", "rejection@0.5": r"$1/\varepsilon_B$ at $\varepsilon_S = 0.5$"}
    with figure_style():
        figure, axes = new_figure(1.2 + 0.26 * len(found), columns=len(panels))
        for panel, (metric, label), color in zip(axes, panels.items(), COLORS, strict=False):
            for row, entry in enumerate(found.values()):
                values = [table[metric] for table in entry.seeds.values()]
                if any(value.limit for value in values):
                    continue
                counting = float(np.mean([v.error for v in values]))
                spread = float(np.std([v.value for v in values], ddof=1)) if values[1:] else 0.0
                bars = {"fmt": "none", "ecolor": color}
                panel.plot(mean(entry, metric), row, "o", color=color, markersize=5)
                panel.errorbar(
                    mean(entry, metric), row, xerr=spread, elinewidth=7, alpha=0.35, **bars
                )
                panel.errorbar(mean(entry, metric), row, xerr=counting, elinewidth=1.2, **bars)
            panel.set(xlabel=label, ylim=(-0.6, len(found) - 0.4))
            panel.set_yticks(range(len(found)), list(found), fontsize=8)
            panel.tick_params(axis="y", which="minor", length=0)
        axes[1].set_yticks(range(len(found)), [""] * len(found))
        axes[1].set_xscale("log")
        axes[1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[1].xaxis.set_major_formatter("{x:.0f}")
        axes[1].xaxis.set_minor_formatter(NullFormatter())
        save_figure(figure, path.with_suffix(""))


def available(models: list[str]) -> list[str]:
    """Models whose extras are installed; the others are reported on the error stream."""
    kept = []
    for name in models:
        try:
            pcloud.build_model(name, in_features=7)
            kept.append(name)
        except MissingExtraError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return kept


def test_jets(options: argparse.Namespace) -> ak.Array:
    root: dict[str, Any] = {} if options.data_root is None else {"root": options.data_root}
    return pcloud.load_dataset(options.data, "test", **root)[: options.max_test_jets]


def settings_of(options: argparse.Namespace, test: ak.Array) -> dict[str, Any]:
    """Settings on which the results depend, in addition to model and seed."""
    names = ("data", "recipe", "epochs", "max_jets", "max_val_jets", "rate_jets")
    counts = np.bincount(test.label.to_numpy()).tolist()
    found = {name: getattr(options, name) for name in names} | {"test_jets": counts}
    return found | ({"training": SHORT} if options.recipe == "short" else {})


def main() -> None:
    options = arguments()
    models, test = available(options.models), test_jets(options)
    options.out.mkdir(parents=True, exist_ok=True)
    results = Results.open(options.out / "top_tagging.json", settings_of(options, test))
    for seed in map(str, options.seeds):
        for model in models:
            if seed not in results.of(model).seeds:
                table = train_and_test(model, int(seed), options, test)
                results.of(model).seeds[seed] = table
                write_results(results, options, test)
    new = [model for model in models if results.of(model).cost is None]
    for name, cost in Timer(options.rate_jets).costs(new, options.repeats).items():
        results.of(name).cost = cost
    write_results(results, options, test)
    print((options.out / "top_tagging.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
