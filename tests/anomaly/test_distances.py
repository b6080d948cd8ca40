from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.spatial.distance import cdist

from pcloud.anomaly import chamfer_distance, energy_mover_distance


def clouds(number=4, points=(12, 7), seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for count in points:
        found.append(2 * torch.rand(number, count, 2, generator=generator).double() - 1)
    for count in points:
        weight = torch.rand(number, count, generator=generator).double() ** 3 + 1e-3
        found.append(weight / weight.sum(-1, keepdim=True))
    return found


def exact(x, y, v, w):
    """Least work by linear programming."""
    cost = cdist(x, y)
    rows = np.kron(np.eye(len(x)), np.ones(len(y)))
    columns = np.kron(np.ones(len(x)), np.eye(len(y)))
    sums = np.concatenate([v, w])
    # one of the sums follows from the others
    found = linprog(cost.ravel(), A_eq=np.vstack([rows, columns])[:-1], b_eq=sums[:-1])
    return found.fun


def test_the_energy_movers_distance_is_the_least_work_of_linear_programming():
    x, y, v, w = clouds()
    least = np.array(
        [exact(*(part.numpy() for part in jet)) for jet in zip(x, y, v, w, strict=True)]
    )
    found = energy_mover_distance(x, y, v, w, epsilon=0.005, iterations=500).numpy()
    assert (found >= least - 1e-9).all()  # its plan has exactly the weights
    np.testing.assert_allclose(found, least, atol=0.01)
    fast = energy_mover_distance(x, y, v, w).numpy()
    assert (fast >= least - 1e-9).all()
    np.testing.assert_allclose(fast, least, atol=0.06)


def test_the_energy_movers_distance_is_that_of_pot():
    ot = pytest.importorskip("ot")
    x, y, v, w = clouds()
    least = [ot.emd2(*(p.numpy() for p in (v[i], w[i])), cdist(x[i], y[i])) for i in range(len(x))]
    found = energy_mover_distance(x, y, v, w, epsilon=0.005, iterations=500).numpy()
    np.testing.assert_allclose(found, least, atol=0.01)


def test_the_chamfer_distance_is_that_of_a_loop():
    x, y, v, w = clouds(number=2)
    found = chamfer_distance(x, y, v, w)
    for jet in range(2):
        square = cdist(x[jet], y[jet]) ** 2
        expected = v[jet].numpy() @ square.min(1) + w[jet].numpy() @ square.min(0)
        np.testing.assert_allclose(found[jet], expected)


@pytest.mark.parametrize("distance", [chamfer_distance, energy_mover_distance])
def test_distances_ignore_order_and_empty_slots_and_vanish_for_equal_clouds(distance):
    x, y, v, w = clouds()
    found = distance(x, y, v, w)
    order = torch.randperm(x.shape[1])
    torch.testing.assert_close(distance(x[:, order], y, v[:, order], w), found)
    padded = torch.cat([x, x.new_full((4, 3, 2), 9.0)], 1), torch.cat([v, v.new_zeros(4, 3)], 1)
    torch.testing.assert_close(distance(padded[0], y, padded[1], w), found)
    assert (distance(x, x[:, order], v, v[:, order]) < 0.05 * found.min()).all()
    assert (distance(x, y, torch.zeros_like(v), w) == 0).all()


def test_single_precision_gives_the_same_work():
    x, y, v, w = clouds(number=200, points=(40, 24))
    single = energy_mover_distance(*(part.float() for part in (x, y, v, w)))
    torch.testing.assert_close(
        single.double(), energy_mover_distance(x, y, v, w), rtol=1e-3, atol=0
    )
    one = [part[:, :1] for part in (x, y)], [torch.ones(200, 1)] * 2
    far = energy_mover_distance(*(part.float() for part in (*one[0], *one[1])))
    torch.testing.assert_close(far.double(), (x[:, 0] - y[:, 0]).norm(dim=-1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("distance", [chamfer_distance, energy_mover_distance])
def test_the_gradient_is_that_of_finite_differences(distance):
    options = {} if distance is chamfer_distance else {"epsilon": 0.05, "iterations": 400}
    x, y, v, w = clouds(number=1, points=(6, 4))
    y.requires_grad_(True)
    (gradient,) = torch.autograd.grad(distance(x, y, v, w, **options).sum(), y)
    step = torch.zeros_like(y)
    step[0, 1, 0] = 1e-4
    with torch.no_grad():
        up, down = (distance(x, y + s * step, v, w, **options).sum() for s in (1, -1))
    difference = float(up - down) / 2e-4
    assert abs(float(gradient[0, 1, 0]) - difference) < 0.05 * float(gradient.abs().max())
