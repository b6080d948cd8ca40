"""Coverage of the intervals and limits of background rejections, measured with toys.

    python benchmarks/rejection_coverage.py [--quick] [--toys 1000] [--seed 0] [--out FOLDER]

The scores of signal and background are Gaussian, so that the true rejection is known. For every
sample, two intervals are computed: "before" is value +- counting error, with the slope of the ROC
curve of the sample; "now" is that of `pcloud.evaluation.roc_point.RocPoint`. Three tables are
printed:

- At least two signal jets are expected to fail the cut, and at least three background jets to pass
  it: fraction of samples whose interval contains the true value (lowest, mean and highest over the
  grid), by the number of signal jets that fail.
- The rest of the grid, where a limit at 95 % confidence is expected: fraction of samples with a
  limit, and fraction of samples whose limit, or 95 % interval where no limit is quoted, contains
  the true value.
- Samples in which no background jet passes, for 3.2 expected background jets, where the limit is
  most difficult to satisfy: fraction of all samples in which the limit excludes the true value.

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
MIN_FAILING, MIN_PASSING = 2, 3  # expected jets for which an interval is expected
FAILING = (2, 4, 10, 100, 1_000_000)  # edges of the rows of the table
LIMIT_SIGNAL = (30, 100, 500, 5000)
LIMIT_TOYS = 4  # factor on the number of samples, because the fractions are small
LIMIT_PASSING = 3.2  # expected jets; the limit from no background jet excludes more than 3.0


@dataclass(frozen=True)
class Point:
    """Sizes of a sample, its working point, and the difference of the means of the scores."""

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
        """True if an interval is expected, and not a limit."""
        return self.failing > MIN_FAILING - 1e-9 and self.passing >= MIN_PASSING

    def roc(self, efficiency: np.ndarray) -> np.ndarray:
        """Background efficiency at signal efficiencies."""
        return norm.sf(self.separation + norm.isf(efficiency))

    def draw(self, generator: np.random.Generator) -> Counts:
        """Signal jets of a sample in order of score, with the background jets between them."""
        efficiencies = np.sort(generator.random(self.signal))
        steps = np.diff(self.roc(efficiencies), prepend=0.0, append=1.0)
        background = np.zeros(2 * self.signal + 1, dtype=np.int64)
        background[::2] = generator.multinomial(self.background, steps)
        return Counts(np.arange(len(background)) % 2, background)


@dataclass(frozen=True)
class Coverage:
    """Fraction of the samples of a point whose interval or limit contains the true value."""

    point: Point
    before: tuple[float, float]  # at 68 % and 95 %
    after: tuple[float, float]
    limits: float  # fraction of samples with a limit
    quoted: float  # fraction whose limit, or else 95 % interval, contains the true value
    limits_wrong: float  # fraction in which the limit from no background jet excludes it
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
    """True if the limit, or the 95 % interval where there is none, contains the true value."""
    if not sample.missing:
        return covered(sample, truth)[1]
    limit = sample.measured()
    return truth <= limit.value if limit.limit == "upper" else truth >= limit.value


def covered(sample: RocPoint, truth: float) -> tuple[bool, bool]:
    """True where the 68 % and 95 % intervals, or the limit without them, contain the true value."""
    if sample.missing and sample.measured().low95 is None:
        inside = quoted(sample, truth)
        return inside, inside
    # Faster than quantiles: the distribution functions at the true value.
    low = sample.distribution("lower").cdf(truth)
    high = sample.distribution("upper").cdf(truth)
    tails = [(1 - level) / 2 for level in (ONE_SIGMA, CONFIDENCE)]
    return low > tails[0] and high < 1 - tails[0], low > tails[1] and high < 1 - tails[1]


def covered_before(sample: RocPoint, truth: float) -> tuple[bool, bool]:
    """The same for the interval value +- counting error of the rejection."""
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
    yield ["signal jets that fail", "points", "68 % before", "now", "95 % before", "now"]
    points = [c for c in found if c.point.has_interval]
    for low, high in pairwise(FAILING):
        some = [c for c in points if low - 1e-9 < c.point.failing < high - 1e-9]
        if some:
            name = f"{low} to {high}" if high < FAILING[-1] else f"{low} or more"
            values = [spread([getattr(c, when)[i] for c in some]) for i, when in COLUMNS]
            yield [name, str(len(some)), *values]


COLUMNS = ((0, "before"), (0, "after"), (1, "before"), (1, "after"))


def limit_rows(found: Iterable[Coverage]) -> Iterator[list[str]]:
    """Coverage where a limit is expected, by the reason for the limit."""
    yield [
        "expected",
        "points",
        "fraction with a limit",
        "limit or 95 % interval holds",
        "95 % before",
    ]
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
    """Fraction of samples in which the limit from no background jet excludes the true value."""
    yield ["signal jets", "εS", "limit excludes the true value, before", "now"]
    for signal, efficiency in product(LIMIT_SIGNAL, (0.3, 0.5)):
        truth = Point(signal, efficiency, 1, 2.0).truth
        point = Point(signal, efficiency, round(LIMIT_PASSING / truth), 2.0)
        found = measure(point, LIMIT_TOYS * toys, generator)
        wrong = (f"{x:.1%}" for x in (found.limits_wrong_before, found.limits_wrong))
        yield [str(signal), f"{efficiency:g}", *wrong]


def spread(values: list[float]) -> str:
    """Lowest, mean and highest of several fractions."""
    return f"{min(values):.2f} / {np.mean(values):.2f} / {max(values):.2f}"


def markdown(rows: Iterable[list[str]]) -> str:
    """Table of the rows in Markdown; the first row is the header."""
    header, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *body])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="use a small grid")
    parser.add_argument("--toys", type=int, default=1000, help="number of samples of each point")
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
