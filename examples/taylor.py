"""Taylor coefficients during a training, on two toys with a known answer.

In the first toy, two Gaussian classes differ in their means, and the response depends equally on x1
and x2. In the second toy the classes also have correlations of opposite sign. The product x1 x2
then separates the classes, too, and the network learns this late. The toys follow Wunsch et al.,
https://arxiv.org/abs/1803.08782.

    python examples/taylor.py [--steps 1500] [--out runs/taylor]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pcloud.evaluation.figures import save_figure
from pcloud.interpret import mean_in_plane, taylor_coefficients
from pcloud.interpret.figures import course_figure, plane_figure, ranking_figure


def gaussians(number: int, rho: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes with means of -0.5 and 0.5 in both inputs, and correlations of -rho and rho."""
    rng = np.random.default_rng(seed)
    y = np.arange(number) % 2
    sign = 2 * y - 1
    a, b = rng.normal(size=(2, number))
    x = np.stack([a, sign * rho * a + np.sqrt(1 - rho**2) * b], axis=1) + 0.5 * sign[:, None]
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def train(x, y, steps, every):
    """Train a small network, and return it with its coefficients during the training."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    course = {}
    for step in range(steps + 1):
        if step % every == 0:
            course[step] = taylor_coefficients(response(net), x[:1000]).mean_absolute()
        rows = torch.randint(len(x), (512,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
    return net, course


def response(net):
    return lambda x: net(x).softmax(-1)[:, 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=1500, help="training steps")
    parser.add_argument("--out", default="runs/taylor", help="folder of the figures")
    options = parser.parse_args()
    out = Path(options.out)
    for name, rho in (("means", 0.0), ("correlation", 0.5)):
        x, y = gaussians(20_000, rho, seed=1)
        net, course = train(x, y, options.steps, max(options.steps // 50, 1))
        found = taylor_coefficients(response(net), x[:5000])
        print(f"\n{name}")
        for coefficient, value in found.mean_absolute().items():
            print(f"  <t_({coefficient})> = {value}")
        save_figure(ranking_figure(found.mean_absolute()), out / f"{name}_ranking")
        figure = course_figure(course)
        figure.axes[0].set_xlabel("training step")
        save_figure(figure, out / f"{name}_course")
        edges = np.linspace(-3, 3, 31)
        mean, _ = mean_in_plane(*x[:5000].T.numpy(), found.of("x1", "x2"), (edges, edges))
        axes = {"xlabel": "$x_1$", "ylabel": "$x_2$", "label": "mean $t_{x_1 x_2}$"}
        save_figure(plane_figure(mean, (edges, edges), signed=True, **axes), out / f"{name}_plane")
    print(f"\nfigures: {out}")


if __name__ == "__main__":
    main()
