from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import FlatJets, read_jets
from pcloud.simulate import Detector, sample, simulate, simulate_jets, workers
from pcloud.simulate.block import Settings
from pcloud.simulate.embedded import make_embedded
from pcloud.simulate.sample import make_chunks
from pcloud.simulate.workers import PartFiles

SMALL = Settings(seed=9, block_size=6)
COLUMNS = ("truth_E", "truth_px", "truth_py", "truth_pz", "label")


def make_sample(blocks, wanted, settings, workers) -> FlatJets:
    return FlatJets.concatenate(list(make_chunks(blocks, wanted, settings, workers)))


def fake_block(process: str, index: int, settings: Settings) -> FlatJets:
    """Jets of one particle each that say where they come from."""
    size = settings.block_size
    label = int(process == "top")
    number = (1000.0 * index + np.arange(size) + 1).astype(np.float32)
    return FlatJets(
        np.arange(size + 1),
        (number, number, np.zeros_like(number), np.zeros_like(number)),
        jet={**dict.fromkeys(COLUMNS[:4], number), "label": np.full(size, label)},
    )


@pytest.fixture
def made(monkeypatch) -> list[tuple[str, int]]:
    """Blocks asked for, which are then made up."""
    tasks: list[tuple[str, int]] = []

    def spy(process, index, settings):
        tasks.append((process, index))
        return fake_block(process, index, settings)

    monkeypatch.setattr(workers, "make_block", spy)
    return tasks


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def equal(one: FlatJets, two: FlatJets) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in zip(
            (one.offsets, *one.p4, *one.jet.values()),
            (two.offsets, *two.p4, *two.jet.values()),
            strict=True,
        )
    )


@pytest.mark.once
def test_the_jets_do_not_depend_on_the_number_of_workers(sim):
    wanted = {"top": 10, "qcd": 11}
    alone = make_sample({}, wanted, SMALL, workers=1)
    together = make_sample({}, wanted, SMALL, workers=2)
    assert equal(alone, together)
    assert np.bincount(alone.jet["label"]).tolist() == [11, 10]


def test_a_larger_sample_contains_the_smaller(made):
    small = make_sample({}, {"top": 7, "qcd": 7}, SMALL, workers=1)
    large = make_sample({}, {"top": 20, "qcd": 20}, SMALL, workers=1)
    assert set(small.p4[0]) < set(large.p4[0])


def test_jets_of_both_processes_are_shuffled_and_none_is_lost(made, monkeypatch):
    monkeypatch.setattr(sample, "BLOCKS_PER_CHUNK", 3)
    jets = make_sample({}, {"top": 50, "qcd": 31}, SMALL, workers=1)
    for label, number in ((1, 50), (0, 31)):
        mine = jets.p4[0][jets.jet["label"] == label]
        expected = np.concatenate([fake_block("top", i, SMALL).p4[0] for i in range(9)])[:number]
        assert sorted(mine) == sorted(expected)
    assert np.abs(np.diff(jets.jet["label"])).sum() > 10
    assert not (np.diff(jets.p4[0][jets.jet["label"] == 1]) > 0).all()


def test_the_shuffling_follows_the_seed(made):
    def labels(seed):
        return make_sample({}, {"top": 30, "qcd": 30}, Settings(seed, block_size=6), 1).jet["label"]

    assert np.array_equal(labels(1), labels(1))
    assert not np.array_equal(labels(1), labels(2))


@pytest.mark.parametrize(("process", "shares"), [("both", [3, 2]), ("top", [0, 5]), ("qcd", [5])])
def test_processes_share_the_jets(sim, made, process, shares):
    jets = simulate_jets(5, process=process, progress=False)
    assert np.bincount(jets.label).tolist() == shares
    assert jets.attrs["classes"] == ["qcd", "top"]
    assert set(jets.fields) == {"p4", *COLUMNS}


