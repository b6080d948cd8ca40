"""Global heaps of HDF5 files, which are checked before HDF5 reads them."""

from __future__ import annotations

import struct
import time

import h5py
import numpy as np
import pytest

from pcloud.errors import InputError
from pcloud.io import JetSchema, read_jets
from pcloud.io.hdf5_heaps import check_heaps, lookup3
from pcloud.io.hdf5_sources import check_storage, open_for_reading

SCHEMA = JetSchema({"E": "X[0]", "px": "X[1]", "py": "X[2]", "pz": "X[3]"})


@pytest.fixture(params=[("earliest", 0), ("latest", 512)], ids=["old", "new"])
def virtual(request, tmp_path):
    """A file with a virtual data set of two sources, and with text of variable length."""
    version, user_block = request.param
    p4 = np.array([[5.0, 3.0, 0.0, 4.0]] * 6, dtype=np.float32).reshape(2, 3, 4)
    path = tmp_path / "virtual.h5"
    layout = h5py.VirtualLayout((2, 3, 4), np.float32)
    for i in range(2):
        with h5py.File(tmp_path / f"source{i}.h5", "w") as file:
            file["X"] = p4[i : i + 1]
        layout[i : i + 1] = h5py.VirtualSource(f"source{i}.h5", "X", (1, 3, 4))
    with h5py.File(path, "w", libver=version, userblock_size=user_block) as file:
        file.attrs["author"] = "somebody"
        file.create_virtual_dataset("X", layout)
    return path


def _changed(path, place, new):
    contents = bytearray(path.read_bytes())
    contents[place : place + len(new)] = new
    path.write_bytes(contents)


def _mapping(path):
    """Place of the mapping of the virtual data set, after the header of its object."""
    return path.read_bytes().index(b"source0.h5") - 9


def test_the_checksum_of_a_mapping_is_the_one_of_the_file(virtual):
    contents = virtual.read_bytes()
    start = _mapping(virtual)
    (size,) = struct.unpack_from("<Q", contents, start - 8)
    (stored,) = struct.unpack_from("<I", contents, start + size - 4)
    assert lookup3(contents[start : start + size - 4]) == stored
    check_heaps(virtual)
    assert len(read_jets(virtual, SCHEMA)) == 2


def test_a_heap_in_which_hdf5_would_not_come_back_is_refused(virtual):
    start = _mapping(virtual)
    (size,) = struct.unpack_from("<Q", virtual.read_bytes(), start - 8)
    unused = start + -(-size // 8) * 8  # header of the unused space
    _changed(virtual, unused + 8, bytes(8))
    with pytest.raises(InputError, match="the objects of the global heap of HDF5 at byte"):
        read_jets(virtual, SCHEMA)


@pytest.mark.parametrize("place", [1, 8, 20, 60])
def test_a_mapping_with_another_checksum_is_refused(virtual, place):
    start = _mapping(virtual)
    changed = virtual.read_bytes()[start + place] ^ 0x20  # of 1 and 8, the number of the sources
    _changed(virtual, start + place, bytes([changed]))
    with pytest.raises(InputError, match=f"virtual data set at byte {start} has a false checksum"):
        read_jets(virtual, SCHEMA)


def test_heaps_within_heaps_do_not_take_long(tmp_path):
    number = 20_000  # each object of the first heap contains another heap, of all that follow
    path = tmp_path / "many.h5"
    with path.open("wb") as file:
        file.write(b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0")
        for i in range(number):
            file.write(b"GCOL\x01\0\0\0" + struct.pack("<Q", 32 * (number - i)))
            file.write(struct.pack("<HHIQ", i + 1, 1, 0, 16 if i < number - 1 else 0))
    start = time.process_time()
    with pytest.raises(InputError, match="do not fit into it"):
        check_heaps(path)
    assert time.process_time() - start < 5


def test_a_linked_file_is_checked(virtual):
    _changed(virtual, _mapping(virtual) + 1, b"\xff")
    path = virtual.with_name("linked.h5")
    with h5py.File(path, "w") as file:
        file["X"] = h5py.ExternalLink("virtual.h5", "/X")
    with pytest.raises(InputError, match=r"virtual\.h5: the mapping of a virtual data set"):
        read_jets(path, SCHEMA)


def test_a_chunk_that_is_shorter_than_its_checksum_is_refused(tmp_path):
    path = tmp_path / "chunks.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(7919), chunks=(7919,), fletcher32=True)
        file.create_dataset("empty", (10,), "f4", chunks=(5,), fletcher32=True)
    size = struct.pack("<I", 7919 * 8 + 4)
    with open_for_reading(path) as file:
        check_storage(path, "x", file["x"])
        check_storage(path, "empty", file["empty"])
    contents = path.read_bytes()
    assert contents.count(size) == 1
    _changed(path, contents.index(size), bytes(4))
    with (
        open_for_reading(path) as file,
        pytest.raises(InputError, match="'x' has a chunk that is shorter than its checksum"),
    ):
        check_storage(path, "x", file["x"])
