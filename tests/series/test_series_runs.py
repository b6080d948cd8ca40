"""Series of samples: files, and the same commands as for jets."""

from __future__ import annotations

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import pcloud
from pcloud.cli import main
from pcloud.errors import InputError
from pcloud.report import write_report
from pcloud.series import Series, SeriesFormat, read_cresst, read_series, simulate_pulses


def test_records_come_from_npz_hdf5_and_npy(tmp_path):
    pulses = simulate_pulses(20, length=32)
    x, y = pulses.records[:, 0], pulses.label
    np.savez(tmp_path / "a.npz", x=x, y=y)
    words = np.array(["artefact", "pulse"])[y]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["pulses"], file["label"] = x, words.astype("S")
    np.save(tmp_path / "x_a.npy", x)
    np.save(tmp_path / "y_a.npy", y)
    for name in ("a.npz", "a.h5", "x_a.npy"):
        found = read_series(tmp_path / name)
        assert found.records.shape == (20, 1, 32)
        np.testing.assert_array_equal(found.records, pulses.records)
        np.testing.assert_array_equal(found.label, y)
    assert found[found.label == 1].records.shape[0] == y.sum()
    whole = read_series([str(tmp_path / "a.npz"), str(tmp_path / "x_a.npy")])
    assert len(whole) == 40
    by_class = read_series({"b": str(tmp_path / "a.npz"), "a": str(tmp_path / "a.h5")})
    assert by_class.attrs["classes"] == ["b", "a"]


def test_pulses_of_cresst_have_their_length_and_labels(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 16_384), np.float32), y=[0, 1])
    assert read_cresst(tmp_path / "a.npz").attrs["classes"] == ["artefact", "pulse"]
    np.savez(tmp_path / "b.npz", x=np.zeros((2, 512)), y=[0, 1])
    with pytest.raises(InputError, match="512 samples with labels are no pulses of CRESST"):
        read_cresst(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", x=np.zeros((2, 16_384)), y=[0, 2])
    with pytest.raises(InputError, match="in none of the classes"):
        read_cresst(tmp_path / "c.npz")


def test_records_that_cannot_be_used_are_named_in_one_line(tmp_path):
    def message(arrays, schema=None):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(InputError) as error:
            read_series(tmp_path / "a.npz", schema)
        assert "\n" not in str(error.value)
        return str(error.value)

    x, bad = np.zeros((3, 8)), np.zeros((3, 8))
    bad[1, 2] = np.nan
    assert "1 of 3 records have NaN or infinite samples, the first is record 1" in message(
        {"x": bad}
    )
    assert len(read_series(tmp_path / "a.npz", on_bad_record="drop")) == 2
    assert "label has the shape (2,)" in message({"x": x, "y": [0, 1]})
    assert "no array of records named 'puls'" in message({"x": x}, {"records": "puls"})
    assert "no array of label named 'l'" in message({"x": x}, {"label": "l"})
    assert "field of the schema of series" in message({"x": x}, {"rows": "x"})
    assert "is no records" in message({"x": np.zeros(4)})
    uneven = np.array([np.zeros(3), np.zeros(4)], dtype=object)
    assert "pickled" in message({"x": uneven})
    with pytest.raises(InputError, match="unequal length"):
        Series(records=[[1.0, 2.0], [1.0]])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("x", (2,), dtype=h5py.vlen_dtype(np.float32))
        data[0], data[1] = np.zeros(3), np.zeros(4)
    with pytest.raises(InputError, match="unequal length"):
        read_series(tmp_path / "a.h5")
    np.savez(tmp_path / "b.npz", x=np.zeros((3, 8)))
    np.savez(tmp_path / "c.npz", x=np.zeros((3, 9)))
    with pytest.raises(InputError, match=r"c.npz: records of .* = \(1, 9\), those of .*b.npz"):
        read_series([str(tmp_path / "b.npz"), str(tmp_path / "c.npz")])


@pytest.mark.parametrize("name", ["series_dense", "series_cnn", "series_lstm"])
def test_networks_take_any_number_of_channels_and_samples(name):
    options = {"length": 50} if name == "series_dense" else {}
    model = pcloud.build_model(name, 2, 3, **options).eval()
    x = torch.randn(4, 2, 50)
    assert model(x).shape == (4, 3)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]))
    model(x).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_inputs_have_the_scale_of_the_training_records():
    pulses = simulate_pulses(50, length=64)
    form = SeriesFormat.fit(pulses)
    x = form(pulses)
    assert abs(float(x.mean())) < 1e-4
    assert float(x.std()) == pytest.approx(1, abs=1e-3)
    assert SeriesFormat.from_dict(form.to_dict()) == form
    with pytest.raises(InputError, match=r"\(1, 32\), the network takes \(1, 64\)"):
        form(simulate_pulses(3, length=32))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    pulses = simulate_pulses(900, length=128, noise=0.12, drift=0.05)
    np.savez(
        folder / "pulses.npz", x=pulses.records, y=np.array(["artefact", "pulse"])[pulses.label]
    )
    options = {"epochs": 8, "batch_size": 32, "lr": 5e-3, "progress": False}
    return pcloud.train(
        data=folder / "pulses.npz", model="series_cnn", out=folder / "run", **options
    )


@pytest.mark.usefixtures("undrawn")
def test_a_network_learns_pulses_and_every_command_takes_them(run, capsys):
    assert main(["evaluate", str(run.path), "--bootstrap", "0"]) == 0
    assert run.history[-1]["val_acc"] > 0.8
    assert main(["calibrate", str(run.path)]) == 0
    assert main(["uncertainty", str(run.path), "--samples", "2"]) == 0
    scores = run.path.parent / "scores.parquet"
    command = ["predict", str(run.path), str(run.path.parent / "pulses.npz"), "-o", str(scores)]
    assert main([*command, "--quiet"]) == 0
    assert pq.read_table(scores).num_rows == 900
    assert write_report(run.path).exists()
    capsys.readouterr()
    assert main(["explain", str(run.path)]) == 2
    assert "this one takes records" in capsys.readouterr().err
    with pytest.raises(InputError, match="takes records, and these are jets"):
        run.predict(pcloud.load_dataset("simulated", "test")[:3])


def test_the_synthetic_pulses_are_a_data_set(tmp_path):
    assert len(pcloud.load_dataset("pulses", n=30, length=64)) == 30
    with pytest.raises(InputError, match="unexpected keyword argument"):
        pcloud.load_dataset("pulses", size=3)
    with pytest.raises(InputError, match="length >= 16"):
        pcloud.load_dataset("pulses", length=3)
    options = {"model": "series_dense", "epochs": 1, "out": tmp_path, "progress": False}
    with pytest.raises(InputError, match="of kind table, the network takes series"):
        pcloud.train(data="moons", **options)
