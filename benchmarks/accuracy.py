"""AUC of ParticleNet-Lite in float32 and in bfloat16, and of that of weaver-core.

    python benchmarks/accuracy.py --out runs/accuracy

Trains the three networks with every seed and prints a table of the AUC and of its difference to the
first network. All networks use the same initial weights (those of weaver, unless ``--ways``
excludes it), the same jets of the embedded sample in the same order, the same recipe and the same test jets.
The first error is that of the mean over seeds. The second is due to the number of test jets; it is
computed by resampling jets together with all of their scores. Finished trainings are not repeated,
and interrupted ones resume.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from peers import points_and_features, weaver, with_weights_of
from scipy.stats import rankdata
from torch import Tensor, nn
from torch_geometric.data import Batch

import pcloud
from pcloud.nn import RaggedLayout
from pcloud.nn.layout import as_layout
from pcloud.training.data import load_splits

RESAMPLINGS = 200


class WeaverLite(nn.Module):
    """ParticleNet-Lite of weaver-core with the interface of pcloud; pads the jets."""

    def __init__(self, in_features: int, num_outputs: int = 2) -> None:
        super().__init__()
        self.network = at_the_start(in_features, num_outputs)

    def forward(
        self, x: Tensor, p4: Tensor, batch: Tensor, layout: RaggedLayout | None = None
    ) -> Tensor:
        """Logits (B, 2)."""
        jets = Batch(x=x, batch=batch)
        jets._num_graphs = as_layout(batch, layout).num_jets
        return self.network(*points_and_features(jets))


class OurLite(nn.Module):
    """ParticleNet-Lite of pcloud with the initial weights of weaver's."""

    def __init__(self, in_features: int, num_outputs: int = 2) -> None:
        super().__init__()
        start = at_the_start(in_features, num_outputs)
        self.network = with_weights_of("particlenet_lite", start)

    def forward(
        self, x: Tensor, p4: Tensor, batch: Tensor, layout: RaggedLayout | None = None
    ) -> Tensor:
        """Logits (B, 2)."""
        return self.network(x, p4, batch, layout)


def at_the_start(in_features: int, num_outputs: int) -> nn.Module:
    """ParticleNet-Lite of weaver-core, initialised with the first random numbers of a training."""
    if (in_features, num_outputs) != (7, 2):
        raise ValueError("weaver's network is built for 7 features and 2 classes here")
    return weaver("particlenet_lite", "fp32", compiled=False).model


WEAVER = "weaver-core, float32"
WAYS = {"ours, float32": "float32", "ours, bfloat16": "bfloat16", WEAVER: "float32"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, default=Path("runs/accuracy"), help="folder of the runs"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="networks")
    parser.add_argument("--max-jets", type=int, help="training jets (default: all 36 000)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs")
    options = parser.parse_args()
    scores: dict[str, list[np.ndarray]] = {way: [] for way in options.ways}
    for seed in options.seeds:
        for way in options.ways:
            run = train(way, seed, options)
            (test,) = load_splits(run.config, "test")
            scores[way].append(run.predict(test)[:, 1])
    print(table(scores, np.asarray(test.label)))


def train(way: str, seed: int, options: argparse.Namespace) -> pcloud.Run:
    if way == WEAVER:
        model = f"{__file__}:WeaverLite"
    else:
        model = f"{__file__}:OurLite" if WEAVER in options.ways else "particlenet_lite"
    return pcloud.train(
        data="simulated",
        out=options.out / f"{way.replace(', ', '-')}-{seed}",
        seed=seed,
        epochs=options.epochs,
        max_jets=options.max_jets,
        recipe="particlenet_lite_original",
        batch_size=256,
        model=model,
        precision=WAYS[way],
    )


def table(scores: dict[str, list[np.ndarray]], labels: np.ndarray) -> str:
    lines = [["network", "seeds", "AUC", "difference to the first row"], ["---"] * 4]
    first = next(iter(scores.values()))
    for way, found in scores.items():
        aucs = np.array([auc(labels, s) for s in found])
        apart = ""
        if found is not first:
            distance = aucs - [auc(labels, s) for s in first]
            apart = with_errors(distance, resampled(labels, found, first), 5)
        counting = resampled(labels, found)
        lines.append([way, str(len(found)), with_errors(aucs, counting, 4), apart])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve; that of scikit-learn, whose checks take longer than the ranks."""
    signal = labels == 1
    num = np.count_nonzero(signal)
    below = rankdata(scores)[signal].sum() - num * (num + 1) / 2
    return below / (num * (len(labels) - num))


def with_errors(values: np.ndarray, counting: float, digits: int) -> str:
    spread = f" ± {values.std(ddof=1) / len(values) ** 0.5:.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread} ± {counting:.{digits}f}"


def resampled(
    labels: np.ndarray, scores: Sequence[np.ndarray], less: Sequence[np.ndarray] = ()
) -> float:
    """Standard deviation of the mean AUC, or of its difference to others, over resampled jets."""
    random, means = np.random.default_rng(0), []
    for _ in range(RESAMPLINGS):
        jets = random.integers(0, len(labels), len(labels))
        aucs = [[auc(labels[jets], s[jets]) for s in some] for some in (scores, less)]
        means.append(np.mean(aucs[0]) - (np.mean(aucs[1]) if less else 0))
    return float(np.std(means, ddof=1))


if __name__ == "__main__":
    main()
