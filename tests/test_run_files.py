from __future__ import annotations

import json
import math

import pytest

from pcloud.errors import InputError
from pcloud.run_files import FILES, atomic_path, read_json, write_atomic, write_json, write_text


def test_a_file_is_old_or_new_and_never_half(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fail(file):
        file.write(b"new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_path(path) as new:
        new.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_numbers_that_are_not_finite_become_null(tmp_path):
    value = {"a": [1.0, math.nan], "b": {"c": math.inf}, "d": (2, -math.inf)}
    write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"a": [1.0, None], "b": {"c": None}, "d": [2, None]}
    assert "NaN" not in text


def test_values_that_json_does_not_know_are_an_error_and_leave_no_file(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "Expecting property name"),
        (b"\xff", "invalid start byte"),
        (b"[]", "list indices must be integers"),
        (b"{}", "no 'jets'"),
        (b'{"jets": "x"}', "invalid literal"),
        (b'{"jets": Infinity}', "cannot convert float infinity"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_a_damaged_file_is_named_with_reason_and_remedy(tmp_path, content, reason):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json(path, "number of jets", "write it anew", lambda values: int(values["jets"]))
    message = str(caught.value)
    assert message.startswith(f"{path} holds no number of jets (")
    assert reason in message
    assert message.endswith("): write it anew")
    assert "\n" not in message


def test_an_absent_file_is_said_to_be_absent(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.json: write it"):
        read_json(tmp_path / "x.json", "number", "write it")


def test_names_of_files_are_different():
    assert len(set(FILES)) == len(FILES)
