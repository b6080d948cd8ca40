"""The exercises of five courses: the commands that do them, and what they print.

    python benchmarks/exercises.py --out runs/exercises --page docs/exercises.md

Each command is run in the folder `--out`, in one process and one thread; its output and its processor time
are stored, so that an interrupted script continues. The page is written from what is stored.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import re
import runpy
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

_WIDTH = 130  # of a printed line
_LINES = 16  # printed for each command

SPACE = """\
lr: {low: 1e-4, high: 1.0, log: true}
model_options.widths: {choices: [[8], [32, 32]]}
"""
"""The file space.yaml of the search for hyperparameters."""


@dataclass(frozen=True)
class Exercise:
    """An exercise, and what does it.

    Attributes
    ----------
    title : str
        The exercise in a few words.
    commands : tuple of str
        Commands in their order.
    shows : str
        Regular expression of the lines of the output that are printed on the page.
    sheet : str
        Number that the sheet names, or that it asks for.
    remark : str
        What else there is to say, in Markdown.
    """

    title: str
    commands: tuple[str, ...]
    shows: str = r"^(AUC|accuracy)|finished"
    sheet: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Course:
    """Exercises of a course."""

    title: str
    exercises: list[Exercise] = field(default_factory=list)


_JETS = "--max-jets 1500 --max-val-jets 500"
_DIGITS = "--data digits --test-fraction 0.2"
COURSES = [
    Course(
        "Symmetry and graphs (Heidelberg)",
        [
            Exercise(
                "Softmax, log-sum-exp and the maximum; activation functions; paths of optimizers",
                ("python examples/first_steps.py --epochs 2",),
                shows=r"\S",
                remark="That softmax ignores an offset, not a scale, and is the gradient of log-sum-exp "
                "is tested in `tests/studies/test_first_steps.py`.",
            ),
            Exercise(
                "Explain the network: parts with parameters",
                ("pcloud models particlenet_lite",),
                shows=r"layer|convs\.0|head|total",
            ),
            Exercise(
                "Train a graph network on a single batch",
                (
                    (
                        "pcloud train --data simulated --model particlenet_lite --overfit 32 "
                        "--epochs 200 --batch-size 32 --lr 5e-3 --out runs/one_batch"
                    ),
                ),
                shows=r"heart|finished",
            ),
            Exercise(
                "Train it on more jets, and compare with a CNN on jet images",
                (
                    (
                        f"pcloud train --data simulated --model particlenet_lite {_JETS} --epochs 3 "
                        "--batch-size 64 --out runs/graph"
                    ),
                    (
                        f"pcloud train --data simulated --as-images --model cnn {_JETS} --epochs 3 "
                        "--batch-size 64 --out runs/images"
                    ),
                    "pcloud evaluate runs/graph",
                    "pcloud evaluate runs/images",
                ),
                shows=r"^(AUC|accuracy|εS)",
                remark="`x_train_short.npy` of the sheet is read by `--data x_train_short.npy`, with the labels "
                "beside it ([own file](own_file.md)). The whole sample: "
                "[on the same jets](models.md#on-the-same-jets).",
            ),
            Exercise(
                "CNN with 5x5 convolutions of 8 and 16 channels, hidden layers of 64 and 32; accuracy of "
                "training and test images, confusion matrix of the validation images",
                (
                    (
                        f"pcloud train {_DIGITS} --model cnn --epochs 8 --model-options "
                        "'{widths: [8, 16], head_widths: [64, 32]}' --out runs/digits"
                    ),
                    "pcloud evaluate runs/digits --split train --name train",
                    "pcloud evaluate runs/digits --split val --name val",
                    "pcloud evaluate runs/digits",
                    "pcloud report runs/digits",
                ),
                shows=r"^accuracy|report\.html",
                remark="The galaxies of the sheet: `--data galaxy10_sdss` after `pcloud download "
                "galaxy10_sdss`; results in [images](images.md#galaxies). ResNet-34 from other weights: "
                "`--model resnet34 --init-from resnet34.pth --reset-head`.",
            ),
            Exercise(
                "A network invariant under turns by 90 degrees; a larger set of rotations",
                (
                    (
                        "python benchmarks/rotation_study.py --images 600 --test-images 200 --epochs 20 "
                        "--seeds 0 --angles 0 45 90 --networks CNN p4 'p4, average of 8 turns'"
                    ),
                ),
                shows=r"^\|",
                remark="All networks and angles: [images](images.md#rotation-study).",
            ),
        ],
    ),
    Course(
        "First networks to generation (Vietnam)",
        [
            Exercise(
                "Logistic regression in the plane; loss, batches, optimizers",
                (
                    "pcloud train --data gaussians --model logistic --epochs 5 --lr 0.1 --out runs/cross_entropy",
                    (
                        "pcloud train --data gaussians --model logistic --epochs 5 --loss l2 "
                        "--optimizer nesterov --lr 0.1 --out runs/l2"
                    ),
                    "pcloud evaluate runs/cross_entropy",
                    "pcloud evaluate runs/l2",
                ),
                remark="Optimizers beside each other: `examples/first_steps.py`.",
            ),
            Exercise(
                "Multilayer perceptron in the plane, dropout and penalty terms",
                (
                    (
                        "pcloud train --data spirals --model mlp --epochs 15 --lr 1e-2 --l1 1e-5 "
                        "--model-options '{widths: [64, 64], activation: selu}' --out runs/spirals"
                    ),
                    "pcloud evaluate runs/spirals --baseline",
                ),
                shows=r"^(AUC|accuracy)|boosted",
                remark="Boosted trees are the baseline.",
            ),
            Exercise(
                "Regression of a curve",
                (
                    (
                        "pcloud train --data curve --model mlp --objective y:squared --epochs 15 --lr 1e-2 "
                        "--out runs/curve"
                    ),
                    "pcloud evaluate runs/curve",
                ),
                shows=r"^y: (bias|resolution)",
            ),
            Exercise(
                "Hyperparameters by grid, random and evolutionary search",
                (
                    (
                        "pcloud tune --space space.yaml --sampler cmaes --trials 4 --repeats 2 --data moons "
                        "--model mlp --epochs 2 --max-jets 400 --max-val-jets 400 --out runs/tuned"
                    ),
                ),
                shows=r"^best|^gain|not significant",
                remark="`space.yaml` is that of this page's script; samplers at equal cost: "
                "[tuning](tuning.md#samplers-at-equal-cost).",
            ),
            Exercise(
                "MNIST with one, two and three convolutions; filters and activations",
                (
                    (
                        f"pcloud train {_DIGITS} --model cnn --epochs 8 --model-options.widths '[16, 32, 32]' "
                        "--out runs/three"
                    ),
                    "pcloud evaluate runs/three",
                    "pcloud explain runs/three --jets 5 --signal 3",
                    "pcloud report runs/three",
                ),
                shows=r"^accuracy|images\.json|report\.html",
                sheet="98 % with one, 99 % with two, above 99.25 % with more (MNIST, 60 000 digits)",
                remark="Ours are 1,400 digits of 8x8 pixels, enlarged, so the numbers do not compare. With MNIST: "
                "`--data mnist` after `pcloud download mnist`.",
            ),
            Exercise(
                "Pulses of a dark-matter detector: dense, convolution, LSTM",
                (
                    "pcloud train --data pulses --model series_dense --epochs 4 --out runs/dense",
                    "pcloud train --data pulses --model series_cnn --epochs 4 --out runs/series",
                    "pcloud train --data pulses --model series_lstm --epochs 4 --out runs/lstm",
                    "pcloud evaluate runs/dense runs/series runs/lstm",
                ),
                shows=r"^(accuracy|AUC| *runs|dense|series|lstm|run)",
                sheet="a dense layer of 100 units is to be beaten",
                remark="Synthetic pulses; those of CRESST: `--data X_train.npy` ([tables](tables.md)).",
            ),
            Exercise(
                "Boosted W bosons as signal, average image",
                (
                    "pcloud simulate w.parquet -n 200 --process w_qcd --workers 1 --overwrite",
                    (
                        "pcloud train --data w.parquet --as-images --model cnn --epochs 4 --batch-size 20 "
                        "--test-fraction 0.3 --out runs/w"
                    ),
                    "pcloud evaluate runs/w",
                ),
                shows=r"^(AUC|accuracy)|jets: ",
                remark="The average images of the embedded jets: `examples/jet_images.py`.",
            ),
            Exercise(
                "Clustering tree of a jet and the recursive network on it",
                ("pcloud draw simulated --jet 1 --form dendrogram -o tree.png",),
                shows=r"\S",
                remark="The recursive network is `--model recnn`.",
            ),
            Exercise(
                "Aleatoric and epistemic uncertainty by dropout and ensembles",
                (
                    (
                        "pcloud train --data moons --model mlp --epochs 5 --lr 1e-2 --ensemble 3 "
                        "--out runs/ensemble"
                    ),
                    "pcloud uncertainty runs/ensemble",
                ),
                shows=r"epistemic|test",
            ),
            Exercise(
                "GAN with the optimum D = 0.5, conditional GAN and VAE",
                (
                    "python examples/gan.py points --steps 300",
                    "python examples/vae.py points --steps 300",
                ),
                shows=r"\S",
                remark="Also of digits and jet images, and Wasserstein ([generation](generation.md)).",
            ),
        ],
    ),
    Course(
        "From data to Lorentz equivariance (HISS)",
        [
            Exercise(
                "Learning rate too small, good, too large",
                (
                    (
                        "pcloud train --data simulated --model pfn --find-lr --max-jets 1500 "
                        "--batch-size 64 --out runs/rates"
                    ),
                ),
                shows=r"learning rate|lr|written",
            ),
            Exercise(
                "Thresholds, precision, recall, confusion matrix at a chosen threshold",
                ("pcloud evaluate runs/graph --threshold 0.5 --bootstrap 0",),
                shows=r"precision|^0\.5|^(true|top|qcd) ",
            ),
            Exercise(
                "Top tagging by every family of networks",
                ("pcloud models",),
                shows=r"particlenet |transformer|lorentznet|lgatr",
                remark="Beside the published results: [models](models.md#on-the-same-jets).",
            ),
            Exercise(
                "Accuracy against the number of training jets; fine-tuning",
                (
                    (
                        "python benchmarks/jets_needed.py --models pfn --jets 100 400 --first-jets 1000 "
                        "--test-jets 1000 --steps 30"
                    ),
                ),
                shows=r"^\|",
                remark="Transformer and Lorentz-equivariant networks: `--models transformer lorentznet lgatr_slim`.",
            ),
            Exercise(
                "Domain shift",
                ("pcloud evaluate runs/graph --robustness --robustness-jets 200 --bootstrap 0",),
                shows=r"smear|rotat|AUC",
            ),
            Exercise(
                "Calibration",
                ("pcloud calibrate runs/graph",),
                shows=r"ECE|temperature",
            ),
            Exercise(
                "Anomaly detection; autoencoder for compression and denoising",
                (
                    (
                        "python examples/anomaly.py --jets 600 --epochs 2 --models cloud_autoencoder "
                        "--codes 1 4"
                    ),
                ),
                shows=r"\S",
            ),
        ],
    ),
    Course(
        "Weight sharing (LMU)",
        [
            Exercise(
                "Digits at random places on 50x50 pixels: a dense layer and a CNN",
                (
                    f"pcloud train {_DIGITS} --canvas 50 --model dense --epochs 6 --out runs/placed_dense",
                    f"pcloud train {_DIGITS} --canvas 50 --model cnn --epochs 6 --out runs/placed_cnn",
                    "pcloud evaluate runs/placed_dense",
                    "pcloud evaluate runs/placed_cnn",
                ),
                shows=r"^accuracy",
                remark="MNIST: [images](images.md#digits). Convolution and shift commute: "
                "`examples/convolution_shift.py`.",
            ),
            Exercise(
                "Misclassified examples, average activations of the filters for one class",
                (
                    "pcloud explain runs/placed_cnn --jets 5 --signal 3",
                    "pcloud report runs/placed_cnn",
                ),
                shows=r"written|report\.html",
            ),
            Exercise(
                "Digits turned by multiples of 90 degrees: dense layers, and four turned copies of each filter",
                (
                    (
                        f"pcloud train {_DIGITS} --turned quarter --model dense --epochs 60 --lr 5e-3 "
                        "--out runs/quarter_dense"
                    ),
                    (
                        f"pcloud train {_DIGITS} --turned quarter --model rotated_dense --epochs 60 --lr 5e-3 "
                        "--out runs/quarter_rotated"
                    ),
                    "pcloud evaluate runs/quarter_dense",
                    "pcloud evaluate runs/quarter_rotated",
                ),
                shows=r"^accuracy",
                remark="Three seeds, 100 and 400 units: [images](images.md#digits).",
            ),
        ],
    ),
    Course(
        "Trust (Karlsruhe)",
        [
            Exercise(
                "Taylor coefficients of a network on two Gaussians, and on a correlated pair",
                ("python examples/taylor.py --steps 300",),
                shows=r"\S",
                sheet="0.16, 0.16, 0.07, 0.04, 0.04; the area rises by 10 % with the correlation",
                remark="With the settings of the lecture, and three seeds: "
                "[Taylor coefficients](trust.md#taylor-coefficients).",
            ),
            Exercise(
                "Ranking of variables and pairs of the ATLAS Higgs challenge",
                ("python examples/higgs.py --epochs 2",),
                shows=r"^(tagger|higgs|boosted|class|signal)",
                remark="Synthetic events; with the file of record 328: `--data`.",
            ),
            Exercise(
                "LeNet",
                (
                    (
                        f"pcloud train {_DIGITS} --model cnn --epochs 8 --lr 3e-3 --model-options "
                        "'{widths: [6, 16], padding: [2, 0], pooling: average, activation: tanh, "
                        "head_widths: [120, 84]}' --out runs/lenet"
                    ),
                    "pcloud evaluate runs/lenet",
                ),
                shows=r"^accuracy",
            ),
            Exercise(
                "1x1 convolutions and LSTMs on all particles (DeepJet)",
                (
                    (
                        f"pcloud train --data simulated --model deepjet {_JETS} --epochs 3 --batch-size 64 "
                        "--lr 2e-3 --out runs/deepjet"
                    ),
                    "pcloud evaluate runs/deepjet",
                ),
                remark="With vertices and columns of jets by a schema: [inputs](inputs.md).",
            ),
        ],
    ),
]

INTRODUCTION = """\
# Exercises

