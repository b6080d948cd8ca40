"""Taylor coefficients of two toys with the settings of a lecture, beside its values.

    python benchmarks/taylor_toys.py --figures docs/figures

The data are `pcloud.load_dataset("gaussians")`: two classes in two inputs, with means of -0.5 and 0.5 in both, and
correlations of -rho and rho. A network of 100 tanh units is trained by Adam with a learning rate of 1e-4 until
the validation loss has not improved for 30 epochs. The first table has the mean absolute coefficients
without correlation: mean and standard deviation of the seeds, and those of the ideal response. The second has
the area under the ROC curve of a linear and of the ideal response, the third that of the trained network.
`examples/taylor_lecture.py` does one training as a run, with its report.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import pcloud
from pcloud.evaluation.figures import save_figure
from pcloud.interpret import mean_in_plane, taylor_coefficients
from pcloud.interpret.figures import course_figure, planes_figure
from pcloud.studies.taylor import PLANE_EDGES

LECTURE = {"x1": 0.16, "x2": 0.16, "x1, x2": 0.07, "x1, x1": 0.04, "x2, x2": 0.04}
"""Coefficients that the lecture gives."""

_PATIENCE = 30
_MAX_EPOCHS = 2000
_BATCH = 128
_EVENTS = 10_000  # for each of training, validation and coefficients
_TEST_SEED = 1000
_TEST_EVENTS = 1_000_000  # the binomial error of an area is then below 0.0005
_CORRELATIONS = (0.3, 0.5, 0.6, 0.7, 0.8)
_EARLY_EPOCHS = (1, 50)  # of the maps, beside the last one
Response = Callable[[Tensor], Tensor]


def gaussians(number: int, rho: float, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs (number, 2) and classes (number,)."""
    table = pcloud.load_dataset("gaussians", n=number, correlation=rho, seed=seed)
    x = np.stack([table.columns[name] for name in ("x1", "x2")], axis=1)
    return torch.from_numpy(x).float(), torch.as_tensor(table.label)


def train(rho: float, seed: int) -> tuple[nn.Module, dict[int, nn.Module]]:
    """Network of the best epoch, and those of the epochs that are drawn."""
    torch.manual_seed(seed)
    x, y = gaussians(_EVENTS, rho, 2 * seed)
    val_x, val_y = gaussians(_EVENTS, rho, 2 * seed + 1)
    network = nn.Sequential(
        nn.Linear(2, 100), nn.Tanh(), nn.Linear(100, 1), nn.Flatten(0), nn.Sigmoid()
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    loss = nn.BCELoss()
    best, best_loss, best_epoch = network, math.inf, 0
    kept: dict[int, nn.Module] = {}
    for epoch in range(1, _MAX_EPOCHS + 1):
        for rows in torch.randperm(len(x)).split(_BATCH):
            optimizer.zero_grad()
            loss(network(x[rows]), y[rows].float()).backward()
            optimizer.step()
        if epoch in _EARLY_EPOCHS or epoch % 10 == 0:
            kept[epoch] = copy.deepcopy(network)
        with torch.no_grad():
            value = float(loss(network(val_x), val_y.float()))
        if value < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(network), value, epoch
        if epoch - best_epoch >= _PATIENCE:
            break
    return best, {e: n for e, n in kept.items() if e < best_epoch} | {best_epoch: best}


def coefficients(response: Response, x: Tensor) -> dict[str, float]:
    """Mean absolute coefficients by name."""
    found = taylor_coefficients(response, x).mean_absolute()
    return {name: float(value) for name, value in found.items()}


def ideal(rho: float) -> Response:
    """Probability of the second class from the densities."""

    def exponent(x: Tensor, sign: int) -> Tensor:
        u, v = (x - 0.5 * sign).unbind(1)
        return (u * u + v * v - 2 * sign * rho * u * v) / (2 * (1 - rho**2))

    return lambda x: (exponent(x, -1) - exponent(x, 1)).sigmoid()


def main() -> None:
    """Print the tables and draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rho", type=float, default=0.5, help="correlation of the third table")
    parser.add_argument("--figures", type=Path, help="folder of the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    x, _ = gaussians(_EVENTS, 0.0, _TEST_SEED)
    found = [coefficients(train(0.0, seed)[0], x) for seed in options.seeds]
    best = coefficients(ideal(0.0), x)
    print("| coefficient | lecture | network | ideal response |\n|---|---|---|---|")
    for name, value in LECTURE.items():
        print(f"| {name} | {value} | {mean([f[name] for f in found])} | {best[name]:.3f} |")

    print("\n| correlation | linear | ideal | ratio |\n|---|---|---|---|")
    for rho in _CORRELATIONS:
        x, y = gaussians(_TEST_EVENTS, rho, _TEST_SEED)
        linear, area = (roc_auc_score(y, f(x)) for f in (ideal(0.0), ideal(rho)))
        print(f"| {rho} | {linear:.4f} | {area:.4f} | {area / linear:.4f} |", flush=True)

    print("\n| correlation | network | ratio to linear | coefficient of x1 x2 |\n|---|---|---|---|")
    x, y = gaussians(_TEST_EVENTS, options.rho, _TEST_SEED)
    linear = roc_auc_score(y, ideal(0.0)(x))
    trained = [train(options.rho, seed) for seed in options.seeds]
    with torch.no_grad():
        areas = [roc_auc_score(y, network(x)) for network, _ in trained]
    products = [coefficients(network, x[:_EVENTS])["x1, x2"] for network, _ in trained]
    cells = [mean(areas), mean([area / linear for area in areas]), mean(products)]
    print(f"| {options.rho} | {' | '.join(cells)} |")
    if options.figures:
        draw(trained[0][1], x[:_EVENTS], options.figures)


def mean(values: list[float]) -> str:
    """Mean and standard deviation of the seeds."""
    spread = np.std(values, ddof=1) if len(values) > 1 else math.nan
    return f"{np.mean(values):.4f} ± {spread:.4f}"


def draw(kept: dict[int, nn.Module], x: Tensor, folder: Path) -> None:
    """Coefficients against the epoch, and maps of that of the product at the early and last epoch."""
    found = {epoch: taylor_coefficients(network, x) for epoch, network in kept.items()}
    figure = course_figure({epoch: values.mean_absolute() for epoch, values in found.items()})
    figure.axes[0].set_xlabel("epoch")
    save_figure(figure, folder / "taylor_toys_course")
    edges = (PLANE_EDGES, PLANE_EDGES)
    planes = {
        epoch: mean_in_plane(*x.T.numpy(), found[epoch].of("x1", "x2"), edges)[0]
        for epoch in (*(e for e in _EARLY_EPOCHS if e in found), max(found))
    }
    labels = {"xlabel": "x1", "ylabel": "x2", "label": "mean t(x1, x2)"}
    save_figure(planes_figure(planes, PLANE_EDGES, **labels), folder / "taylor_toys_planes")


if __name__ == "__main__":
    main()
