from __future__ import annotations

from types import SimpleNamespace

import awkward as ak
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch_geometric.data import Batch

import pcloud
from pcloud.batch import JetDataset, collate
from pcloud.errors import InputError, UnknownNameError
from pcloud.io import write_jets
from pcloud.io.jets import FlatJets
from pcloud.nn.layout import RaggedLayout
from pcloud.observables import compute_observables, jet_observables
from pcloud.training import decorrelation
from pcloud.training.config import DecorrelateConfig
from pcloud.training.decorrelation import Decorrelation, distance_correlation
from tests.training.conftest import make_jets


def brute_force(x: np.ndarray, y: np.ndarray) -> float:
    """The definition, index by index."""
    n = len(x)

    def centred(d: np.ndarray) -> np.ndarray:
        out = np.empty_like(d)
        for i in range(n):
            for j in range(n):
                out[i, j] = d[i, j] - d[i].mean() - d[:, j].mean() + d.mean()
        return out

    a, b = (centred(np.array([[abs(u - v) for u in z] for v in z])) for z in (x, y))
    return (a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean())


def test_distance_correlation_is_its_definition():
    generator = np.random.default_rng(0)
    x = generator.normal(size=25)
    y = x**2 + 0.3 * generator.normal(size=25)
    found = distance_correlation(torch.from_numpy(x), torch.from_numpy(y))
    assert float(found) == pytest.approx(brute_force(x, y), rel=1e-10)
    assert float(distance_correlation(torch.from_numpy(x), torch.from_numpy(3 - 2 * x))) == (
        pytest.approx(1)
    )


def unbiased_brute_force(x: np.ndarray, y: np.ndarray) -> float:
    """The definition of Szekely and Rizzo (arXiv:1310.2926), index by index."""
    n = len(x)

    def centred(z: np.ndarray) -> np.ndarray:
        d = [[abs(u - v) for v in z] for u in z]
        out = np.zeros((n, n))
        for i in range(n):
            for j in range(n):
                if i != j:
                    row = sum(d[i][k] for k in range(n)) / (n - 2)
                    column = sum(d[k][j] for k in range(n)) / (n - 2)
                    grand = sum(map(sum, d)) / ((n - 1) * (n - 2))
                    out[i, j] = d[i][j] - row - column + grand
        return out

    a, b = centred(x), centred(y)
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


@pytest.mark.parametrize("number", [4, 12])
def test_unbiased_distance_correlation_is_its_definition(number):
    generator = np.random.default_rng(0)
    x = generator.normal(size=number)
    y = x**2 + generator.normal(size=number)
    found = distance_correlation(torch.from_numpy(x), torch.from_numpy(y), unbiased=True)
    assert float(found) == pytest.approx(unbiased_brute_force(x, y), rel=1e-9)


@pytest.mark.parametrize("unbiased", [False, True])
def test_weights_count_pairs(unbiased):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 12, dtype=torch.double, generator=generator)
    weights = torch.tensor([0.0, 1, 2, 1, 0, 3, 1, 1, 1, 2, 1, 1])
    repeated = torch.repeat_interleave(torch.arange(12), weights.long())
    expected = distance_correlation(x[repeated], y[repeated], unbiased=unbiased)
    found = distance_correlation(x, y, weights, unbiased=unbiased)
    torch.testing.assert_close(found, expected)


def test_the_unbiased_correlation_of_independent_pairs_is_zero_on_average():
    generator = torch.Generator().manual_seed(2)
    values = [
        distance_correlation(*torch.randn(2, 20, dtype=torch.double, generator=generator), **how)
        for how in ({"unbiased": True}, {"unbiased": False})
        for _ in range(100)
    ]
    unbiased, plain = torch.stack(values).view(2, 100)
    assert abs(float(unbiased.mean())) < 4 * float(unbiased.std()) / 100**0.5
    assert float(unbiased.min()) < 0
    assert float(plain.mean()) > 0.05


