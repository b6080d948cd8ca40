"""Train two taggers on the same jets and compare them on the same test jets.

    python examples/compare_taggers.py [--models pfn particlenet_lite] [--epochs 5] [--out runs]

An interrupted script resumes its runs when it is started again.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_curve

import pcloud


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["pfn", "particlenet_lite"], help="models")
    parser.add_argument("--epochs", type=int, default=5, help="epochs (default: 5)")
    parser.add_argument("--max-jets", type=int, help="training jets (default: all)")
    parser.add_argument("--out", default="runs", help="folder of the runs (default: runs)")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    test = pcloud.load_dataset("simulated", "test")
    labels = test.label.to_numpy()
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    for model in options.models:
        run = pcloud.train(
            data="simulated",
            model=model,
            out=str(Path(options.out) / f"compare_{model}"),
            epochs=options.epochs,
            batch_size=256,
            max_jets=options.max_jets,
            seed=1,
        )
        scores = run.predict(test)
        print(f"\n{model}")
        print(pcloud.evaluate(labels, scores, classes=run.classes))
        background, signal, _ = roc_curve(labels, scores[:, 1])
        some = background > 0
        axes.plot(signal[some], 1 / background[some], label=model)
    axes.set(yscale="log", xlim=(0.1, 1), xlabel="top efficiency", ylabel="QCD rejection")
    axes.set_ylim(1, np.sum(labels == 0))
    axes.legend(frameon=False)
    path = Path(options.out) / "compare.png"
    figure.savefig(path, dpi=130)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