@pytest.mark.parametrize("suffix", [".parquet", ".h5", ".npz"])
def test_a_file_holds_the_jets_of_memory(sim, made, tmp_path, suffix):
    out = simulate(tmp_path / f"jets{suffix}", 501, workers=1, progress=False)
    jets, expected = read_jets(out), simulate_jets(501, progress=False)
    for name in ("E", "px", "py", "pz"):
        assert ak.array_equal(jets.p4[name], expected.p4[name], dtype_exact=False)
    for name in ("label", "truth_E"):
        assert ak.array_equal(jets[name], expected[name], dtype_exact=False)
    assert list(jets.attrs["classes"]) == ["qcd", "top"]
    assert names(tmp_path) == [out.name]


def test_an_interrupted_sample_continues_with_its_blocks(sim, made, tmp_path, monkeypatch):
    out = tmp_path / "jets.parquet"
    whole = simulate_jets(1500, progress=False)
    done = list(made)
    made.clear()

    def interrupted(process, index, settings):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append((process, index))
        return fake_block(process, index, settings)

    with monkeypatch.context() as patch:
        patch.setattr(workers, "make_block", interrupted)
        with pytest.raises(KeyboardInterrupt):
            simulate(out, 1500, workers=1, progress=False)
    assert not out.exists()
    assert len(list((tmp_path / "jets.parquet.parts").glob("*.npz"))) == 3
    simulate(out, 1500, workers=1, progress=False)
    assert made == done  # each once
    assert ak.array_equal(read_jets(out).p4.E, whole.p4.E)
    assert names(tmp_path) == ["jets.parquet"]


def test_blocks_of_other_settings_are_not_mixed_in(sim, made, tmp_path):
    PartFiles(tmp_path / "jets.parquet.parts", Settings(seed=4))
    with pytest.raises(
        InputError, match=r"jets.parquet.parts: contains blocks of .* other settings"
    ):
        simulate(tmp_path / "jets.parquet", 10, seed=5, workers=1, progress=False)
    with pytest.raises(InputError, match="other settings"):
        simulate(
            tmp_path / "jets.parquet",
            10,
            seed=4,
            detector=Detector(field=0.0),
            workers=1,
            progress=False,
        )
    simulate(tmp_path / "jets.parquet", 10, seed=4, workers=1, progress=False)


def test_files_of_the_user_in_the_folder_of_parts_stay(sim, tmp_path):
    parts = PartFiles(tmp_path / "parts", SMALL)
    parts["top", 0] = fake_block("top", 0, SMALL)
    (tmp_path / "parts" / "notes.txt").write_text("mine")
    assert equal(parts["top", 0], fake_block("top", 0, SMALL))
    assert ("top", 0) in parts
    assert ("qcd", 0) not in parts
    parts.remove()
    assert names(tmp_path / "parts") == ["notes.txt"]


SCRIPT = """
import sys
from pathlib import Path
from pcloud.simulate.block import Settings
from pcloud.simulate.sample import make_chunks
from pcloud.simulate.workers import PartFiles

if __name__ == "__main__":
    settings = Settings(seed=9, block_size=6)
    parts = PartFiles(Path(sys.argv[1]), settings)
    list(make_chunks(parts, {"top": 6000}, settings, workers=2))
"""


def running(group: int) -> list[str]:
    """Processes of a group, other than those that ended and wait to be collected."""
    left = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _, its_group = file.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                left.append(file.parent.joinpath("cmdline").read_text())
    return left


