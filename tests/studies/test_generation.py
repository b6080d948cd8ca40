"""Generated jets from a run: file, seed, evaluation, report, and commands that need scores."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.io.jets import FlatJets
from pcloud.observables import jet_observables
from pcloud.report import write_report
from pcloud.studies import generation
from pcloud.studies.generation import CollapseWarning, StoredGeneration


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("generator") / "run"
    jets = pcloud.load_dataset("simulated", "train")[:3000]
    path = out.parent / "jets.parquet"
    pcloud.write_jets(jets[:700], path)
    small = {"width": 16, "num_layers": 1, "num_heads": 4}
    return pcloud.train(
        data=str(path),
        val_fraction=0.3,
        test_fraction=0.3,
        objective="generate",
        model_options=small,
        epochs=1,
        out=str(out),
        progress=False,
        deterministic=True,
    )


def test_training_is_that_of_every_run(run):
    assert run.config.model == "flow_matching"
    assert set(run.history.columns) >= {"val_loss", "val_loss_particles", "val_loss_jet"}
    again = pcloud.train(run.config, progress=False)  # finished
    assert again.checksum() == run.checksum()


def test_jets_depend_on_the_seed_alone(run, tmp_path, capsys):
    out = tmp_path / "jets.parquet"
    words = ["generate", str(run.path), "-n", "520", "--steps", "2", "-o", str(out), "-q"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "520 jets" in said
    assert "4 passes through the network" in said
    jets = pcloud.read_jets(out)
    assert jets.attrs["classes"] == ["qcd", "top"]
    assert np.bincount(np.asarray(jets.label)).tolist() == [260, 260]
    same = run.generate(510, steps=2)
    columns = [jet_observables(FlatJets.from_awkward(j[:510])) for j in (jets, same)]
    assert np.array_equal(columns[0]["mass"], columns[1]["mass"])
    other = run.generate(510, steps=2, seed=1)
    assert not np.array_equal(np.asarray(other.p4[0].px), np.asarray(same.p4[0].px))
    assert set(np.asarray(run.generate(10, steps=1, classes=["top"]).label)) == {1}
    pt = [np.hypot(*(np.asarray(jets.p4[0][c]).sum() for c in ("px", "py")))]
    assert 400 < pt[0] < 800
    assert main(["inspect", str(out)]) == 0


def test_bad_input_is_refused_in_one_line(run, tmp_path, capsys):
    cases = {
        "--steps 0": "steps must be between 1 and 10000",
        "--method euler": "no method named 'euler'; known: heun, midpoint",
        "--classes w": "no class named 'w'",
        "-n 0": "number must be at least 1",
        f"-o {tmp_path}/jets.root": "not 'jets.root'",
        f"-o {tmp_path}/none/jets.parquet": "does not exist",
    }
    for words, message in cases.items():
        out = [] if "-o" in words else ["-o", str(tmp_path / "x.parquet")]
        assert main(["generate", str(run.path), *words.split(), *out]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_generator_gives_no_scores(run, tmp_path, capsys):
    jets = run.config.data
    commands = {
        f"predict {run.path} {jets} -o {tmp_path}/s.parquet": "is a generator",
        f"calibrate {run.path}": "",
        f"explain {run.path}": "",
        f"uncertainty {run.path}": "",
        f"export {run.path} -o {tmp_path}/x.onnx": "",
        f"evaluate {run.path} --robustness": "is for taggers",
    }
    for command, message in commands.items():
        assert main(command.split()) == 2, command
        error = capsys.readouterr().err
        assert message in error, command
        assert error.count("\n") == 1, error


def test_an_evaluation_is_stored_and_drawn(run, capsys, undrawn):
    words = ["evaluate", str(run.path), "--generated-jets", "300", "--steps", "2"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "median over observables of distance over floor" in said
    assert "AUC of boosting, real against generated" in said
    assert pq.read_metadata(run.path / "generated.parquet").num_rows == 300
    stored = StoredGeneration.read(run.path)
    assert stored.rate > 0
    assert {d.quantity for d in stored.distances} >= {"mass", "tau21", "FPD", "KPD", "coverage"}
    page = write_report(run.path).read_text(encoding="utf-8")
    assert "Generated jets" in page
    assert "Wasserstein" in page


def test_a_collapsed_sample_is_said_to_be_one(run, tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "save_figure", lambda figure, path: [])
    jets = pcloud.load_dataset("simulated", "test")
    few = jets[[0, 1, 2, 3, 4, 5, 6, 7] * 40]
    path = tmp_path / "same.parquet"
    pcloud.write_jets(few, path)
    with pytest.warns(CollapseWarning, match="times as far from each other"):
        found = run.writing_to(tmp_path).evaluate_generator(source=str(path), classifiers=[])
    assert found.collapsed
    good = tmp_path / "real.parquet"
    pcloud.write_jets(jets[:500], good)
    found = run.writing_to(tmp_path).evaluate_generator(source=str(good))
    assert not found.collapsed
    assert found.median_ratio() < 2.0
    assert abs(found.areas["boosting"].value - 0.5) < 4 * found.areas["boosting"].error
    with pytest.raises(InputError, match="no classifier named"):
        run.evaluate_generator(source=str(good), classifiers=["trees"])
