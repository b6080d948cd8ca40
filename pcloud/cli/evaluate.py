"""``pcloud evaluate``: evaluate a run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from pcloud.cli.command import Arguments, Command, Options, Switch
from pcloud.cli.options import (
    NetworkOptions,
    ReadingOptions,
    ResultOptions,
    open_run,
    reading,
)
from pcloud.cli.output import print_rows, print_whole, progress_bar, say, suggest
from pcloud.errors import InputError
from pcloud.training.config import Fraction, NumJets, Seed

if TYPE_CHECKING:
    from pcloud.evaluation.scores import Scores
    from pcloud.run import Run


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ResultOptions):
    """Jets."""

    run: Arguments  # type: ignore[assignment]
    """Folder of the run. With several folders, their test jets must be the same: the runs are
    compared with the first, with paired errors and a figure of the ROC curves, in the folder of
    the first run or --out."""
    data: list[str] | None = None
    """Jets other than those of the run: name of a data set, or files. The results are written to
    evaluations/ in the folder of the run."""
    split: str = "test"
    """Split of the data of the run, or of the data set."""
    name: str | None = None
    """Name of the evaluation in the folder evaluations/; by default that of the first file. A name
    that holds the results of other jets is refused."""
    data_root: str | None = None
    """Folder of the public data sets."""
    merge: str | None = None
    """Folder for the scores and metrics of all folds of a cross-validation together, whose runs
    (`pcloud train --fold i/k`) are given."""
    baseline: Switch = False
    """Compare a run on a table with boosted trees on the same columns. Several runs on a table always
    are."""


@dataclass(frozen=True, kw_only=True)
class MetricOptions:
    """Metrics."""

    efficiencies: list[Fraction] = field(default_factory=lambda: [0.3, 0.5])
    """Signal efficiencies at which the background rejection is measured."""
    signal: str | None = None
    """Signal class; by default the second of two, or each in turn."""
    background: str | None = None
    """Background class with which each other class is compared, of more than two classes."""
    fractions: list[str] | None = None
    """Fractions f of the background classes in the discriminant log(p_signal / sum f p), such as
    c=0.2; the other classes share the rest. Measures the rejection of each background class at the
    working points of ATLAS and CMS, against pT and eta, and scans the fractions."""
    threshold: float | None = None
    """Threshold on the score at which true and false positives and negatives are counted, with
    precision, recall and the confusion matrix; with more than two classes, of each or of --signal."""
    bootstrap: Annotated[int, Ge(0), Le(10**6)] = 200
    """Number of bootstrap samples for the errors."""
    seed: Seed = 0
    """Seed of the bootstrap samples."""


@dataclass(frozen=True, kw_only=True)
class RobustnessOptions:
    """Robustness."""

    robustness: Switch = False
    """Also modify the test jets of the run (energies, particles, angles) and measure the change of
    the metrics, the efficiencies against pT, mass and multiplicity, and the sculpting of the
    mass."""
    robustness_jets: NumJets | None = None
    """Number of jets to modify; by default 2000, more where fewer than 25 background jets pass the
    cut, or as many as the network processes in a few minutes."""
    simulations: Annotated[int, Ge(0), Le(10**7)] = 0
    """Number of jets to simulate with each of several other settings of Pythia."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """Generators."""

    generated: str | None = None
    """File of generated jets, which are compared with real jets that a generator was not trained on;
    by default jets are generated."""
    generated_jets: NumJets | None = None
    """Number of generated jets; by default that of the real ones, at most 10,000."""
    steps: Annotated[int, Ge(1), Le(10_000)] = 25
    """Number of steps from noise to jets, each with two passes through the network."""
    method: str = "midpoint"
    """Rule of a step: midpoint or heun."""
    classifiers: list[str] = field(default_factory=lambda: ["boosting"])
    """Classifiers of real against generated jets: boosting (trees on observables), logistic, or
    models, which are trained on the particles."""


def execute(options: Options) -> None:
    """Print the table of metrics and write it to the folder of the run."""
    folders = options["run"]
    if options["merge"] is not None:
        _merge(folders, options)
        return
    if len(folders) > 1 or options["baseline"]:
        _compare(folders, options)
        return
    _evaluate(options | {"run": folders[0]})


def _evaluate(options: Options) -> None:
    run = open_run(options)
    if not run.modality.gives_scores:
        _evaluate_generator(run, options)
        return
    for name in ("generated", "generated_jets"):
        if options[name] is not None:
            raise InputError(f"--{name.replace('_', '-')} is for a generator")
    fractions = _fractions(run, options)
    for name in ("robustness", "threshold"):
        if options[name] not in (None, False):
            run.check_classes(f"--{name}")
    if options["robustness"] and options["data"]:
        raise InputError("--robustness is about the run's own test jets: leave --data out")
    from pcloud.studies.evaluate import evaluation_folder

    how = reading(options)
    if options["data_root"] is not None:
        how["data_root"] = options["data_root"]
    data = options["data"]
    if data and len(data) == 1:
        data = data[0]
    place = {name: options[name] for name in ("split", "name", "checkpoint")}
    folder = evaluation_folder(run, data, **place, **how)
    table = run.evaluate(
        data,
        **place,
        batch_size=options["batch_size"],
        efficiencies=options["efficiencies"],
        signal=options["signal"],
        background=options["background"],
        num_bootstrap=options["bootstrap"],
        seed=options["seed"],
        **how,
    )
    print_whole(table)
    if run.classes:
        _print_decisions(folder, options)
    if run.objective.targets:
        _print_dependences(folder)
    if run.objective.detects_anomalies and run.modality.has_momenta and folder == run.out:
        _compare_with_observables(run, folder, options)
    say(f"written to {folder}")
    if not run.finished:
        say("the training of this run is not finished")
    if fractions is not None:
        from pcloud.studies.discriminants import discriminants_run

        stored = discriminants_run(run, options["signal"], fractions)
        say(f"discriminant {stored.formula}")
        print_rows(stored.rows())
        print_rows(stored.mistag_rows())
        print_rows(stored.area_rows())
        say(f"written to {run.out / stored.file}")
    if options["robustness"]:
        _evaluate_robustness(run, folder, options)
    suggest("report", run.path)


def _evaluate_generator(run: Run, options: Options) -> None:
    """Print the distances of generated from real jets."""
    _refuse(("data", "name", "robustness", "fractions", "threshold"), options, "is for taggers")
    with progress_bar("jets", 1) as advance:
        found = run.evaluate_generator(
            source=options["generated"],
            jets=options["generated_jets"],
            advance=advance,
            **{n: options[n] for n in ("steps", "method", "classifiers", "checkpoint", "seed")},
        )
    print_rows(found.rows())
    for line in found.sentences():
        say(line)
    say(f"written to {run.out / found.file}")
    suggest("report", run.path)


def _print_decisions(folder: Path, options: Options) -> None:
    """Print the significance improvement, and the counts at a threshold if it is given."""
    from pcloud.evaluation import read_scores
    from pcloud.evaluation.significance import significance_improvement, significance_rows
    from pcloud.evaluation.threshold import counts_at_threshold
    from pcloud.run_files import SCORES_FILE

    sample = read_scores(folder / SCORES_FILE)
    chosen = {name: options[name] for name in ("signal", "background")}
    print_rows(significance_rows(significance_improvement(sample, **chosen)))
    if options["threshold"] is None:
        return
    found = counts_at_threshold(sample, options["threshold"], signal=options["signal"])
    print_rows(found.rows())
    for one in found.classes:
        print_rows(one.matrix())
    found.write(folder)


def _compare_with_observables(run: Run, folder: Path, options: Options) -> None:
    """Print an anomaly detector beside single observables."""
    from pcloud.evaluation import read_scores
    from pcloud.run_files import SCORES_FILE
    from pcloud.studies.anomaly import anomaly_run

    scores = read_scores(folder / SCORES_FILE).values
    stored = anomaly_run(run, scores=scores, seed=options["seed"])
    print_rows(stored.rows())
    for note in stored.notes:
        say(note)


def _print_dependences(folder: Path) -> None:
    """Print bias and resolution of the targets against pT, |eta| and the number of particles."""
    from pcloud.evaluation.regression import PredictedTarget, dependences
    from pcloud.objectives.columns import read_targets
    from pcloud.run_files import SCORES_FILE

    for sample in read_targets(folder / SCORES_FILE):
        if isinstance(sample, PredictedTarget):
            for found in dependences(sample):
                say(sample.name)
                print_rows(found.rows())


def _fractions(run: Run, options: Options) -> dict[str, float] | None:
    """Fractions of the discriminant, checked before any work; None if it is not asked for."""
    if options["fractions"] is None:
        return None
    run.check_classes("--fractions")
    from pcloud.evaluation.discriminants import Discriminant
    from pcloud.studies.discriminants import parse_fractions

    if options["data"] or (options["split"], options["checkpoint"]) != ("test", "best"):
        raise InputError("--fractions is about the run's own test jets: leave the others out")
    if options["signal"] is None and len(run.classes) > 2:
        raise InputError(f"--fractions needs --signal: which of {', '.join(run.classes)} is it?")
    fractions = parse_fractions(options["fractions"])
    Discriminant.of(run.classes, options["signal"] or run.classes[1], fractions)
    return fractions


def _merge(folders: list[str], options: Options) -> None:
    """Evaluate all folds of a cross-validation together."""
    from pcloud.studies.folds import merge_folds

    _refuse(("data", "name", "out", "robustness", "fractions"), options, "is not for --merge")
    if (options["split"], options["checkpoint"]) != ("test", "best"):
        raise InputError("folds are merged on their test jets with their best weights")
    table = merge_folds(
        [open_run(options | {"run": folder}) for folder in folders],
        options["merge"],
        batch_size=options["batch_size"],
        tell=say,
        efficiencies=options["efficiencies"],
        signal=options["signal"],
        background=options["background"],
        num_bootstrap=options["bootstrap"],
        seed=options["seed"],
    )
    print_whole(table)
    say(f"written to {options['merge']}")


def _refuse(names: Iterable[str], options: Options, why: str) -> None:
    for name in names:
        if options[name]:
            raise InputError(f"--{name} {why}")


def _compare(folders: list[str], options: Options) -> None:
    """Evaluate several runs and compare them with the first."""
    from pcloud.evaluation import read_scores
    from pcloud.run_files import COMPARISON_TABLE, FIGURE_FOLDER, SCORES_FILE
    from pcloud.studies.comparison import compare_taggers, run_names

    for_one = ("data", "name", "robustness", "fractions")
    _refuse(for_one, options, f"is for one run, got {len(folders)}")
    if (options["split"], options["checkpoint"]) != ("test", "best"):
        raise InputError("several runs are compared on their test jets with their best weights")
    names = run_names(folders)
    out = None if options["out"] is None else Path(options["out"])
    taggers = {}
    for name, folder in zip(names, folders, strict=True):
        say(name)
        chosen = options | {"run": folder, "out": None if out is None else str(out / name)}
        open_run(chosen).check_classes("a comparison of runs")
        _evaluate(chosen)
        taggers[name] = read_scores(open_run(chosen).out / SCORES_FILE)
    first = open_run(options | {"run": folders[0]})
    place = first.out
    taggers |= _baseline(first, options)
    found, files = compare_taggers(
        taggers,
        efficiencies=options["efficiencies"],
        signal=options["signal"],
        background=options["background"],
        figure=place / FIGURE_FOLDER / "roc_comparison",
        num_bootstrap=min(options["bootstrap"], 100),
        seed=options["seed"],
    )
    print_rows(found.rows())
    for file in (found.write(place), place / COMPARISON_TABLE, *files):
        say(f"written to {file}")


def _baseline(run: Run, options: Options) -> dict[str, Scores]:
    """Scores of boosted trees for a run on a table; none for other runs."""
    from pcloud.studies.baselines import NAME, boosted_trees, has_rows

    if not has_rows(run):
        _refuse(("baseline",), options, f"is for tables, and this run takes {run.modality.noun}")
        return {}
    return {NAME: boosted_trees(run, seed=options["seed"])}


def _evaluate_robustness(run: Run, folder: Path, options: Options) -> None:
    from pcloud.evaluation import read_scores
    from pcloud.run_files import ROBUSTNESS_FILE, SCORES_FILE

    names = ("signal", "background", "checkpoint", "batch_size", "simulations", "seed")
    chosen = {name: options[name] for name in names}
    if options["split"] == "test":  # just scored
        chosen["scores"] = read_scores(folder / SCORES_FILE).values
    chosen["workers"] = os.cpu_count() or 1
    with progress_bar("modifications", 1) as advance:
        stored = run.robustness(jets=options["robustness_jets"], advance=advance, **chosen)
    print_rows(stored.rows())
    print_rows(stored.sculpting_rows())
    say(f"written to {run.out / ROBUSTNESS_FILE}")


COMMAND = Command(
    "evaluate",
    "Evaluate a trained tagger.",
    execute,
    (
        EvaluateOptions,
        ReadingOptions,
        NetworkOptions,
        MetricOptions,
        RobustnessOptions,
        GenerationOptions,
    ),
)
