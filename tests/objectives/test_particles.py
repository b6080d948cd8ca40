from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pcloud.errors import InputError
from pcloud.io.particle_labels import UNKNOWN_LABEL
from pcloud.objectives.build import make_objective, objective_from_dict
from pcloud.objectives.of_particles import OfParticles
from pcloud.objectives.particle_predictions import PairBernoulli, ParticleCategorical
from pcloud.objectives.predictions import average, joined
from pcloud.objectives.rows import ParticleRows, pairs_of
from pcloud.objectives.several import Several
from pcloud.objectives.specification import parse_objectives

WIDTH = 6


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def rows_of(counts: list[int], labels: Any = None, seed: int = 0) -> ParticleRows:
    generator = torch.Generator().manual_seed(seed)
    jet = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    features = torch.randn(len(jet), WIDTH, generator=generator)
    if labels is None:
        labels = torch.randint(-1, 3, (len(jet), 2), generator=generator)
    return ParticleRows(features, jet, len(counts), labels)


def objective_of(*wanted: Any, **options: Any) -> Several:
    classes = {"particle_classes": {"origin": ["a", "b", "c"]}}
    found = make_objective(parse_objectives(list(wanted)), **classes, **options)
    found.attach(WIDTH, "pfn")
    return found


def part_of(*wanted: Any) -> OfParticles:
    return objective_of(*wanted).of_particles[0]


def data_of(rows: ParticleRows, **others: Any) -> Any:
    ptr = torch.cat([torch.zeros(1).long(), rows.counts.cumsum(0)])
    return SimpleNamespace(ptr=ptr, particle_labels=rows.labels, collection=None, **others)


def test_pairs_are_those_of_each_jet_in_order():
    counts = [3, 0, 1, 4]
    expected, start = [], 0
    for n in counts:
        expected += list(itertools.combinations(range(start, start + n), 2))
        start += n
    first, second = pairs_of(torch.tensor(counts))
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == expected


def test_a_pair_has_no_order():
    layers = part_of("vertex:pairs").layers
    h = torch.randn(7, WIDTH)
    first, second = pairs_of(torch.tensor([7]))
    assert torch.equal(layers(h, first, second), layers(h, second, first))


def test_the_loss_of_classes_is_the_mean_over_particles_with_a_label():
    part = part_of("origin:classes")
    rows = rows_of([3, 0, 5])
    logits = part(rows).logits
    labels = rows.labels[:, 0]
    w = torch.tensor([2.0, 1.0, 0.5])
    terms = [
        w[rows.jet[i]] * -logits[i].log_softmax(-1)[labels[i]]
        for i in range(len(labels))
        if labels[i] >= 0
    ]
    torch.testing.assert_close(part.loss(rows, w), torch.stack(terms).mean())


def test_the_loss_of_pairs_is_the_mean_over_pairs_with_known_labels():
    part = part_of("vertex:pairs")
    labels = torch.tensor([[0], [0], [1], [UNKNOWN_LABEL], [-2], [-2], [3]])
    rows = rows_of([4, 3], labels)
    logits = {}
    for (i, j), logit in zip(
        zip(*pairs_of(rows.counts), strict=True), part(rows).logits, strict=True
    ):
        logits[int(i), int(j)] = logit
    same = {(0, 1): 1.0, (0, 2): 0.0, (1, 2): 0.0, (4, 5): 0.0, (4, 6): 0.0, (5, 6): 0.0}
    terms = [
        torch.nn.functional.binary_cross_entropy_with_logits(logits[pair], torch.tensor(y))
        for pair, y in same.items()
    ]
    torch.testing.assert_close(part.loss(rows), torch.stack(terms).mean())


@pytest.mark.parametrize("kind", ["origin:classes", "vertex:pairs"])
def test_held_sums_of_batches_give_the_loss_of_all_jets(kind):
    part = part_of(kind)
    rows = rows_of([3, 5, 1, 4])
    w = torch.rand(4)
    part.fit(data_of(rows, weight=w))
    halves = []
    for jets, own in ((slice(0, 2), slice(0, 8)), (slice(2, 4), slice(8, None))):
        first = jets.start
        halves.append(
            part.held(ParticleRows(rows.features[own], rows.jet[own] - first, 2, rows.labels[own]))
        )
    held = {name: torch.cat([half[name] for half in halves]) for name in halves[0]}
    losses, jet = part.losses(rows)
    assert part.mean_loss(held, w) == pytest.approx(
        float((losses.detach() * w[jet]).sum() / w[jet].sum()), rel=1e-6
    )
    gain, error = part.gain(held, w)
    assert gain == pytest.approx(part.constant_loss(held, w) - part.mean_loss(held, w), rel=1e-6)
    assert error > 0
    assert part.mean_weight == pytest.approx(float(w[jet].mean()), rel=1e-6)
    assert set(part.metric_names) == set(part.metrics(held, w))


@pytest.mark.parametrize("kind", ["origin:classes", "vertex:pairs"])
def test_no_other_constant_prediction_has_a_smaller_loss(kind):
    part = part_of(kind)
    rows = rows_of([3, 5, 1, 4] * 10)
    part.fit(data_of(rows))
    best = float(part.constant_losses(rows).mean())
    for size in (-0.1, 0.1):
        if kind == "vertex:pairs":
            part.constant += size
            other = float(part.constant_losses(rows).mean())
            part.constant -= size
        else:
            before = part.log_fractions
            part.log_fractions = (before + size * torch.tensor([1.0, 0, 0])).log_softmax(-1)
            other = float(part.constant_losses(rows).mean())
            part.log_fractions = before
        assert other > best


