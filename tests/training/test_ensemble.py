from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.training import TrainConfig
from pcloud.training.checkpoint import read_checkpoint
from pcloud.training.ensemble import member_config


def weights(run):
    return read_checkpoint(run.checkpoint("last"))["tagger"]["weights"]


def same(a, b):
    return all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.mark.usefixtures("undrawn")
def test_an_ensemble_is_runs_from_several_seeds_and_their_mean(options, jet_file):
    run = pcloud.train(**options, seed=4, ensemble=2, progress=False)
    assert run.finished
    assert [member.config.seed for member in run.members] == [4, 5]
    alone = pcloud.train(**options | {"out": options["out"] + "_alone"}, seed=5, progress=False)
    assert same(weights(run.members[1]), weights(alone))
    jets = pcloud.read_jets(jet_file)[:50]
    mean = np.mean([member.predict(jets) for member in run.members], axis=0)
    np.testing.assert_allclose(run.predict(jets), mean, rtol=1e-12)
    losses = [member.history[0]["val_loss"] for member in run.members]
    assert run.history[0]["val_loss"] == pytest.approx(np.mean(losses))
    with pytest.raises(InputError, match="members/"):
        run.model()
    for command in (["evaluate", "--bootstrap", "0"], ["calibrate"], ["uncertainty"], ["report"]):
        assert main([command[0], str(run.path), *command[1:]]) == 0
    assert "the 2 members of the ensemble" in (run.path / "report.html").read_text("utf-8")


def test_a_killed_ensemble_continues_to_the_same_weights(options):
    whole = pcloud.train(**options, ensemble=2, progress=False)
    config = TrainConfig(**options | {"out": options["out"] + "_killed"}, ensemble=2)
    pcloud.train(member_config(config, 1), progress=False)  # killed after the first member
    before = Path(config.out, "members/1/checkpoints/last.ckpt").stat().st_mtime_ns
    again = pcloud.train(config, progress=False)
    assert Path(config.out, "members/1/checkpoints/last.ckpt").stat().st_mtime_ns == before
    for a, b in zip(whole.members, again.members, strict=True):
        assert same(weights(a), weights(b))


@pytest.mark.once
@pytest.mark.slow
def test_members_side_by_side_stop_with_their_parent_and_continue(options):
    options = options | {"epochs": 12, "checkpoint_steps": 1}
    config = TrainConfig(**options, ensemble=2, workers=2)
    file = Path(config.out).with_suffix(".yaml")
    file.write_text(config.to_yaml())
    code = "from pcloud.cli import main; import sys; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "train", "--config", str(file), "-q"]
    started = subprocess.Popen(command)
    last = [Path(config.out, f"members/{i}/checkpoints/last.ckpt") for i in (1, 2)]
    deadline = time.monotonic() + 120
    while not all(path.exists() for path in last) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    run = _continued(config)
    alone = pcloud.train(**options | {"out": config.out + "_alone"}, seed=1, progress=False)
    assert same(weights(run.members[1]), weights(alone))


def _continued(config):
    """Continue, one by one, as soon as the members have noticed and freed their folders."""
    for _ in range(60):
        try:
            return pcloud.train(dataclasses.replace(config, workers=1), progress=False)
        except InputError:  # another process is training
            time.sleep(0.5)
    raise AssertionError("the members go on without their parent")