@pytest.mark.once
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("whom", ["process", "terminal"])
def test_ctrl_c_ends_the_workers_at_once_and_keeps_the_blocks(sim, tmp_path, whom):
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path / "parts"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a job in the background would hand down that it is deaf to it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 300  # until a first block is there
    while not list(tmp_path.glob("parts/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    group = os.getpgid(process.pid)
    if whom == "process":
        os.kill(process.pid, signal.SIGINT)
    else:  # the terminal tells all processes of the group
        os.killpg(group, signal.SIGINT)
    _, messages = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert messages.count("Traceback") == 1, messages  # that of the main process
    assert messages.strip().endswith("KeyboardInterrupt")
    deadline = time.monotonic() + 10
    while (left := running(group)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    settings = json.loads((tmp_path / "parts" / "settings.json").read_text())
    assert settings["seed"] == 9
    for part in tmp_path.glob("parts/*.npz"):
        assert len(np.load(part)["label"]) == 6


@pytest.mark.once
def test_a_worker_that_dies_is_an_error_not_a_hang(sim, tmp_path):
    script = 'import os\nif __name__ == "__mp_main__":\n    os._exit(3)\n' + SCRIPT
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", tmp_path / "parts"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "BrokenProcessPool" in done.stderr


def test_the_progress_bar_goes_to_stderr(sim, made, capsys):
    simulate_jets(10)
    out, messages = capsys.readouterr()
    assert out == ""
    assert "500/500" in messages


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_jets": 0}, "number of jets must be positive, got 0"),
        ({"process": "tops"}, "no process named 'tops'; did you mean 'top'?"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"workers": 0}, "number of workers must be positive, got 0"),
        ({"tune": 99}, "from 0 to 36, got 99"),
    ],
)
def test_impossible_wishes_are_refused_before_work_starts(sim, made, tmp_path, arguments, message):
    arguments = {"num_jets": 10, "progress": False, **arguments}
    with pytest.raises(InputError, match=message):
        simulate_jets(**arguments)
    with pytest.raises(InputError, match=message):
        simulate(tmp_path / "jets.parquet", **arguments)
    assert not made
    assert not names(tmp_path)


def test_the_output_is_checked_before_work_starts(sim, made, tmp_path):
    with pytest.raises(InputError, match=r"written to .parquet, .h5, .npz, not '.root'"):
        simulate(tmp_path / "jets.root", 10)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        simulate(tmp_path / "nowhere" / "jets.h5", 10)
    (tmp_path / "jets.h5").touch()
    with pytest.raises(FileExistsError, match="exists already"):
        simulate(tmp_path / "jets.h5", 10)
    assert not made
    simulate(tmp_path / "jets.h5", 10, overwrite=True, workers=1, progress=False)
    assert len(read_jets(tmp_path / "jets.h5")) == 10


def test_the_embedded_sample_is_made_again_bit_for_bit(sim, made, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_embedded(tmp_path / name, {"train": 30, "test": 10}, seed=3, progress=False)
    for split in ("train", "test"):
        files = [Path(tmp_path, name, f"{split}.parquet") for name in ("one", "two")]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert names(tmp_path / "one") == ["test.parquet", "train.parquet"]


def test_an_unknown_process_is_an_unknown_name():
    with pytest.raises(UnknownNameError):
        sample._wanted(10, "higgs")


@pytest.mark.parametrize("damage", ["cut", "other arrays", "a changed byte", "pickled"])
def test_a_damaged_block_is_named_with_a_remedy(sim, made, tmp_path, damage):
    blocks = PartFiles(tmp_path / "parts", Settings(seed=4))
    blocks["qcd", 0] = fake_block("qcd", 0, Settings(seed=4))
    path = tmp_path / "parts" / "qcd-000000.npz"
    whole = path.read_bytes()
    if damage == "other arrays":
        np.savez(path, p4=np.zeros((4, 2)))
    elif damage == "pickled":
        np.savez(path, offsets=np.array([0, 2]), p4=np.array([[Path()]] * 4))
    else:
        middle = len(whole) // 2
        changed = bytes([whole[middle] ^ 1]) + whole[middle + 1 :] if damage != "cut" else b""
        path.write_bytes(whole[:middle] + changed)
    with pytest.raises(InputError, match=r"qcd-000000\.npz holds no block of jets .*: remove it"):
        blocks["qcd", 0]
