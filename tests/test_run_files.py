from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path

import pytest

from pcloud.errors import CannotWriteError, InputError
from pcloud.run_files import (
    FILES,
    atomic_path,
    check_writable,
    make_folder,
    read_json,
    write_atomic,
    write_errors,
    write_json,
    write_text,
)


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


# Full disks and folders without permission


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, number):
    def fail(file):
        file.write(b"half")
        try:
            raise OSError(number, os.strerror(number))
        except OSError as cause:
            raise RuntimeError("unexpected pos 704 vs 598") from cause  # as torch does

    with pytest.raises(CannotWriteError) as caught:
        write_atomic(tmp_path / "last.ckpt", fail)
    assert str(caught.value) == f"cannot write {tmp_path / 'last.ckpt'}: {os.strerror(number)}"
    assert not list(tmp_path.iterdir())


def test_an_error_of_reading_stays_what_it_is(tmp_path):
    with pytest.raises(PermissionError), write_errors(tmp_path / "out.parquet"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "in.parquet"))
    with pytest.raises(KeyError), write_errors(tmp_path / "out.parquet"):
        raise KeyError("jets")


def test_what_is_a_file_is_no_folder(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(CannotWriteError, match=r"cannot write .*a/b: Not a directory"):
        make_folder(tmp_path / "a" / "b")


def test_a_folder_without_permission_is_refused_before_long_work(tmp_path, monkeypatch):
    check_writable(tmp_path)
    assert not list(tmp_path.iterdir())

    def fail(**options):
        raise OSError(errno.EROFS, "Read-only file system", "x")

    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    expected = "cannot write to run: Read-only file system; --out FOLDER writes elsewhere"
    with pytest.raises(CannotWriteError) as caught:
        check_writable(Path("run"), "--out FOLDER writes elsewhere")
    assert str(caught.value) == expected
