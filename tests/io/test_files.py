from __future__ import annotations

import pytest

from pcloud.errors import InputError
from pcloud.io.files import expand_paths, input_errors, new_file, sniff
from tests.io.conftest import names_in


def test_paths_globs_directories_and_lists_are_expanded(tmp_path):
    for name in ("b.root", "a.h5", "notes.txt", ".hidden.h5"):
        (tmp_path / name).write_bytes(b"x")
    a, b = tmp_path / "a.h5", tmp_path / "b.root"
    assert expand_paths(a) == expand_paths(str(a)) == [a]
    assert expand_paths(tmp_path) == [a, b]
    assert expand_paths(str(tmp_path / "*.*o*t")) == [b]
    assert expand_paths([b, str(a)]) == [b, a]


def test_a_name_with_brackets_is_not_a_pattern_if_it_exists(tmp_path):
    file = tmp_path / "jets[1].h5"
    file.write_bytes(b"x")
    assert expand_paths(str(file)) == [file]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("no.h5", FileNotFoundError, "no such file"),
        ("none/no.h5", FileNotFoundError, "the folder .*none does not exist"),
        ("*.root", FileNotFoundError, "no file matches this pattern"),
        ("", InputError, "no file of jets there"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, path, error, message):
    with pytest.raises(error, match=message):
        expand_paths(f"{tmp_path}/{path}")


@pytest.mark.parametrize("path", [[], b"a.h5", 3, "", ["a\0b"], [3]])
def test_what_is_not_a_path_is_refused(path):
    with pytest.raises((InputError, TypeError)):
        expand_paths(path)


def test_the_format_is_told_by_the_content(tmp_path):
    file = tmp_path / "jets.dat"
    for head, kind in ((b"\x89HDF\r\n\x1a\n", "hdf5"), (b"root\0\0", "root"), (b"PAR1", "parquet")):
        file.write_bytes(head)
        assert sniff(file) == kind


def test_hdf5_may_start_after_a_user_block(tmp_path):
    file = tmp_path / "jets.h5"
    file.write_bytes(bytes(1024) + b"\x89HDF\r\n\x1a\n")
    assert sniff(file) == "hdf5"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.h5", b"", r"a\.h5: the file is empty"),
        ("a.h5", b"no such thing", r"a\.h5: not an HDF5 file, although the suffix says so"),
        ("a.csv", b"pt,eta\n", r"unknown format '\.csv'; jets are read from \.h5"),
        ("a", b"pt,eta\n", r"unknown format '\(no suffix\)'"),
        ("a.parquet", b"PARE....", "encrypted"),
    ],
)
def test_what_cannot_be_jets_is_refused_by_its_first_bytes(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        sniff(tmp_path / name)


def test_errors_of_libraries_become_one_line_with_the_file(tmp_path):
    expected = r"^a\.root: cannot read the tree, .* \(first\)$"
    with pytest.raises(InputError, match=expected), input_errors("a.root", "tree"):
        raise RuntimeError("first\nsecond")
    for ours in ("ours", "a.root: ours"):
        expected = r"^a\.root: ours$"
        with pytest.raises(InputError, match=expected), input_errors("a.root", "tree"):
            raise InputError(ours)


def test_a_new_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "out.npz"

    def be_interrupted():
        with new_file(target, overwrite=False) as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    assert names_in(tmp_path) == []
    with new_file(target, overwrite=False) as part:
        part.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert names_in(tmp_path) == ["out.npz"]


def test_a_file_is_not_replaced_unless_asked(tmp_path):
    target = tmp_path / "out.npz"
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError, match="overwrite=True"), new_file(target, overwrite=False):
        pass
    with new_file(target, overwrite=True) as part:
        part.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    with pytest.raises(IsADirectoryError), new_file(tmp_path, overwrite=True):
        pass
    lost = new_file(tmp_path / "no" / "out.npz", overwrite=False)
    with pytest.raises(FileNotFoundError, match="does not exist"), lost:
        pass
