from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

from pcloud.simulate.block import Settings, make_block


@pytest.fixture(scope="module")
def jets(blocks) -> dict[str, ak.Array]:
    return {name: block.to_awkward() for name, block in blocks.items()}


@pytest.fixture(scope="module")
def axes(jets) -> dict[str, ak.Array]:
    return {name: ak.sum(some.p4, axis=1) for name, some in jets.items()}


@pytest.mark.parametrize("process", ["top", "qcd"])
def test_jets_lie_in_the_window_of_the_recipe(jets, axes, process):
    axis = axes[process]
    assert len(axis) == 60
    assert ak.all((axis.pt > 549.99) & (axis.pt < 650.01) & (abs(axis.eta) < 2))
    assert ak.max(ak.num(jets[process].p4)) <= 200
    assert ak.min(ak.num(jets[process].p4)) >= 1


@pytest.mark.parametrize("process", ["top", "qcd"])
def test_constituents_are_massless_ordered_and_near_the_axis(jets, axes, process):
    p4 = jets[process].p4
    assert ak.all(p4.pt[:, 1:] <= p4.pt[:, :-1] * (1 + 1e-6))
    assert ak.max(abs(p4.mass2) / p4.E**2) < 1e-6
    assert ak.mean(p4.deltaR(axes[process]) < 0.8) > 0.97  # anti-kT jets are nearly round


def test_labels_name_the_process(blocks):
    assert (blocks["top"].jet["label"] == 1).all()
    assert (blocks["qcd"].jet["label"] == 0).all()


def test_the_mass_peak_of_tops_is_at_the_top_mass(axes):
    low, median, high = np.percentile(axes["top"].mass, [16, 50, 84])
    assert 167 < median < 180
    assert 8 < (high - low) / 2 < 25  # resolution, radiation
    assert np.median(axes["qcd"].mass) < 110


def test_tops_have_more_constituents(jets):
    number = {name: ak.num(some.p4) for name, some in jets.items()}
    assert 50 < ak.mean(number["top"]) < 70
    assert 35 < ak.mean(number["qcd"]) < ak.mean(number["top"]) - 5


def test_the_true_top_is_in_the_jet_and_has_its_mass(jets, axes):
    top = jets["top"]
    truth = ak.zip(
        {name: top[f"truth_{name}"] for name in ("E", "px", "py", "pz")}, with_name="Momentum4D"
    )
    assert ak.all(truth.deltaR(axes["top"]) < 0.8)
    assert np.median(truth.mass) == pytest.approx(172.5, abs=1.5)
    assert 0.9 < ak.mean(axes["top"].pt / truth.pt) < 1.1
    assert ak.all(jets["qcd"].truth_E == 0)


def test_a_block_is_a_function_of_seed_and_number(sim):
    def momenta(index, seed):
        return make_block("qcd", index, Settings(seed, block_size=4)).p4[1]

    first = momenta(0, 1)
    assert np.array_equal(first, momenta(0, 1))
    assert not np.array_equal(first[:5], momenta(1, 1)[:5])
    assert not np.array_equal(first[:5], momenta(0, 2)[:5])


def test_blocks_use_seeds_that_follow_each_other(monkeypatch, sim):
    seeds, settings = [], Settings(seed=3, mpi=True, tune=21)

    class Stop(Exception):
        pass

    def spy(process, seed, **options):
        assert options == {"mpi": True, "tune": 21}
        seeds.append(seed)
        raise Stop

    monkeypatch.setattr("pcloud.simulate.engines.EventGenerator", spy)
    for process, index in (("qcd", 0), ("qcd", 1), ("top", 0), ("top", 10**9)):
        with pytest.raises(Stop):
            make_block(process, index, settings)
    assert (seeds[1] - seeds[0]) % 900_000_000 == 1
    assert seeds[2] not in seeds[:2]
    assert all(1 <= seed <= 900_000_000 for seed in seeds)


@pytest.mark.parametrize("process", ["top", "qcd"])
def test_the_targets_are_those_of_the_jet_before_the_detector(jets, axes, process):
    targets = jets[process].targets
    response = ak.to_numpy(axes[process].pt / targets.pt)
    assert np.isfinite(response).mean() > 0.97
    known = response[np.isfinite(response)]
    assert np.median(known) == pytest.approx(1, abs=0.03)
    assert np.abs(known - 1).max() < 0.5
    mass = ak.to_numpy(targets.mass)[np.isfinite(response)]
    assert ((mass > 0) & (mass < 500)).all()
    if process == "top":
        assert 165 < np.median(mass) < 180
