"""Attribution to particles, robustness to modified jets, and a two-sample test.

Trains a tagger on the embedded sample, attributes its scores to the inputs, scores modified jets,
and tests whether jets with a wrong energy scale can be distinguished from unmodified ones.

    python examples/robustness.py [--model particlenet_lite] [--jets 300] [--epochs 2]
"""

import argparse

import numpy as np

import pcloud
from pcloud.evaluation.robustness import measure_robustness
from pcloud.evaluation.robustness_transformations import transform
from pcloud.evaluation.shift import compare_jets, summary
from pcloud.interpret.attribution import attribute
from pcloud.io.jets import FlatJets


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="particlenet_lite", help="model to train")
    parser.add_argument("--train-jets", type=int, default=4000, help="number of training jets")
    parser.add_argument("--jets", type=int, default=300, help="number of test jets")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of the training")
    parser.add_argument("--out", default="runs/robustness", help="folder of the run")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    run = pcloud.train(
        data="simulated",
        model=options.model,
        max_jets=options.train_jets,
        epochs=options.epochs,
        out=options.out,
    )
    jets = pcloud.load_dataset("simulated", "test")[: options.jets]

    # Integrated gradients add up to the difference of the log-odds of a jet and of the baseline, in
    # which every particle is the mean particle.
    found = attribute(run.model(), jets[:20], features=run.feature_set, steps=16)
    size = np.abs(found.values).mean(axis=0)
    for name, share in zip(found.columns, size / size.sum(), strict=True):
        print(f"{name:16s} {share:.0%} of the attribution")
    print(f"not accounted for: {np.abs(found.gap).mean():.2g} of", end=" ")
    print(f"{np.abs(found.response - found.baseline).mean():.2g} in the log-odds")

    # Modified jets: a collinear splitting or a rotation should not change the score.
    changes = {"energy_scale": [0.05], "particle_loss": [0.1], "collinear_splitting": [0.5]}
    changes["rotation"] = [2.0]
    effects = measure_robustness(
        run.predict, jets, transformations=changes, classes=run.classes
    ).effects
    for effect in effects:
        print(f"{effect.name:20s} change of the AUC {effect.auc_change}, score {effect.moved}")

    # Two-sample test: jets with energies that are 3 % too large against unmodified jets.
    half = len(jets) // 2
    shifted = transform(FlatJets.from_awkward(jets[half:]), "energy_scale", 0.03).to_awkward()
    test = compare_jets(jets[:half], shifted, classifier="logistic", permutations=200)
    print(summary(test))
    print("most different:", test.differences[0].observable)


if __name__ == "__main__":
    main()
