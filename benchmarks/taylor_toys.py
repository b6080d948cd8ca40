"""Taylor coefficients of two toys with the settings of a lecture, beside its values.

    python benchmarks/taylor_toys.py --figures docs/figures

Two Gaussian classes in two inputs, with means of -0.5 and 0.5 in both, and correlations of -rho and rho. A
network of 100 tanh units is trained by Adam with a learning rate of 1e-4 until the validation loss has not
improved for 30 epochs. The first table has the mean absolute coefficients without correlation, for each
number of seeds the mean and the standard deviation, and those of the ideal response. The others have the
area under the ROC curve of a linear classifier, of the ideal response and of the network with correlations.
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from pcloud.evaluation.figures import save_figure
from pcloud.interpret import mean_in_plane, taylor_coefficients
from pcloud.interpret.figures import course_figure, plane_figure

LECTURE = {"x1": 0.16, "x2": 0.16, "x1, x2": 0.07, "x1, x1": 0.04, "x2, x2": 0.04}
"""Coefficients that the lecture gives."""

_PATIENCE = 30
_MAX_EPOCHS = 2000
_BATCH = 128
_EVENTS = 10_000
_SHOWN_EPOCHS = (1, 50)  # of the maps; the third is that of the chosen epoch


def gaussians(number: int, rho: float, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs (number, 2) and classes (number,), half of them each."""
    rng = np.random.default_rng(seed)
    y = np.arange(number) % 2
    sign = 2 * y - 1
    a, b = rng.normal(size=(2, number))
    x = np.stack([a, sign * rho * a + math.sqrt(1 - rho**2) * b], axis=1) + 0.5 * sign[:, None]
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


class Response(nn.Module):
    """Probability of the second class from 100 tanh units."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 100), nn.Tanh(), nn.Linear(100, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities (N,) of ``x (N, 2)``."""
        return self.net(x)[:, 0].sigmoid()


def train(rho: float, seed: int) -> tuple[Response, dict[int, Response]]:
    """Network of the best epoch, and those of single epochs."""
    torch.manual_seed(seed)
    x, y = gaussians(_EVENTS, rho, 2 * seed)
    val_x, val_y = gaussians(_EVENTS, rho, 2 * seed + 1)
    network = Response()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    loss = nn.BCELoss()
    best, best_loss, best_epoch = network, math.inf, 0
    kept = {}
    for epoch in range(1, _MAX_EPOCHS + 1):
        for rows in torch.randperm(len(x)).split(_BATCH):
            optimizer.zero_grad()
            loss(network(x[rows]), y[rows].float()).backward()
            optimizer.step()
        if epoch in _SHOWN_EPOCHS or epoch % 10 == 0:
            kept[epoch] = copy.deepcopy(network)
        with torch.no_grad():
            value = float(loss(network(val_x), val_y.float()))
        if value < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(network), value, epoch
        if epoch - best_epoch >= _PATIENCE:
            break
    return best, {e: n for e, n in kept.items() if e < best_epoch} | {best_epoch: best}


def coefficients(response: object, x: Tensor) -> dict[str, float]:
    """Mean absolute coefficients by name."""
    found = taylor_coefficients(response, x).mean_absolute()  # type: ignore[arg-type]
    return {name: float(value) for name, value in found.items()}


def main() -> None:
    """Print the tables and draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rho", type=float, nargs="+", default=[0.5])
    parser.add_argument("--figures", type=Path, help="folder of the figures")
    options = parser.parse_args()
    test_x, _ = gaussians(_EVENTS, 0.0, 1000)
    found = [coefficients(train(0.0, seed)[0], test_x) for seed in options.seeds]
    ideal = coefficients(lambda x: x.sum(-1).sigmoid(), test_x)
    print("| coefficient | lecture | network | ideal response |\n|---|---|---|---|")
    for name, value in LECTURE.items():
        values = [each[name] for each in found]
        print(f"| {name} | {value} | {mean(values)} | {ideal[name]:.3f} |", flush=True)

    print(
        "\n| correlation | linear | network | ratio | coefficient of x1 x2 |\n|---|---|---|---|---|"
    )
    for rho in options.rho:
        x, y = gaussians(20_000, rho, 2000)
        areas, linear, products = [], [], []
        for seed in options.seeds:
            network, kept = train(rho, seed)
            with torch.no_grad():
                areas.append(roc_auc_score(y, network(x)))
            known = gaussians(_EVENTS, rho, 2 * seed)
            plain = LogisticRegression().fit(*known)
            linear.append(roc_auc_score(y, plain.decision_function(x)))
            products.append(coefficients(network, x[:_EVENTS])["x1, x2"])
            if options.figures and rho == options.rho[0] and seed == options.seeds[0]:
                draw(kept, x[:_EVENTS], options.figures)
        ratios = [a / b for a, b in zip(areas, linear, strict=True)]
        cells = [mean(linear), mean(areas), mean(ratios), mean(products)]
        print(f"| {rho} | {' | '.join(cells)} |", flush=True)


def log_ratio(x: Tensor, rho: float) -> Tensor:
    """Logarithm (N,) of the ratio of the two densities, up to a constant."""
    a, b = x.double().unbind(1)

    def exponent(sign: int) -> Tensor:
        u, v = a - 0.5 * sign, b - 0.5 * sign
        return -(u * u + v * v - 2 * sign * rho * u * v) / (2 * (1 - rho**2))

    return exponent(1) - exponent(-1)


def mean(values: list[float]) -> str:
    """Mean and standard deviation of the seeds."""
    spread = np.std(values, ddof=1) if len(values) > 1 else math.nan
    return f"{np.mean(values):.4f} ± {spread:.4f}"


def draw(kept: dict[int, Response], x: Tensor, folder: Path) -> None:
    """Coefficients against the epoch, and maps of that of the product at three epochs."""
    course = {
        epoch: taylor_coefficients(net, x[:1000]).mean_absolute() for epoch, net in kept.items()
    }
    figure = course_figure(course)
    figure.axes[0].set_xlabel("epoch")
    save_figure(figure, folder / "taylor_toys_course")
    edges = np.linspace(-3, 3, 31)
    last = max(kept)
    for epoch in (*_SHOWN_EPOCHS, last):
        of_pair = taylor_coefficients(kept[epoch], x).of("x1", "x2")
        values, _ = mean_in_plane(*x.T.numpy(), of_pair, (edges, edges))
        labels = {
            "xlabel": "$x_1$",
            "ylabel": "$x_2$",
            "label": f"mean $t_{{x_1 x_2}}$, epoch {epoch}",
        }
        name = "last" if epoch == last else str(epoch)
        save_figure(
            plane_figure(values, (edges, edges), signed=True, **labels),
            folder / f"taylor_toys_{name}",
        )
    print(f"maps of epochs {_SHOWN_EPOCHS} and {last}")


if __name__ == "__main__":
    main()
