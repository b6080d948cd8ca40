"""Model repositories of Triton."""

from __future__ import annotations

import shutil

import pytest

from pcloud.cli.program import main
from pcloud.errors import InputError
from pcloud.export.check import ExportedTagger
from pcloud.export.triton import triton_config, write_repository


def parsed(text: str):
    """Configuration by the protocol buffers of Triton."""
    reason = "tritonclient is not installed"
    service = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason=reason)
    text_format = pytest.importorskip("google.protobuf.text_format", reason=reason)
    return text_format.Parse(text, service.ModelConfig())


def test_padded_batches_are_collected_from_requests(padded_file, tmp_path):
    metadata = ExportedTagger(padded_file).metadata
    model = write_repository(padded_file, metadata, tmp_path / "models")
    assert (model / "1" / "model.onnx").read_bytes() == padded_file.read_bytes()
    assert (model / "labels.txt").read_text() == "a\nb\n"
    text = (model / "config.pbtxt").read_text()
    assert text.count("{") == text.count("}")
    for line in (
        'name: "tagger"',
        "max_batch_size: 1024",
        "dims: [ 6, 4 ]",
        "data_type: TYPE_BOOL",
    ):
        assert line in text
    config = parsed(text)
    assert config.name == "tagger"
    assert [(i.name, list(i.dims)) for i in config.input] == [
        ("p4", [6, 4]), ("charge", [6]), ("mask", [6]),
    ]  # fmt: skip
    assert [(o.name, list(o.dims), o.label_filename) for o in config.output] == [
        ("probabilities", [2], "labels.txt"),
    ]  # fmt: skip
    assert config.HasField("dynamic_batching")


def test_one_jet_has_free_axes_and_no_batches(file):
    config = parsed(triton_config("tagger", ExportedTagger(file).metadata))
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [-1, 4]
    assert not config.HasField("dynamic_batching")


def test_numbers_of_jets_are_reshaped():
    metadata = {
        "form": "padded", "max_particles": 8, "classes": [], "outputs": ["pred_pt"],
        "inputs": [{"name": "quality", "type": "float32", "shape": ["num_jets"]}],
    }  # fmt: skip
    text = triton_config("a", metadata)
    assert text.count("dims: [ 1 ]\n  reshape { shape: [ ] }") == 2


def test_a_model_is_replaced_only_if_asked_to(run, padded_file, tmp_path, monkeypatch, capsys):
    metadata = ExportedTagger(padded_file).metadata
    write_repository(padded_file, metadata, tmp_path)
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_repository(padded_file, metadata, tmp_path)
    write_repository(padded_file, metadata, tmp_path, overwrite=True)
    with pytest.raises(InputError, match=r"must end in \.onnx"):
        write_repository(tmp_path / "tagger.pt2", metadata, tmp_path)
    shutil.rmtree(tmp_path / "tagger" / "1")
    command = ["export", str(run.path), str(tmp_path / "tagger.onnx"), "--triton", str(tmp_path)]
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
