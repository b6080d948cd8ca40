"""The studies of a run by its methods, its report with damaged files, and its notebook forms."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError, UnknownNameError, UnreadableFileWarning
from pcloud.evaluation import read_metrics
from pcloud.io import write_jets
from pcloud.report import sections
from pcloud.report.contents import RunContents
from pcloud.report.figures import FigureFolder
from pcloud.training.history import History
from pcloud.training.run_folder import RunFolder
from tests.conftest import only_transformations
from tests.training.conftest import TINY, make_jets

STUDIES = {
    "calibration.json": sections.calibration,
    "uncertainty.json": sections.uncertainty,
    "uncertainty.parquet": sections.uncertainty,
    "taylor.json": sections.taylor,
    "attribution.json": sections.attribution,
    "robustness.json": sections.robustness,
    "shift/a_b.json": sections.shift,
    "evaluations/val/metrics.json": sections.other_samples,
}
"""Section of the report that shows each result file."""

DAMAGE = {
    "truncated": lambda content: content[: len(content) // 2],
    "of another kind": lambda content: b"[1, 2]\n",
    "empty": lambda content: b"",
    "without its fields": lambda content: b"{}\n",
    "not text": lambda content: b"\xff\xfe\x00\x81",
}


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> pcloud.Run:
    """Run on which every study was done."""
    folder = tmp_path_factory.mktemp("studied")
    for name, seed in (("a", 1), ("b", 2), ("jets", 0)):
        write_jets(make_jets(500 if name == "jets" else 100, seed), folder / f"{name}.parquet")
    run = pcloud.train(
        data=str(folder / "jets.parquet"), model=TINY, out=str(folder / "run"), epochs=2,
        batch_size=64, keep_checkpoints=True, progress=False,
    )  # fmt: skip
    run.evaluate(num_bootstrap=0)
    run.evaluate(split="val", num_bootstrap=0)
    run.calibrate()
    run.uncertainty(samples=5)
    run.explain("taylor", jets=20, pair_jets=1)
    run.explain("occlusion", jets=3)
    with only_transformations("rotation"):
        run.robustness(jets=50)
    options = {"classifier": "logistic", "permutations": 9}
    run.compare(str(folder / "a.parquet"), str(folder / "b.parquet"), **options)
    return run


@pytest.fixture
def run(studied: pcloud.Run, tmp_path: Path) -> pcloud.Run:
    """Copy of it."""
    return pcloud.Run(shutil.copytree(studied.path, tmp_path / "run"))


def body(section, run: pcloud.Run) -> str:
    return section(RunContents.read(run.path), FigureFolder(run.path / "figures")).body


def test_training_returns_the_run_with_all_studies(studied):
    assert type(studied) is pcloud.Run
    assert isinstance(studied, RunFolder)
    assert type(studied.members[0]) is pcloud.Run
    for file in STUDIES:
        assert (studied.path / file).exists(), file


def test_a_study_returns_what_its_file_holds(run):
    table = run.evaluate(num_bootstrap=0)
    assert str(table) == str(read_metrics(run.path))
    jets = run.predict(pcloud.read_jets(run.config.data), calibrated=True)
    np.testing.assert_allclose(jets.sum(axis=1), 1)
    taylor = run.explain(jets=5, pair_jets=0)
    assert str(type(taylor).read(run.path)) == str(taylor)
    attribution = run.explain(["occlusion"], jets=2)
    assert type(attribution).read(run.path).classes[0].drawn == attribution.classes[0].drawn
    assert "<table>" in attribution._repr_html_()
    with pytest.raises(InputError, match="two results"):
        run.explain(["taylor", "occlusion"])


@pytest.mark.parametrize("study", ["taylor", "occlusion", "robustness", "uncertainty"])
def test_progress_adds_up_to_the_whole_work(run, study):
    parts: list[float] = []
    if study == "robustness":
        with only_transformations("rotation"):
            run.robustness(jets=20, advance=parts.append)
    elif study == "uncertainty":
        run.uncertainty(samples=2, jets=20, advance=parts.append)
    else:
        run.explain(study, jets=2, advance=parts.append)
    assert sum(parts) == pytest.approx(1)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("file", STUDIES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_result_removes_only_its_part_and_is_named(run, file, damage):
    path, section = run.path / file, STUDIES[file]
    assert body(section, run)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.warns(UnreadableFileWarning, match="holds no") as caught:
        rest = body(section, run)
    (warning,) = caught
    assert str(path) in str(warning.message)
    assert "the report leaves this out" in str(warning.message)
    if section is sections.calibration:  # the reliability of uncalibrated scores remains
        assert "pcloud calibrate" in rest
    else:
        assert rest == ""


@pytest.mark.usefixtures("undrawn")
@pytest.mark.filterwarnings("always::pcloud.errors.UnreadableFileWarning")
def test_the_page_appears_with_all_results_damaged(run, capsys):
    for file in STUDIES:
        (run.path / file).write_text("{")
    assert main(["report", str(run.path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    named = {file for file in STUDIES if any(str(run.path / file) in line for line in lines)}
    assert named == set(STUDIES) - {"uncertainty.parquet"}  # not read without its JSON
    assert len(lines) == len(named)
    assert all(line.startswith("pcloud: warning: ") for line in lines)
    page = (run.path / "report.html").read_text("utf-8")
    assert "ROC curves and scores" in page
    assert "Robustness to modified jets" not in page


def test_results_are_strict_json(studied):
    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    for path in studied.path.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)


def test_no_temporary_file_remains(studied):
    assert not list(studied.path.rglob(".*"))


def test_history_is_a_table(studied):
    history = studied.history
    assert isinstance(history, History)
    assert len(history) == 2
    assert history[-1]["epoch"] == 2
    assert [row["val_loss"] for row in history] == history.column("val_loss").tolist()
    assert str(history).splitlines()[0].split()[:2] == ["epoch", "train_loss"]
    assert history._repr_html_().count("<tr>") == 3
    assert history == History.read(studied.path)
    with pytest.raises(UnknownNameError, match="did you mean 'val_loss'"):
        history.column("val_los")


def test_figures_of_history_and_roc(run):
    assert isinstance(run.plot_history(), Figure)
    assert isinstance(run.roc(num_bootstrap=2), Figure)
    (run.path / "scores.parquet").unlink()
    with pytest.raises(InputError, match=r"run\.evaluate\(\) scores the test jets"):
        run.roc()


def test_a_run_says_what_it_is(run):
    first, model, progress = repr(run).splitlines()
    assert first == f"Run({str(run.path)!r})"
    assert "tiny.py:Tiny on" in model
    assert progress.startswith("  2 epochs, finished; best val_")
    assert "<strong>Run</strong>" in run._repr_html_()
    (run.path / "metrics.csv").write_text("x")
    (run.path / "environment.json").write_text("{")
    assert "holds no history of a training" in repr(run)
    (run.path / "metrics.csv").unlink()
    assert "no epoch is finished" in repr(run)
    (run.path / "config.yaml").write_text("epochs: many")
    assert repr(pcloud.Run(run.path)).startswith("Run(")


def test_every_study_is_on_the_page(run):
    page = run.report().read_text("utf-8")
    for title in (
        "Calibration",
        "Uncertainty of the scores",
        "Taylor coefficients",
        "Attribution",
        "Robustness to modified jets",
        "Comparison of samples",
        "Other samples",
        "Reproduce",
    ):
        assert f"<h2>{title}</h2>" in page