@pytest.mark.parametrize("number", [0, 1, 3])
def test_too_few_pairs_have_no_unbiased_correlation(number):
    x = torch.randn(5, requires_grad=True, generator=torch.Generator().manual_seed(0))
    weights = (torch.arange(5) < number).float()
    found = distance_correlation(x, torch.arange(5.0), weights, unbiased=True)
    found.backward()
    assert not found.detach().any()
    assert not x.grad.any()


def test_independent_pairs_have_a_correlation_that_vanishes_and_dependent_ones_do_not():
    generator = torch.Generator().manual_seed(1)
    means = []
    for number in (50, 800):
        values = [
            distance_correlation(*torch.randn(2, number, dtype=torch.double, generator=generator))
            for _ in range(20)
        ]
        means.append(float(torch.stack(values).mean()))
    assert means[1] < 0.01 < means[0]
    assert means[0] == pytest.approx(16 * means[1], rel=0.5)  # as 1 / B
    x = torch.randn(800, dtype=torch.double, generator=generator)
    assert float(distance_correlation(x, x**2)) > 0.1  # no linear correlation here


@pytest.mark.parametrize("unbiased", [False, True])
def test_gradients_are_finite_where_scores_or_values_tie(unbiased):
    for constant in (0, 1):
        pair = [torch.arange(8.0), torch.arange(8.0)]
        pair[constant] = torch.zeros(8)
        pair[0].requires_grad_()
        distance_correlation(*pair, unbiased=unbiased).backward()
        assert not pair[0].grad.any()


def simulated_batch(number: int = 60) -> Batch:
    data = JetDataset(pcloud.load_dataset("simulated", "test")[:number])
    batch = collate(data, torch.arange(number))
    batch.layout = RaggedLayout.from_ptr(batch.ptr)
    return batch


def random_logits(number: int = 60, classes: int = 2) -> Tensor:
    return torch.randn(number, classes, generator=torch.Generator().manual_seed(0))


def test_the_penalty_is_over_background_jets():
    batch, logits = simulated_batch(), random_logits()
    penalty = Decorrelation("mass", 3.0)(logits, batch)
    background = batch.y == 0
    masses = compute_observables(batch.p4, batch.layout, ["mass"])[background, 0].float()
    score = logits.softmax(1)[background, 1]
    correlation = distance_correlation(score, masses, unbiased=True)
    # the ratio of the two: the spread of the score beside 0.04
    n = len(score)
    distance = (score.unsqueeze(1) - score).abs().double()
    rows = distance.sum(1) / (n - 2)
    centred = distance - rows.unsqueeze(1) - rows + distance.sum() / ((n - 1) * (n - 2))
    variance = centred.fill_diagonal_(0).square().sum() / (n * (n - 3))
    expected = correlation * (variance / (variance + 0.04)).sqrt()
    assert float(penalty) == pytest.approx(float(expected), rel=1e-4, abs=1e-6)
    others = logits.clone()
    others[~background] = 0  # the scores of the signal are nobody's business
    torch.testing.assert_close(Decorrelation("mass", 3.0)(others, batch), penalty)


def test_a_score_that_hardly_varies_is_hardly_penalised():
    """Its gradient stays finite, that of a pure distance correlation grows without limit."""
    batch = simulated_batch()
    masses = compute_observables(batch.p4, batch.layout, ["mass"])[:, 0].float()
    sizes = []
    for spread in (1e-4, 1.0):
        logits = torch.zeros(60, 2)
        logits[:, 1] = spread * (masses - masses.mean()) / masses.std()
        logits.requires_grad_()
        penalty = Decorrelation("mass", 1.0)(logits, batch)
        penalty.backward()
        sizes.append((float(penalty.detach()), float(logits.grad.norm())))
    assert sizes[0][0] < 1e-3 * sizes[1][0]
    assert sizes[0][1] < 20 * sizes[1][1]


