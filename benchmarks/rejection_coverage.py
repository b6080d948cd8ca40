"""Coverage of the intervals and limits of background rejections, by toys.

    python benchmarks/rejection_coverage.py [--quick] [--toys 1000] [--seed 0] [--out FOLDER]

Scores of signal and background are Gaussian, so that the true rejection is known. Every sample is
given the interval of before, value +- counting error with the slope of the ROC curve taken from the
sample, and the present one (`pcloud.evaluation.roc_point.RocPoint`). Printed is the part of the
samples whose interval contains the truth, in three tables:

- two or more signal jets expected to fail the cut and three background jets to pass it, by the
  number of signal jets that fail: lowest, mean and highest coverage over the grid;
- the rest of the grid, where a limit at 95 % confidence is expected: how often one is quoted, and how
  often what is quoted, the limit or else the 95 % interval, contains the truth;
- the limit of samples of which no background passes, at the expectation of 3.2 background jets,
  where it is hardest: part of all samples in which the limit excludes the truth.

``--out`` writes every point of the grid to ``rejection_coverage.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from pathlib import Path

import numpy as np
from scipy.stats import norm

from pcloud.evaluation.measured import CONFIDENCE, ONE_SIGMA, zero_fraction_limit
from pcloud.evaluation.ranking import Counts
from pcloud.evaluation.roc_point import RocPoint

SIGNAL = (100, 200, 500, 1000, 5000)
EFFICIENCIES = (0.3, 0.5, 0.9, 0.99, 0.999)
BACKGROUND = (200, 2000, 100_000)
SEPARATIONS = (1.5, 3.0)
QUICK = {"signal": (100, 500), "efficiencies": (0.3, 0.99), "background": (2000,)}
MIN_FAILING, MIN_PASSING = 2, 3  # expected jets, for an interval
FAILING = (2, 4, 10, 100, 1_000_000)  # edges of the rows of the table
LIMIT_SIGNAL = (30, 100, 500, 5000)
LIMIT_TOYS = 4  # times as many samples: the part is small
LIMIT_PASSING = 3.2  # just above the 3.0 that a limit from no background jet excludes


@dataclass(frozen=True)
class Point:
    """Sizes of a sample, its working point, and the distance of the means of the scores."""

    signal: int
    efficiency: float
    background: int
    separation: float

    @property
    def truth(self) -> float:
        """True background efficiency."""
        return float(self.roc(np.array(self.efficiency)))

    @property
    def failing(self) -> float:
        """Expected number of signal jets that fail the cut."""
        return self.signal * (1 - self.efficiency)

    @property
    def passing(self) -> float:
        """Expected number of background jets that pass the cut."""
        return self.background * self.truth

    @property
    def has_interval(self) -> bool:
        """Whether an interval is expected, and not a limit."""
        return self.failing > MIN_FAILING - 1e-9 and self.passing >= MIN_PASSING

    def roc(self, efficiency: np.ndarray) -> np.ndarray:
        """Background efficiency at signal efficiencies."""
        return norm.sf(self.separation + norm.isf(efficiency))

    def draw(self, generator: np.random.Generator) -> Counts:
        """Signal jets in order of score, and the numbers of background jets between them."""
        efficiencies = np.sort(generator.random(self.signal))
        steps = np.diff(self.roc(efficiencies), prepend=0.0, append=1.0)
        background = np.zeros(2 * self.signal + 1, dtype=np.int64)
        background[::2] = generator.multinomial(self.background, steps)
        return Counts(np.arange(len(background)) % 2, background)


@dataclass(frozen=True)
class Coverage:
    """Part of the samples of a point whose interval or limit contains the truth."""

    point: Point
    before: tuple[float, float]  # at 68 % and 95 %
    after: tuple[float, float]
    limits: float  # part of the samples that have a limit
    quoted: float  # part of the samples whose limit, or else 95 % interval, contains the truth
    limits_wrong: float  # part of the samples in which the limit from no background excludes it
    limits_wrong_before: float


def measure(point: Point, toys: int, generator: np.random.Generator) -> Coverage:
    """Coverage over `toys` samples."""
    samples = [RocPoint(point.draw(generator), point.efficiency) for _ in range(toys)]
    before = np.array([covered_before(sample, point.truth) for sample in samples])
    after = np.array([covered(sample, point.truth) for sample in samples])
    empty = np.array([sample.value == 0 for sample in samples])
    limited = np.array([bool(sample.missing) for sample in samples])
    holds = np.array([quoted(sample, point.truth) for sample in samples])
    return Coverage(
        point,
        (float(before[:, 0].mean()), float(before[:, 1].mean())),
        (float(after[:, 0].mean()), float(after[:, 1].mean())),
        float(limited.mean()),
        float(holds.mean()),
        float(np.mean(empty & ~holds)),
        float(np.mean(empty & ~before[:, 1])),
    )


def quoted(sample: RocPoint, truth: float) -> bool:
    """Whether what the table prints, a limit or else the 95 % interval, contains the truth."""
    if not sample.missing:
        return covered(sample, truth)[1]
    limit = sample.measured()
    return truth <= limit.value if limit.limit == "upper" else truth >= limit.value


def covered(sample: RocPoint, truth: float) -> tuple[bool, bool]:
    """Whether the 68 % and the 95 % interval, or the limit where there is none, contain the truth."""
    if sample.missing and sample.measured().low95 is None:
        inside = quoted(sample, truth)
        return inside, inside
    # The truth is between two quantiles if the distribution functions are. That is quicker.
    low = sample.distribution("lower").cdf(truth)
    high = sample.distribution("upper").cdf(truth)
    tails = [(1 - level) / 2 for level in (ONE_SIGMA, CONFIDENCE)]
    return low > tails[0] and high < 1 - tails[0], low > tails[1] and high < 1 - tails[1]


def covered_before(sample: RocPoint, truth: float) -> tuple[bool, bool]:
    """The same of value +- counting error of the rejection."""
    value, e = sample.value, sample.efficiency
    if value == 0:
        inside = truth < zero_fraction_limit(sample.num_background)
        return inside, inside
    counting = value * (1 - value) / sample.num_background
    threshold = sample.counts.slope(e) ** 2 * e * (1 - e) / sample.num_signal
    error = np.sqrt(counting + threshold) / value**2
    if error == 0:  # all background passes
        return False, False
    distance = abs(1 / value - 1 / truth) / error
    return bool(distance < 1), bool(distance < norm.isf((1 - CONFIDENCE) / 2))


def interval_rows(found: Iterable[Coverage]) -> Iterator[list[str]]:
    """Lowest, mean and highest coverage where an interval is expected, by failing jets."""
    yield ["signal jets that fail", "points", "68 % before", "after", "95 % before", "after"]
    points = [c for c in found if c.point.has_interval]
    for low, high in pairwise(FAILING):
        some = [c for c in points if low - 1e-9 < c.point.failing < high - 1e-9]
        if some:
            name = f"{low} to {high}" if high < FAILING[-1] else f"{low} or more"
            values = [spread([getattr(c, when)[i] for c in some]) for i, when in COLUMNS]
            yield [name, str(len(some)), *values]


COLUMNS = ((0, "before"), (0, "after"), (1, "before"), (1, "after"))


def limit_rows(found: Iterable[Coverage]) -> Iterator[list[str]]:
    """Coverage where a limit is expected, by what is missing."""
    yield ["expected", "points", "limits, part", "limit or 95 % interval holds", "before, 95 %"]
    points = [c for c in found if not c.point.has_interval]
    few_signal = [c for c in points if c.point.failing < MIN_FAILING - 1e-9]
    few_background = [c for c in points if c not in few_signal]
    for name, some in (
        ("fewer than 2 signal jets fail", few_signal),
        ("fewer than 3 background jets pass", few_background),
    ):
        if some:
            columns = ([c.limits for c in some], [c.quoted for c in some])
            before = [c.before[1] for c in some]
            yield [name, str(len(some)), *map(spread, columns), spread(before)]


def empty_rows(toys: int, generator: np.random.Generator) -> Iterator[list[str]]:
    """Samples in which the limit without background excludes the truth."""
    yield ["signal jets", "εS", "limit excludes the truth, before", "after"]
    for signal, efficiency in product(LIMIT_SIGNAL, (0.3, 0.5)):
        truth = Point(signal, efficiency, 1, 2.0).truth
        point = Point(signal, efficiency, round(LIMIT_PASSING / truth), 2.0)
        found = measure(point, LIMIT_TOYS * toys, generator)
        wrong = (f"{x:.1%}" for x in (found.limits_wrong_before, found.limits_wrong))
        yield [str(signal), f"{efficiency:g}", *wrong]


def spread(values: list[float]) -> str:
    """Lowest, mean and highest of some fractions."""
    return f"{min(values):.2f} / {np.mean(values):.2f} / {max(values):.2f}"


def markdown(rows: Iterable[list[str]]) -> str:
    """A table of the rows, the first one being the header."""
    header, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *body])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small grid")
    parser.add_argument("--toys", type=int, default=1000, help="samples of each point")
    parser.add_argument("--seed", type=int, default=0, help="seed of the samples")
    parser.add_argument("--out", type=Path, help="folder for the coverage of every point")
    options = parser.parse_args()
    generator = np.random.default_rng(options.seed)
    grid = {"signal": SIGNAL, "efficiencies": EFFICIENCIES, "background": BACKGROUND}
    if options.quick:
        grid = QUICK
    points = [Point(*sizes) for sizes in product(*grid.values(), SEPARATIONS)]
    found = [measure(point, options.toys, generator) for point in points]
    print(f"{options.toys} samples of each of {len(points)} points, seed {options.seed}\n")
    print(markdown(interval_rows(found)), end="\n\n")
    print(markdown(limit_rows(found)), end="\n\n")
    print(markdown(empty_rows(options.toys, generator)))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / "rejection_coverage.json"
        path.write_text(json.dumps([asdict(c) for c in found], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
