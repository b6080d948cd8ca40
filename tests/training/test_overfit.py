"""The check that a network can learn a few events by heart."""

from __future__ import annotations

import numpy as np
import pytest

import pcloud
from pcloud.errors import InputError
from pcloud.tables import Table
from pcloud.training.constant import NothingLearnedWarning

OPTIONS = {"model": "mlp", "batch_size": 8, "lr": 1e-2, "weight_decay": 0.0, "overfit": 40}


def test_a_network_learns_a_few_events_by_heart(tmp_path, capsys):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    noise = Table(columns={name: rng.normal(size=400) for name in "abcdefgh"}, label=labels)
    run = pcloud.train(data=noise, out=tmp_path, epochs=60, schedule="constant", **OPTIONS)
    assert run.history[-1]["val_acc"] >= 0.99
    said = capsys.readouterr().err
    assert "learned all 40 events by heart" in said
    assert "40 training events" in said


def test_what_to_check_is_said_if_it_does_not(tmp_path):
    table = Table(columns={"a": np.repeat(np.arange(100.0), 4)}, label=np.arange(400) % 2)
    with pytest.warns(NothingLearnedWarning, match="not learned 40 events by heart.*Check that"):
        pcloud.train(data=table, out=tmp_path, epochs=2, progress=False, **OPTIONS)
    with pytest.raises(InputError, match="overfit needs the objective class"):
        pcloud.train(data="curve", objective="y:squared", out=tmp_path / "b", **OPTIONS)
