"""Jets with hidden particles."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import torch
import vector

from pcloud.batch import JetDataset
from pcloud.batch.collate import collate
from pcloud.batch.masking import hide_particles
from pcloud.errors import InputError
from tests.training.conftest import make_jets

THIRD = 1 / 3


def batch_of(jets: ak.Array, **options):
    data = JetDataset(jets, **options)
    return collate(data, torch.arange(len(data)))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_third_of_each_jet_is_hidden_and_nothing_is_lost() -> None:
    batch = batch_of(make_jets(300))
    counts = batch.ptr.diff()
    x, ptr = batch.x.clone(), batch.ptr.clone()
    visible, hidden = hide_particles(batch, THIRD, seeded(1))
    assert torch.equal(torch.bincount(hidden.jet, minlength=300), counts // 3)
    assert torch.equal(visible.ptr.diff(), counts - counts // 3)
    assert torch.equal(torch.bincount(visible.batch, minlength=300), visible.ptr.diff())
    for jet in range(0, 300, 30):
        parts = [visible.x[visible.batch == jet], hidden.x[hidden.jet == jet]]
        rows = {tuple(row) for row in torch.cat(parts).tolist()}
        assert rows == {tuple(row) for row in x[ptr[jet] : ptr[jet + 1]].tolist()}
    assert torch.equal(batch.x, x)
    assert torch.equal(batch.ptr, ptr)


def test_all_particles_are_hidden_equally_often() -> None:
    jets = make_jets(40)
    batch = batch_of(jets[ak.num(jets.p4) == 6][:1])
    found = torch.zeros(6)
    for seed in range(600):
        ranks = hide_particles(batch, THIRD, seeded(seed))[1].queries[:, 0].expm1().round().long()
        found[ranks] += 1
    assert ((found - 200).abs() < 5 * np.sqrt(600 * 2 / 9)).all()


def test_hidden_momenta_are_relative_to_all_particles_of_the_jet() -> None:
    vector.register_awkward()
    jets = make_jets(50)
    batch = batch_of(jets)
    visible, hidden = hide_particles(batch, 0.5, seeded(2))
    axis = ak.sum(jets.p4, axis=1)
    chosen = axis[hidden.jet.numpy()]
    pt = np.exp(hidden.momenta[:, 0].double().numpy()) * chosen.pt
    eta = hidden.momenta[:, 1].double().numpy() * np.sign(chosen.eta) + chosen.eta
    phi = hidden.momenta[:, 2].double().numpy() + chosen.phi
    momenta = ak.zip({"pt": pt, "eta": eta, "phi": phi, "mass": 0 * pt}, with_name="Momentum4D")
    missing = np.stack(
        [
            np.bincount(hidden.jet, np.asarray(getattr(momenta, c)), minlength=50)
            for c in ("px", "py", "pz")
        ]
    )
    total = np.stack([np.asarray(getattr(axis, c)) for c in ("px", "py", "pz")])
    left = np.zeros((3, 50))
    np.add.at(left.T, visible.batch.numpy(), visible.p4[:, 1:].double().numpy())
    np.testing.assert_allclose(left + missing, total, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(visible.jet_p4[:, 1:].T, total, rtol=1e-5, atol=1e-4)


def test_the_same_generator_hides_the_same() -> None:
    batch = batch_of(make_jets(20))
    one, other = (hide_particles(batch, THIRD, seeded(5))[1] for _ in range(2))
    assert torch.equal(one.x, other.x)
    assert not torch.equal(one.x, hide_particles(batch, THIRD, seeded(6))[1].x)


def test_short_jets_and_further_collections_stay() -> None:
    jets = make_jets(60)
    columns = {"flight": ak.unflatten(np.arange(120.0), np.full(60, 2))}
    jets["sv"] = ak.zip(columns)
    batch = batch_of(jets, collections="all")
    visible, hidden = hide_particles(batch, 0.99, seeded(0))
    assert (visible.collection == 1).sum() == 120
    assert (visible.ptr.diff() >= 3).all()  # a particle and the two entries
    assert len(hidden.jet) + len(visible.x) == len(batch.x)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_outside_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        hide_particles(batch_of(make_jets(3)), fraction)