def test_predictions_in_the_order_of_the_input():
    counts = torch.tensor([4, 2, 0, 3])
    jet = torch.repeat_interleave(torch.arange(4), counts)
    order = torch.argsort(jet + 0.9 * torch.rand(9))  # canonical row r is order[r] of the input
    h = torch.randn(9, WIDTH)
    pairs, classes = part_of("vertex:pairs"), part_of("origin:classes")
    rows = ParticleRows(h, jet, 4)
    canonical = ParticleRows(h[order], jet, 4)
    for part in (pairs, classes):
        torch.testing.assert_close(
            part(canonical).in_input_order(order).logits, part(rows).logits, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("kind", [ParticleCategorical, PairBernoulli])
def test_predictions_are_selected_joined_and_averaged_by_jet(kind):
    counts = torch.tensor([3, 1, 4])
    number = 8 if kind is ParticleCategorical else 9
    shape = (number, 3) if kind is ParticleCategorical else (number,)
    whole = kind(torch.randn(shape), counts)
    parts = [whole[torch.tensor([i])] for i in range(3)]
    again = joined(parts)
    assert torch.equal(again.logits, whole.logits)
    assert torch.equal(again.counts, counts)
    assert torch.equal(whole[torch.tensor([False, False, True])].logits, parts[2].logits)
    other = kind(torch.randn(shape), counts)
    torch.testing.assert_close(average([whole, other]).mean, (whole.mean + other.mean) / 2)


def test_groups_follow_pairs_above_a_threshold():
    logits = torch.full((6,), -5.0)  # (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)
    logits[0] = logits[4] = 1.0
    found = PairBernoulli(logits, torch.tensor([4]))
    assert found.groups().tolist() == [0, 0, -1, 0]
    assert found.groups(0.8).tolist() == [-1] * 4
    assert found[torch.tensor([0, 0])].groups().tolist() == [0, 0, -1, 0] * 2


def test_a_stored_objective_predicts_the_same():
    objective = objective_of(
        "origin:classes", {"target": "vertex", "kind": "pairs", "widths": [9, 5]}
    )
    again = objective_from_dict(objective.to_dict())
    again.attach(WIDTH, "pfn")
    rows = rows_of([3, 5])
    for name, found in objective.predict_particles(rows).items():
        assert torch.equal(again.predict_particles(rows)[name].logits, found.logits)
    with pytest.raises(InputError, match=r"'origin' was trained on 6 features .* gives 7"):
        again.attach(7, "pfn")


@pytest.mark.parametrize(
    "change",
    [
        {"width": 7},
        {"weights": {}},
        {"classes": []},
        {"weights": {"1.bias": torch.full((3,), torch.nan)}},
    ],
)
def test_damaged_layers_are_an_error(change):
    stored = objective_of("origin:classes").to_dict()
    stored["parts"][0] |= change
    with pytest.raises(InputError):
        objective_from_dict(stored)


@pytest.mark.parametrize(
    ("kind", "labels", "message"),
    [
        ("origin:classes", [-1] * 5, "'origin' is missing for all of the training jets"),
        ("origin:classes", [1] * 5, "'origin' is 'b' in all particles"),
        ("vertex:pairs", [0, 1, 0, 1, 2], "the same in none of the 4 pairs"),
        ("vertex:pairs", [0, 0, 1, 1, 1], "the same in all of the 4 pairs"),
        ("vertex:pairs", [UNKNOWN_LABEL] * 5, "no jet of the training jets has two particles"),
    ],
)
def test_labels_without_anything_to_learn_are_refused(kind, labels, message):
    rows = rows_of([2, 3], torch.tensor(labels).unsqueeze(1))
    with pytest.raises(InputError, match=message):
        part_of(kind).fit(data_of(rows))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"target": "vertex", "kind": "pairs", "widths": []}, "widths must be positive"),
        ({"target": "vertex", "kind": "pairs", "widths": "a"}, "widths must be positive"),
        ({"target": "vertex", "kind": "pairs", "threshold": 1.0}, "threshold must be between"),
        ("vertex:pairs:0.3", "the kind pairs takes no numbers"),
        ("sv.kind:classes", "of the collection 'sv', which is not among the inputs"),
    ],
)
def test_objectives_that_cannot_be_used_are_named(wanted, message):
    with pytest.raises(InputError, match=message):
        objective_of(wanted)


def test_a_network_without_representations_cannot_serve_them():
    objective = make_objective(parse_objectives("vertex:pairs"))
    with pytest.raises(InputError, match=r"vertex:pairs needs a representation .* 'pcnn' has none"):
        objective.attach(None, "pcnn")


def test_rows_of_a_collection_are_selected():
    rows = rows_of([3, 2])
    rows = ParticleRows(rows.features, rows.jet, 2, rows.labels, torch.tensor([0, 1, 1, 0, 1]))
    found = rows.of_collection(1)
    assert found.counts.tolist() == [2, 1]
    assert torch.equal(found.features, rows.features[[1, 2, 4]])
    np.testing.assert_array_equal(found.labels, rows.labels[[1, 2, 4]])
