"""Study of weak supervision: taggers that tell two mixed samples apart, against the signal in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Len
from matplotlib.figure import Figure

from pcloud.errors import InputError
from pcloud.evaluation.figures.style import COLORS, MUTED, figure_style, new_figure, save_figure
from pcloud.evaluation.measured import Measured
from pcloud.run_files import FIGURE_FOLDER, StoredResult
from pcloud.stored_values import Float, Name
from pcloud.text import for_figure
from pcloud.training.config import TrainConfig
from pcloud.training.fit import train
from pcloud.validation import checked

__all__ = ["StoredWeak", "WeakPoint", "weak_figure", "weak_supervision"]

_TRUTH = "supervised"


@dataclass(frozen=True)
class WeakPoint:
    """Taggers that were trained with one fraction of signal.

    Parameters
    ----------
    fraction : float
        Fraction of the second class in the second sample.
    areas, improvements : list of float
        Area under the ROC curve of the true classes, and largest significance improvement, for each
        seed.
    """

    fraction: Float
    areas: Annotated[list[Float], Len(1, 1000)]
    improvements: Annotated[list[Float], Len(1, 1000)]

    @property
    def area(self) -> Measured:
        """Mean area with its error over seeds."""
        return Measured.mean(self.areas, "mean over seeds")

    @property
    def improvement(self) -> Measured:
        """Mean of the largest significance improvements with its error over seeds."""
        return Measured.mean(self.improvements, "mean over seeds")


@dataclass(frozen=True)
class StoredWeak(StoredResult):
    """Weakly supervised taggers against the fraction of signal.

    Parameters
    ----------
    first_fraction : float
        Fraction of the second class in the first sample.
    points : list of WeakPoint
        One for each fraction.
    supervised : WeakPoint
        Taggers that were trained with the labels of the same jets; its fraction is 1.
    signal : str
        Name of the second class.
    """

    first_fraction: Float
    points: Annotated[list[WeakPoint], Len(1, 1000)]
    supervised: WeakPoint
    signal: Name

    file = "weak.json"
    what = "study of weak supervision"
    command = "pcloud weak"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StoredWeak:
        """Inverse of `to_dict`."""
        return checked(cls, values)

    def rows(self) -> list[list[str]]:
        """Table with a row for each fraction."""
        header = [f"{self.signal} in the second sample", "seeds", "AUC", "standard deviation"]
        header += ["max εS/√εB"]
        every = [(f"{100 * p.fraction:.3g} %", p) for p in self.points]
        return [header, *(_cells(name, p) for name, p in [*every, (_TRUTH, self.supervised)])]


def _cells(name: str, point: WeakPoint) -> list[str]:
    spread = np.std(point.areas, ddof=1)
    area, improvement = str(point.area), str(point.improvement)
    return [name, str(len(point.areas)), area, f"{spread:.4f}", improvement]


def weak_supervision(
    options: Mapping[str, Any],
    fractions: Sequence[float],
    *,
    first_fraction: float = 0.0,
    seeds: int = 3,
    trust_code: bool = False,
    tell: Callable[[str], object] = lambda text: None,
) -> tuple[StoredWeak, list[Path]]:
    """Train taggers that tell two mixed samples apart, and measure how well they know the classes.

    An optimal classifier of two mixtures of the same classes is an optimal classifier of the classes
    (CWoLa). The folder ``out`` of the options gets a run for each fraction and seed, ``weak.json`` and
    ``figures/weak.png``. An interrupted call continues when it is repeated.

    Parameters
    ----------
    options : mapping
        Options of the training, as for :func:`pcloud.train`.
    fractions : sequence of float
        Fractions of the second class in the second sample.
    first_fraction : float
        Fraction of the second class in the first sample.
    seeds : int
        Number of seeds of the draws and of the weights; at least 2.
    trust_code : bool
        Run Python code that files name, see :func:`pcloud.train`.
    tell : callable
        Called with a line of text after each training.

    Returns
    -------
    found : StoredWeak
        Areas of the test jets.
    files : list of Path
        Files with the results.

    Raises
    ------
    InputError
        If the fractions or options cannot be used, before anything is trained.

    References
    ----------
    Metodiev, Nachman and Thaler, Classification without labels, https://arxiv.org/abs/1708.02949;
    Collins, Howe and Nachman, Anomaly Detection for Resonant New Physics with Machine Learning,
    https://arxiv.org/abs/1805.02664, for injected signal.
    """
    if seeds < 2:
        raise InputError(f"the spread between seeds needs at least 2 of them, got {seeds}")
    listed = sorted(fractions)
    if not listed or listed[0] <= first_fraction or len(set(listed)) < len(listed):
        shown = " ".join(f"{fraction:g}" for fraction in fractions)
        raise InputError(
            f"fractions must differ and be above the one of the first sample, {first_fraction:g}, got "
            f"{shown or 'none'}"
        )
    if options.get("mix") is not None:
        raise InputError("mix is chosen by fractions and first_fraction: leave it out")
    base = TrainConfig.from_dict(dict(options))
    out = Path(base.out)

    def configured(fraction: float | None, seed: int) -> TrainConfig:
        name = _TRUTH if fraction is None else f"fraction_{fraction:.6g}"
        mix = None if fraction is None else [first_fraction, fraction]
        place = {"out": str(out / f"{name}_seed_{seed}"), "seed": base.seed + seed}
        return base.with_options(mix=mix, **place)

    every = [(f, s) for f in [*listed, None] for s in range(seeds)]
    configs = {key: configured(*key) for key in every}  # raises before any training
    found: dict[float | None, list[tuple[float, float]]] = {}
    signal = ""
    for (fraction, seed), config in configs.items():
        run = train(config, progress=False, trust_code=trust_code)
        if not run.stored("metrics.json").exists():
            run.evaluate(num_bootstrap=0)
        area, improvement, signal = _measured(run.path)
        found.setdefault(fraction, []).append((area, improvement))
        what = _TRUTH if fraction is None else f"fraction {fraction:g}"
        tell(f"{what}, seed {seed}: AUC {area:.4f}")
    points = [WeakPoint(1.0 if f is None else f, *map(list, zip(*v))) for f, v in found.items()]  # noqa: B905
    stored = StoredWeak(first_fraction, points[:-1], points[-1], signal)
    file = stored.write(out)
    figure = save_figure(weak_figure(stored), out / FIGURE_FOLDER / "weak")
    return stored, [file, *figure]


def _measured(folder: Path) -> tuple[float, float, str]:
    """Area, largest significance improvement and name of the signal of an evaluated run."""
    from pcloud.evaluation.metrics import evaluate_scores
    from pcloud.evaluation.scores import read_scores
    from pcloud.evaluation.significance import significance_improvement
    from pcloud.run_files import SCORES_FILE

    sample = read_scores(folder / SCORES_FILE)
    best = significance_improvement(sample)[0].maximum
    area = evaluate_scores(sample, efficiencies=[0.5], num_bootstrap=0)["auc"].value
    return area, 1.0 if best is None else best[1].value, sample.classes[1]


@figure_style()
def weak_figure(found: StoredWeak) -> Figure:
    """Draw the area under the ROC curve against the fraction of signal, with the spread of seeds."""
    figure, (axes,) = new_figure(4.0)
    x = [point.fraction for point in found.points]
    for point in found.points:
        places = [point.fraction] * len(point.areas)
        axes.plot(places, point.areas, ".", color=COLORS[0], alpha=0.5)
    means = [point.area for point in found.points]
    ends = list(zip(*(mean.sides() for mean in means), strict=True))
    values = [mean.value for mean in means]
    axes.errorbar(x, values, ends, fmt="o-", color=COLORS[0], capsize=2, label="mixed samples")
    axes.axhline(found.supervised.area.value, color=COLORS[1], label="with labels")
    axes.axhline(0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xscale("log")
    axes.set_xlabel(f"fraction of {for_figure(found.signal)} in the second sample")
    axes.set_ylabel("AUC of the true classes")
    axes.legend()
    return figure
