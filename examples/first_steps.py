"""First steps with networks, as figures in the folder `first_steps`.

    python examples/first_steps.py [--epochs 20]

Boundaries of two networks on spirals, paths of optimizers, over-fitting against the width, softmax and
the maximum, activation functions, and an ensemble outside the range of its training.
"""

import argparse

import numpy as np

import pcloud
from pcloud.evaluation.figures import save_figure
from pcloud.studies import first_steps as figures
from pcloud.tables import Table


def valley(p):
    """Rosenbrock's valley, whose minimum is at (1, 1)."""
    return (1 - p[0]) ** 2 + 10 * (p[1] - p[0] ** 2) ** 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs

    def train(data, name, **options):
        common = {"model": "mlp", "epochs": epochs, "lr": 1e-2, "batch_size": 32}
        common |= {"out": f"first_steps/{name}", "progress": False}
        return pcloud.train(data=data, **common | options)

    drawn = {"softmax": figures.softmax_figure(), "activations": figures.activation_figure()}
    spirals = pcloud.load_dataset("spirals", n=1000)
    for model in ("logistic", "mlp"):
        run = train(spirals, model, model=model)
        drawn[f"boundary_{model}"] = figures.boundary_figure(run, spirals)
    rates = {"sgd": 0.01, "momentum": 0.005, "rmsprop": 0.02, "adam": 0.1}
    paths = {n: figures.optimizer_path(n, valley, (-1, 1.5), lr=r) for n, r in rates.items()}
    drawn["paths"] = figures.paths_figure(paths, valley)
    few = pcloud.load_dataset("moons", n=100, noise=0.3)
    losses = {}
    for width in (2, 8, 32, 128):
        last = train(few, f"width_{width}", model_options={"widths": [width, width]}).history[-1]
        losses[width] = (last["train_loss"], last["val_loss"])
    drawn["capacity"] = figures.capacity_figure(losses, what="width")
    curve = pcloud.load_dataset("curve")
    run = train(curve, "ensemble", objective="y:squared", ensemble=3)
    x = np.linspace(-4, 4, 81)
    members = [m.predictions(Table(columns={"x": x}))["y"].mean.numpy() for m in run.members]
    about = {"column": "x", "target": "y", "label": "ensemble"}
    drawn["band"] = figures.band_figure(x, np.stack(members), curve, **about)
    for name, figure in drawn.items():
        print(*save_figure(figure, f"first_steps/{name}"))


if __name__ == "__main__":
    main()
