"""Pulses of a cryogenic detector: a dense network, a CNN and an LSTM find artefacts.

    python examples/pulses.py [--data x.npy] [--epochs 15]

`--data` is a file of records, such as the pulses of CRESST (arXiv:2211.00564); by default 3000
synthetic pulses. The networks are compared on the same test records.
"""

import argparse

import pcloud
from pcloud.evaluation import read_scores
from pcloud.studies.comparison import compare_taggers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="npz, HDF5 or npy file of records")
    parser.add_argument("--records", type=int, default=3000, help="number of synthetic records")
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    data = options.data or pcloud.load_dataset("pulses", n=options.records)
    scores = {}
    for model in ("series_dense", "series_cnn", "series_lstm"):
        run = pcloud.train(data=data, model=model, epochs=options.epochs, out=f"runs/{model}")
        run.evaluate(num_bootstrap=0)
        scores[model] = read_scores(run.path / "scores.parquet")
    found, _ = compare_taggers(scores, efficiencies=[0.5, 0.8], signal="pulse")
    print(found)


if __name__ == "__main__":
    main()
