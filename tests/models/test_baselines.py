"""The ladder of baselines: what each rung promises beyond the contract."""

from __future__ import annotations

import pytest
import torch

import pcloud
from pcloud import kinematics as kin
from pcloud.errors import UnknownNameError
from pcloud.features import feature_set
from pcloud.models import RecNN
from pcloud.nn import RaggedLayout
from pcloud.observables import compute_observables
from tests.models.contract import make_jets, make_model

PARAMETERS = [
    ("one_cut", 7, 2, {}, 4),
    ("hl_logistic", 7, 2, {}, 30),
    ("efn", 7, 2, {}, 82_358),
    ("pcnn", 7, 2, {}, 348_400),  # 348 k in the ParticleNet paper
    ("recnn", 7, 1, {"merge": "simple"}, 8_481),
    ("recnn", 7, 1, {"merge": "gated"}, 48_761),
]


@pytest.mark.parametrize(("name", "in_features", "num_outputs", "options", "expected"), PARAMETERS)
def test_parameters_are_the_published_number(name, in_features, num_outputs, options, expected):
    model = pcloud.build_model(name, in_features, num_outputs, **options)
    assert sum(p.numel() for p in model.parameters()) == expected


def split(p4, batch, index, fraction):
    """The jets with one particle split in two of the same direction."""
    p4 = torch.cat([p4, fraction * p4[index : index + 1]])
    p4[index] *= 1 - fraction
    batch, order = torch.cat([batch, batch[index : index + 1]]).sort(stable=True)
    return p4[order], batch


def with_soft(p4, batch, energy):
    """The jets with one more particle each, of hardly any energy, away from the axis."""
    jets = int(batch.max()) + 1
    zeros = torch.zeros(jets, dtype=p4.dtype)
    soft = kin.from_pt_eta_phi_mass(zeros + energy, zeros + 0.5, zeros - 0.7)
    batch, order = torch.cat([batch, torch.arange(jets)]).sort(stable=True)
    return torch.cat([p4, soft])[order], batch


@torch.no_grad()
def largest_change(name, changed):
    _, p4, batch = make_jets([3, 20, 40])
    p4 = p4.double()
    p4 = kin.from_pt_eta_phi_mass(kin.pt(p4), kin.eta(p4), kin.phi(p4))  # massless
    model = make_model(name).double()
    before = model(feature_set("kin")(p4, batch), p4, batch)
    p4, batch = changed(p4, batch)
    return (model(feature_set("kin")(p4, batch), p4, batch) - before).abs().max().item()


@pytest.mark.rounding
@pytest.mark.parametrize("fraction", [0.5, 0.01])
def test_a_collinear_splitting_changes_no_score_of_an_efn_but_that_of_a_pfn(fraction):
    assert largest_change("efn", lambda *jets: split(*jets, 5, fraction)) < 1e-12
    assert largest_change("pfn", lambda *jets: split(*jets, 5, fraction)) > 1e-4


@pytest.mark.rounding
@pytest.mark.parametrize("energy", [0.0, 1e-12])
def test_a_particle_without_energy_changes_no_score_of_an_efn_but_that_of_a_pfn(energy):
    assert largest_change("efn", lambda *jets: with_soft(*jets, energy)) < 1e-12
    assert largest_change("pfn", lambda *jets: with_soft(*jets, energy)) > 1e-4


@pytest.mark.rounding
@torch.no_grad()
def test_a_pcnn_sees_the_order_by_pt():
    x, p4, batch = make_jets([20, 20])
    model = make_model("pcnn")
    p4_swapped = p4.flip(0)  # the same features in another order
    assert (model(x, p4, batch) - model(x, p4_swapped, batch)).abs().max() > 1e-3


@pytest.mark.rounding
@torch.no_grad()
@pytest.mark.parametrize("algorithm", ["kt", "cambridge_aachen", "antikt"])
@pytest.mark.parametrize("merge", ["gated", "simple"])
def test_a_recnn_by_levels_is_the_recursion_of_the_paper(merge, algorithm):
    torch.manual_seed(0)
    model = RecNN(7, 3, merge=merge, algorithm=algorithm).double().eval()
    _, p4, batch = make_jets([12])
    p4 = p4.double()
    jet = p4.sum(0)

    def features(p):
        deta, dphi = kin.eta(p) - kin.eta(jet), kin.delta_phi(p, jet)
        logs = [kin.pt(p), p[0], kin.pt(p) / kin.pt(jet), p[0] / jet[0]]
        x = torch.stack([*(v.log() for v in logs), (deta**2 + dphi**2).sqrt(), deta, dphi])
        return model.embed(model.norm(x[None]))[0].relu()

    # cluster by brute force: every pair, every time
    power = {"kt": 1, "cambridge_aachen": 0, "antikt": -1}[algorithm]
    nodes = [(p, features(p)) for p in p4]
    while len(nodes) > 1:
        pairs = []
        for i, (a, _) in enumerate(nodes):
            for j, (b, _) in enumerate(nodes[:i]):
                dy, dphi = kin.rapidity(a) - kin.rapidity(b), kin.delta_phi(a, b)
                weight = min(kin.pt2(a).item() ** power, kin.pt2(b).item() ** power)
                pairs.append((weight * (dy**2 + dphi**2).item(), i, j))
        _, i, j = min(pairs)
        a, b = nodes.pop(i), nodes.pop(j)
        first, second = (a, b) if kin.pt(a[0]) > kin.pt(b[0]) else (b, a)
        p = a[0] + b[0]
        h = model.merge(first[1][None], second[1][None], features(p)[None])[0]
        nodes.append((p, h))
    expected = model.head(nodes[0][1])
    torch.testing.assert_close(model(None, p4, batch)[0], expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_one_cut_is_monotone_in_its_observable():
    _, p4, batch = make_jets([40] * 30)
    model = make_model("one_cut", num_outputs=2)
    score = model(None, p4, batch).softmax(-1)[:, 1]
    tau32 = compute_observables(p4, RaggedLayout.from_batch(batch), ["tau32"])[:, 0]
    steps = score[tau32.argsort()].diff()
    assert (steps > 0).all() or (steps < 0).all()


def test_observables_are_standardised_by_what_training_has_seen():
    model = pcloud.build_model("hl_logistic", 7, observables=("mass", "tau21"))
    _, p4, batch = make_jets([12] * 8 * 45)
    for jets in p4.split(12 * 8):
        model.train()(None, jets, batch[: 12 * 8])
    seen = compute_observables(p4, RaggedLayout.from_batch(batch), model.observables)
    torch.testing.assert_close(model.norm.running_mean.double(), seen.mean(0), rtol=0.1, atol=0)
    assert model.norm.running_mean[0] > 10  # GeV


@pytest.mark.parametrize(
    ("name", "options", "nearest"),
    [
        ("hl_mlp", {"observables": ("tau_32",)}, "tau32"),
        ("one_cut", {"observable": "masss"}, "mass"),
        ("recnn", {"algorithm": "anti_kt"}, "antikt"),
        ("recnn", {"merge": "gate"}, "gated"),
    ],
)
def test_unknown_options_are_refused_with_the_nearest(name, options, nearest):
    with pytest.raises(UnknownNameError, match=f"did you mean '{nearest}'"):
        pcloud.build_model(name, in_features=7, **options)
