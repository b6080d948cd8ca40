"""A student learns its teacher's scores: the loss, the teacher's logits, whole trainings."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pcloud import Run, train
from pcloud.errors import InputError
from pcloud.io import write_jets
from pcloud.objectives.classes import mean_auc
from pcloud.training.config import TrainConfig
from pcloud.training.data import load_splits
from pcloud.training.distillation import Distillation, _Chunks
from pcloud.training.module import TaggerModule
from pcloud.training.run_folder import RunFolder
from tests.training.conftest import TINY, make_jets


def test_the_loss_is_that_of_the_paper() -> None:
    """Written out for two classes, where a softmax is a sigmoid of the difference."""
    teacher, student, label_loss = [2.0, -1.0], [0.5, 0.25], torch.tensor(0.7)
    for weight, temperature in ((0.9, 2.0), (0.3, 5.0), (1.0, 1.0)):
        p = 1 / (1 + math.exp(-(teacher[1] - teacher[0]) / temperature))
        q = 1 / (1 + math.exp(-(student[1] - student[0]) / temperature))
        divergence = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
        expected = weight * temperature**2 * divergence + (1 - weight) * 0.7
        logits = torch.tensor([student] * 3), torch.tensor([teacher] * 3)
        loss = Distillation(weight, temperature)(label_loss, *logits)
        assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_at_a_high_temperature_is_the_difference_of_the_logits() -> None:
    """The limit derived in the paper: ``(z - v) / C`` for logits of mean zero."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 1, 4, dtype=torch.double)
    student = (student - student.mean()).requires_grad_()
    teacher = teacher - teacher.mean()
    Distillation(1.0, 1e4)(torch.tensor(0.0), student, teacher).backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() / 4, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def teacher(jet_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """With one feature more than its students, and some wisdom."""
    return train(
        data=str(jet_file),
        model=TINY,
        features=["log_pt", "delta_r", "pt_rel", "dphi"],
        out=tmp_path_factory.mktemp("teacher") / "run",
        epochs=6,
        batch_size=20,
        deterministic=True,
        progress=False,
    )


def kept_logits(run: Run) -> np.ndarray:
    return np.concatenate([np.load(p) for p in sorted((run.path / "teacher").glob("*.npy"))])


def test_the_teacher_scores_the_training_jets_as_it_would_predict_them(
    teacher: Run, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own features, in chunks, and each jet with its own logits in every batch."""
    monkeypatch.setattr("pcloud.training.distillation._CHUNK", 150)
    seen: dict[bytes, torch.Tensor] = {}
    step = TaggerModule.training_step

    def recorded(self: TaggerModule, batch: Any, index: int) -> torch.Tensor:
        for i in range(batch.num_graphs):
            jet = batch.p4[batch.ptr[i] : batch.ptr[i + 1]]
            seen[key_of(jet.numpy())] = batch.teacher[i]
        return step(self, batch, index)

    monkeypatch.setattr(TaggerModule, "training_step", recorded)
    run = train(**options, teacher=teacher.path, progress=False)
    (jets,) = load_splits(run.config, "train")
    logits = torch.from_numpy(kept_logits(run))
    expected = torch.from_numpy(teacher.predict(jets))
    torch.testing.assert_close(logits.double().softmax(-1), expected, rtol=1e-5, atol=1e-7)
    assert len(list((run.path / "teacher").glob("*.npy"))) == 3
    assert len(seen) > 350  # of 400; the last batch of an epoch is dropped
    by_jet = {}
    for i, jet in enumerate(jets.p4):
        columns = [jet[c].to_numpy() for c in ("E", "px", "py", "pz")]
        by_jet[key_of(np.stack(columns, axis=-1))] = logits[i]
    assert all(torch.equal(value, by_jet[jet]) for jet, value in seen.items())


def key_of(p4: np.ndarray) -> bytes:
    """The same for the particles of a jet in any order."""
    return p4[np.lexsort(p4.T)].tobytes()


def test_a_student_of_the_teacher_alone_learns_its_scores_and_not_the_labels(
    teacher: Run, options: dict[str, Any], tmp_path: Path
) -> None:
    """Its labels are wrong in half of the jets: from these there is nothing to learn."""
    jets = make_jets(400)
    jets["label"] = np.random.default_rng(0).integers(0, 2, len(jets))
    write_jets(jets, tmp_path / "wrong.parquet")
    flags = options | {
        "data": str(tmp_path / "wrong.parquet"),
        "epochs": 20,
        "batch_size": 20,
        "lr": 1e-2,
        "val_fraction": 0.25,
    }
    student = train(**flags, teacher=teacher.path, distill_weight=1.0, progress=False)
    test = make_jets(500, seed=1)
    ours, theirs = (run.logits(test) @ [-1, 1] for run in (student, teacher))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.85
    truth = torch.from_numpy(np.asarray(test.label))
    master, pupil = (
        mean_auc(torch.from_numpy(run.logits(test)), truth) for run in (teacher, student)
    )
    assert pupil > 0.75
    assert pupil > master - 0.05
    assert student.history[-1]["val_loss"] > 0.6  # on the labels, which are wrong


def test_the_metrics_are_those_of_the_labels(
    teacher: Run, options: dict[str, Any], tmp_path: Path
) -> None:
    """At learning rate zero a teacher changes nothing in them."""
    still = options | {"lr": 1e-30, "schedule": "constant"}
    taught = train(**still, teacher=teacher.path, progress=False)
    alone = train(**still | {"out": tmp_path / "alone"}, progress=False)
    for a, b in zip(taught.history, alone.history, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-5)
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-5)


def test_classes_in_another_order_are_brought_into_ours(
    teacher: Run, options: dict[str, Any], tmp_path: Path
) -> None:
    jets = make_jets(300)
    jets["label"] = 1 - np.asarray(jets.label)
    jets.attrs["classes"] = ["b", "a"]
    write_jets(jets, tmp_path / "swapped.parquet")
    flags = options | {"data": str(tmp_path / "swapped.parquet")}
    run = train(**flags, teacher=teacher.path, progress=False)
    (train_jets,) = load_splits(run.config, "train")
    expected = teacher.logits(train_jets)[:, ::-1]
    np.testing.assert_allclose(kept_logits(run), expected, rtol=1e-5, atol=1e-6)


def test_an_interrupted_scoring_goes_on_and_is_not_repeated(
    teacher: Run, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcloud.training.distillation._CHUNK", 150)
    scored = []
    logits = RunFolder.logits

    def counted(self: RunFolder, jets: Any, **more: Any) -> np.ndarray:
        scored.append(len(jets))
        if len(scored) == 2:
            raise KeyboardInterrupt
        return logits(self, jets, **more)

    monkeypatch.setattr(RunFolder, "logits", counted)
    with pytest.raises(KeyboardInterrupt):
        train(**options, teacher=teacher.path, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(TaggerModule, "validation_step", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(**options, teacher=teacher.path, checkpoint_steps=2, progress=False)
    train(**options, teacher=teacher.path, checkpoint_steps=2, progress=False)
    number = len(load_splits(TrainConfig.from_dict(options), "train")[0])
    assert 300 < number < 450
    assert scored == [150, 150, 150, number - 300]  # the second was interrupted


def test_logits_of_another_teacher_are_not_used(
    teacher: Run, options: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run" / "teacher"
    folder.mkdir(parents=True)
    (folder / "origin.json").write_text(json.dumps({"teacher": 1}))
    np.save(folder / "000000000.npy", np.zeros((400, 2), dtype=np.float32))
    run = train(**options, teacher=teacher.path, progress=False)
    assert kept_logits(run).std() > 0.1


def test_damaged_logits_are_named_with_a_remedy(tmp_path: Path) -> None:
    chunks = _Chunks(tmp_path / "teacher", 5, 2)
    chunks.open({"teacher": 1})
    chunks.write(slice(0, 5), np.zeros((5, 2)))
    assert chunks.read().shape == (5, 2)
    path = tmp_path / "teacher" / "000000000.npy"
    whole = path.read_bytes()
    remedy = re.escape(f"{path} holds no scores of a teacher (") + ".*: remove .*teacher, and"
    for damaged in (b"", whole[:-1], whole[:40], whole.replace(b"(5, 2)", b"(9, 9)")):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=remedy):
            chunks.read()
    for other in (np.zeros((4, 2), np.float32), np.zeros((5, 2)), np.array([[path] * 2] * 5)):
        np.save(path, other)
        with pytest.raises(InputError, match=remedy):
            chunks.read()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"teacher": "absent"}, FileNotFoundError, "no run at absent"),
        ({"classes": ["a", "c"]}, InputError, "knows the classes a, b, the jets are of a, c"),
        ({"features": ["charge", "log_pt"]}, InputError, "needs charge, which the training jets"),
        ({"teacher": None, "temperature": 3.0}, InputError, "temperature needs teacher"),
        ({"distill_weight": 0.0}, InputError, "distill_weight must be above 0 and at most 1"),
        ({"temperature": -1.0}, InputError, "temperature must be positive"),
    ],
)
def test_what_cannot_teach_is_refused_before_a_folder_is_made(
    teacher: Run,
    options: dict[str, Any],
    tmp_path: Path,
    change: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    if "classes" in change:
        jets = make_jets(300)
        jets.attrs["classes"] = change.pop("classes")
        write_jets(jets, tmp_path / "others.parquet")
        change["data"] = str(tmp_path / "others.parquet")
    if "features" in change:
        charged = make_jets(300, charge=np.ones(3000))
        write_jets(charged, tmp_path / "charged.parquet")
        of_charge = change | {"data": str(tmp_path / "charged.parquet"), "epochs": 1}
        teacher = train(**options | of_charge | {"out": tmp_path / "of_charge"}, progress=False)
        change = {}
    with pytest.raises(error, match=message):
        train(**options | {"teacher": teacher.path} | change, progress=False)
    assert not Path(options["out"]).exists()


def test_a_run_is_not_its_own_teacher(teacher: Run, options: dict[str, Any]) -> None:
    itself = options | {"out": teacher.path, "teacher": teacher.path}
    with pytest.raises(InputError, match="cannot be its own teacher"):
        train(**itself, overwrite=True, progress=False)
    assert teacher.finished
