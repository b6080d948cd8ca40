from __future__ import annotations

import pytest

import pcloud
from pcloud.models.flops import count_flops
from pcloud.studies import budget
from pcloud.studies.budget import jets_within_budget


def test_a_slow_network_looks_at_fewer_jets_and_never_at_fewer_than_asked(options, monkeypatch):
    run = pcloud.train(**options, progress=False)
    jets = pcloud.read_jets(options["data"])[:60]
    assert jets_within_budget(run, jets, passes=1, most=50) == 50
    assert jets_within_budget(run, jets, passes=1, most=1000) == 60
    data = pcloud.JetDataset(jets[:16], run.feature_set)
    (batch,) = pcloud.JetLoader(data, 16)
    operations = count_flops(run.model(), batch.x, batch.p4, batch.batch) / 16
    monkeypatch.setattr(budget, "_OPERATIONS", 90 * operations)
    assert jets_within_budget(run, jets, passes=3, most=50) == 30
    assert jets_within_budget(run, jets, passes=30, most=50) == 20
    assert jets_within_budget(run, jets, passes=30, most=50, least=1) == 3
    with pytest.raises(pcloud.errors.InputError, match="no checkpoint 'epoch_9'"):
        jets_within_budget(run, jets, passes=3, most=50, checkpoint="epoch_9")