The exercises of five courses on machine learning in physics, each with the commands that do it and what they
print. All run without a network, on data that are part of pcloud or of scikit-learn; the trainings are as short as
possible, so that the numbers show that an exercise can be done and not how good a network can be. Where the sheet
names a number, it stands beside.

The page is written by `python benchmarks/exercises.py --out runs/exercises --page docs/exercises.md`, in whose
folder the commands run one after another. Seconds are processor time of one thread of an AMD EPYC (Zen 5) with two cores
and other jobs; a command in a new process takes about 5 s longer, to import PyTorch. Errors are those of the
test sample.

One word differs between the courses: that of Karlsruhe files ensembles and dropout under aleatoric, that of Vietnam
under epistemic uncertainty. Here they measure the **epistemic** uncertainty, since the spread between networks that
fit the same data equally well shrinks with more data, while the aleatoric one, of overlapping classes, stays.
"""


def commands() -> Iterator[str]:
    """All commands, each once."""
    yield from dict.fromkeys(c for course in COURSES for e in course.exercises for c in e.commands)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/exercises"), help="folder")
    parser.add_argument("--page", type=Path, help="page to write, in Markdown")
    parser.add_argument("--only", help="regular expression of the commands to run")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file = (options.out / "commands.json").resolve()
    page = None if options.page is None else options.page.resolve()
    stored: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    os.chdir(options.out)
    Path("space.yaml").write_text(SPACE, encoding="utf-8")
    for command in commands():
        if command not in stored and re.search(options.only or "", command):
            stored[command] = run(command)
            file.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
            print(f"{stored[command]['seconds']:6.1f} s  {command[:90]}", flush=True)
    if page is not None:
        page.write_text(written(stored), encoding="utf-8")


def run(command: str) -> dict[str, Any]:
    """Output, exit code and processor time of a command in this process."""
    program, *arguments = shlex.split(command)
    output = io.StringIO()
    begin = time.process_time()
    streams = contextlib.redirect_stdout(output), contextlib.redirect_stderr(output)
    with streams[0], streams[1], warnings.catch_warnings():
        if program == "python":
            warnings.simplefilter("ignore")
        code = _pcloud(arguments) if program == "pcloud" else _script(arguments)
    return {
        "seconds": time.process_time() - begin,
        "code": code,
        "output": output.getvalue().replace(f"{Path.cwd()}/", ""),
    }


def _pcloud(arguments: list[str]) -> int:
    from pcloud.cli import main as command_line

    return command_line(arguments)


def _script(arguments: list[str]) -> int:
    before = sys.argv, sys.path
    sys.argv, sys.path = arguments, [str((ROOT / arguments[0]).parent), *sys.path]
    try:
        runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
    except SystemExit as error:
        return int(error.code or 0)
    finally:
        sys.argv, sys.path = before
    return 0


def written(stored: dict[str, Any]) -> str:
    """Page of what is stored."""
    parts = [INTRODUCTION]
    for course in COURSES:
        parts.append(f"## {course.title}\n")
        parts += [_section(exercise, stored) for exercise in course.exercises]
    return "\n".join(parts)


def _section(exercise: Exercise, stored: dict[str, Any]) -> str:
    lines = [f"**{exercise.title}**\n"]
    if exercise.commands:
        lines += ["```sh", *exercise.commands, "```\n"]
    is_complete = all(command in stored for command in exercise.commands)
    found = [stored[command] for command in exercise.commands] if is_complete else []
    shown = [line for one in found for line in _lines(one["output"], exercise.shows)]
    if shown:
        lines += ["```text", *shown, "```\n"]
    facts = []
    if exercise.sheet:
        facts.append(f"The sheet: {exercise.sheet}.")
    if found:
        facts.append(f"{math.ceil(sum(one['seconds'] for one in found))} s.")
    else:
        facts.append("The commands have not been run for this page.")
    if exercise.remark:
        facts.append(exercise.remark)
    return "\n".join([*lines, " ".join(facts), ""])


def _lines(output: str, shows: str) -> list[str]:
    """Lines of an output that match, at most sixteen, without what goes beyond the width of a page."""
    text = output.replace("\r", "\n")
    found = [line.rstrip() for line in text.splitlines() if re.search(shows, line)]
    return [line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..." for line in found[:_LINES]]


if __name__ == "__main__":
    main()