def test_of_more_than_two_classes_the_score_is_not_being_background():
    batch, logits = simulated_batch(), random_logits(classes=3)
    folded = torch.stack([logits[:, 1], logits[:, [0, 2]].logsumexp(1)], dim=1)
    one_of_three = Decorrelation("pt", 1.0, background=1)(logits, batch)
    batch_of_two = batch.clone()
    batch_of_two.y = (batch.y != 1).long()
    one_of_two = Decorrelation("pt", 1.0)(folded, batch_of_two)
    torch.testing.assert_close(one_of_three, one_of_two)


@pytest.mark.parametrize("label", [0, 1])
def test_batches_of_one_class_have_finite_penalties(label):
    batch = simulated_batch()
    batch.y = torch.full_like(batch.y, label)
    logits = random_logits().requires_grad_()
    penalty = Decorrelation("multiplicity", 1.0)(logits, batch)
    penalty.backward()
    assert logits.grad.isfinite().all()
    assert bool(logits.grad.any()) == (label == 0)
    assert bool(penalty.detach().any()) == (label == 0)


def test_the_penalty_under_autocast_is_that_of_float32():
    batch, logits = simulated_batch(), random_logits()
    expected = Decorrelation("mass", 1.0)(logits, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Decorrelation("mass", 1.0)(logits, batch)
    assert found.dtype == torch.float32
    assert float(found) == float(expected)


def test_validation_takes_the_penalty_in_parts_that_sorting_does_not_change(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3000, generator=generator).sort().values
    logits = torch.stack([torch.zeros(3000), values + torch.randn(3000, generator=generator)], 1)
    labels = torch.zeros(3000, dtype=torch.long)
    penalty = Decorrelation("mass", 1.0)
    whole = penalty.penalty(logits, values, labels)
    monkeypatch.setattr(decorrelation, "_MAX_PAIRED_JETS", 500)
    parts = penalty.penalty_in_parts(logits, values, labels)
    assert float(parts) == pytest.approx(float(whole), rel=0.1)


def test_the_weight_grows_during_the_first_half():
    penalty = Decorrelation("mass", 3.0)
    assert [penalty.weight_at(p) for p in (0, 0.25, 0.5, 1)] == [0, 1.5, 3, 3]


def test_a_continued_run_is_at_the_same_part_of_its_warm_up(options, monkeypatch):
    """Stopped in the middle of the warm-up, by the weights of the steps that follow."""
    weights = []
    weight_at = Decorrelation.weight_at

    def recorded(self: Decorrelation, progress: float) -> float:
        weights.append(weight_at(self, progress))
        return weights[-1]

    def interrupted(self: Decorrelation, progress: float) -> float:
        if len(weights) == 4:
            raise RuntimeError("killed")
        return recorded(self, progress)

    options |= {"decorrelate": "multiplicity", "epochs": 2, "checkpoint_steps": 1}
    monkeypatch.setattr(Decorrelation, "weight_at", recorded)
    pcloud.train(**options, progress=False)
    whole = list(weights)
    options["out"] += "_stopped"
    weights.clear()
    monkeypatch.setattr(Decorrelation, "weight_at", interrupted)
    with pytest.raises(RuntimeError, match="killed"):
        pcloud.train(**options, progress=False)
    monkeypatch.setattr(Decorrelation, "weight_at", recorded)
    pcloud.train(**options, progress=False)
    assert weights == whole
    assert weights[0] == 0 < weights[1] < weights[-1]
    assert weights[-1] == DecorrelateConfig.decorrelate_weight


def test_the_penalty_takes_the_mass_out_of_a_score():
    """Background: mass and another number, both larger for signal. Two weights are fitted."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(400) % 2
    mass = 5 + label + torch.randn(400, generator=generator)
    other = label + torch.randn(400, generator=generator)
    p4 = torch.nn.functional.pad(mass.clamp(min=0.1).unsqueeze(1), (0, 3))  # at rest
    batch = SimpleNamespace(p4=p4, layout=RaggedLayout.from_batch(torch.arange(400)), y=label)
    shares = []
    for penalty in (0.0, 20.0):
        weight = torch.zeros(3, requires_grad=True)
        optimizer = torch.optim.Adam([weight], lr=0.1)
        for _ in range(80):
            odds = weight[0] * (mass - 5) + weight[1] * other + weight[2]
            logits = torch.stack([torch.zeros_like(odds), odds], dim=1)
            loss = torch.nn.functional.cross_entropy(logits, label)
            loss = loss + penalty * Decorrelation("mass", penalty)(logits, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        first, second, _ = weight.detach().abs().tolist()
        shares.append(first / second)
    assert shares[0] > 0.7
    assert shares[1] < 0.3


def test_at_its_defaults_the_tagger_tags_and_knows_less_of_the_mass(tmp_path):
    """A small particle flow network of 60 steps."""
    jets = pcloud.load_dataset("simulated", "test")[:2000]
    background = np.asarray(jets.label) == 0
    mass = torch.from_numpy(jet_observables(FlatJets.from_awkward(jets), ["mass"])["mass"])
    areas, correlations = [], []
    for penalty in ({}, {"decorrelate": "mass"}):
        run = pcloud.train(
            data="simulated",
            model="pfn",
            model_options={"phi_widths": [24, 24], "head_widths": [24, 24]},
            max_jets=3000,
            max_val_jets=500,
            epochs=10,
            batch_size=500,
            out=tmp_path / f"run{len(penalty)}",
            progress=False,
            **penalty,
        )
        scores = torch.from_numpy(run.predict(jets)).double()
        areas.append(roc_auc_score(jets.label, scores[:, 1]))
        score = scores[background, 1]
        correlations.append(distance_correlation(score, mass[background].double()).sqrt())
    assert areas[1] > 0.75
    assert correlations[1] < correlations[0] / 2


def test_the_option_reaches_the_training(options):
    options["epochs"] = 1
    plain = pcloud.train(**options, progress=False)
    options["out"] += "_decorrelated"
    paid = pcloud.train(**options, decorrelate="multiplicity", progress=False)
    jets = pcloud.read_jets(options["data"])[:20]
    assert not np.allclose(plain.predict(jets), paid.predict(jets))
    assert pcloud.Run(paid.path).config.decorrelate == "multiplicity"


def test_mistakes_are_said(options):
    with pytest.raises(UnknownNameError, match="mass"):
        Decorrelation("masses", 1.0)
    with pytest.raises(InputError, match="at least 0"):
        Decorrelation("mass", -1.0)
    with pytest.raises(InputError, match="decorrelate_weight"):
        pcloud.train(**options, decorrelate_weight=3.0, progress=False)
    with pytest.raises(InputError, match="monitor val_loss"):
        pcloud.train(**options, decorrelate="mass", monitor="val_auc", progress=False)
    with pytest.raises(UnknownNameError, match="class"):
        pcloud.train(**options, decorrelate="mass", decorrelate_background="c", progress=False)


def test_what_cannot_be_decorrelated_is_an_error_before_the_training(options, tmp_path):
    with pytest.raises(InputError, match=r"in a batch: of 4 jets [\d.]+ are of class 'a'"):
        pcloud.train(**options | {"batch_size": 4}, decorrelate="mass", progress=False)
    with pytest.raises(InputError, match=r"for validation, there are \d of class 'a'"):
        pcloud.train(**options, max_val_jets=3, decorrelate="mass", progress=False)
    jets = make_jets(200)
    same = ak.zip({"p4": jets.p4[:, :1], "label": jets.label}, depth_limit=1)
    same.attrs["classes"] = ["a", "b"]
    write_jets(same, tmp_path / "same.parquet")
    options["data"] = str(tmp_path / "same.parquet")
    with pytest.raises(InputError, match="the multiplicity of all jets of class 'a' is 1"):
        pcloud.train(**options, decorrelate="multiplicity", progress=False)
    assert not (tmp_path / "run" / "checkpoints").exists()
