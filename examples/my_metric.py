"""A metric of your own is one function: this file registers one and measures a tagger with it.

    python examples/my_metric.py runs/demo/scores.parquet

A metric takes the true classes `labels (B,)` and the probabilities `scores (B, C)`, and returns a
number. Its error comes from resampling the jets.
"""

import argparse

import numpy as np

import pcloud
from pcloud.evaluation import read_scores


@pcloud.register_metric("median signal score")
def median_signal_score(labels: np.ndarray, scores: np.ndarray) -> float:
    """Median probability that signal jets are given."""
    return float(np.median(scores[labels == 1, 1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scores", help="scores.parquet of a run")
    sample = read_scores(parser.parse_args().scores)
    table = pcloud.evaluate(
        sample.labels, sample.values, classes=sample.classes, metrics=["median signal score"]
    )
    print(table)


if __name__ == "__main__":
    main()
