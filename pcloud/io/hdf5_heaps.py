"""Check of the global heaps of HDF5 files, before HDF5 reads them.

A global heap is a collection of objects of different sizes: the mappings of virtual data sets and
text of variable length. HDF5 goes from one object to the next by their sizes; where a size is 0, it
stays there in an endless loop, which cannot be interrupted from Python. A mapping has a checksum,
but HDF5 uses the number of its sources before, and a false one ends the process.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pcloud.errors import InputError

__all__ = ["check_heaps", "lookup3"]

_MAGIC = b"\x89HDF\r\n\x1a\n"
_HEAP_MAGIC = b"GCOL\x01"  # with the version
_VIRTUAL_LAYOUTS = (b"\x04\x03", b"\x05\x03")  # version and class; the place of a mapping follows
_HEADER_BYTES = 16  # of a heap and of an object, whatever the size of a number
_ALIGNMENT = 8
_CHECKSUM_BYTES = 4
_MAPPING_VERSIONS = (0, 1)  # first byte of a mapping; HDF5 refuses others
_SEARCHED_BYTES = 5 << 20  # at each end of a file
_MAX_OBJECTS = 1 << 20  # of at least 16 bytes, in what is searched
_MAX_LAYOUTS = 100_000  # places that look like a virtual layout
_NUM_REMEMBERED = 1024  # files
_UINT32 = 0xFFFFFFFF


def check_heaps(path: Path) -> None:
    """Check the global heaps in the first and the last 5 MiB of an HDF5 file.

    HDF5 tells where a heap is only after it has read it. They are found by their signature, which
    takes up to a millisecond for each MB; an unchanged file is not searched again.

    Parameters
    ----------
    path : Path
        File.

    Raises
    ------
    InputError
        If the objects of a heap do not follow each other, or the mapping of a virtual data set
        does not have its checksum.
    """
    status = path.stat()
    damage = _first_damage(path, status.st_size, status.st_mtime_ns, status.st_ino)
    if damage is not None:
        raise InputError(f"{path}: {damage}: the file is damaged")


@dataclass(frozen=True)
class _HDF5:
    """Content of a file, and the sizes of its numbers.

    Parameters
    ----------
    data : mmap
        Content.
    start : int
        Place of the superblock, from which addresses count.
    address_bytes, size_bytes : int
        Bytes of an address and of a size.
    """

    data: mmap.mmap
    start: int
    address_bytes: int
    size_bytes: int

    def number(self, place: int, num_bytes: int) -> int:
        return int.from_bytes(self.data[place : place + num_bytes], "little")

    def places(self, pattern: bytes) -> Iterator[int]:
        """Places of a pattern in what is searched, in ascending order for each end."""
        for start in sorted({0, max(0, len(self.data) - _SEARCHED_BYTES)}):
            searched = self.data[start : start + _SEARCHED_BYTES + len(pattern) - 1]
            place = searched.find(pattern)
            while place >= 0:
                yield start + place
                place = searched.find(pattern, place + 1)

    def objects(self, heap: int) -> dict[int, tuple[int, int]] | None:
        """Start and stop of each object of a heap; None if they do not end where the heap ends."""
        end = heap + self.number(heap + 8, self.size_bytes)
        found: dict[int, tuple[int, int]] = {}
        if end > len(self.data):
            return found  # HDF5 refuses it
        place = heap + _HEADER_BYTES
        while place + _HEADER_BYTES <= end:
            index = self.number(place, 2)
            size = self.number(place + 8, self.size_bytes)
            if index in found:
                return None
            found[index] = (place + _HEADER_BYTES, place + _HEADER_BYTES + size)
            if index > 0:
                size = _HEADER_BYTES + -(-size // _ALIGNMENT) * _ALIGNMENT
            place += size
            if size == 0 or place > end:
                return None
        return found


@lru_cache(maxsize=_NUM_REMEMBERED)
def _first_damage(path: Path, size: int, modified: int, number: int) -> str | None:
    """Description of the first damage; all arguments but the path tell changed files apart."""
    if size == 0:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        contents = _open(data)
        mappings: dict[tuple[int, int], tuple[int, int]] = {}
        num_objects = 0
        for place in contents.places(_HEAP_MAGIC):
            objects = contents.objects(place)
            num_objects += len(objects or ())
            if objects is None or num_objects > _MAX_OBJECTS:  # heaps do not overlap
                return f"the objects of the global heap of HDF5 at byte {place} do not fit into it"
            mappings |= {
                (place, index): (start, stop)
                for index, (start, stop) in objects.items()
                if index > 0 and stop > start and data[start] in _MAPPING_VERSIONS
            }
        return _false_mapping(contents, mappings) if mappings else None


def _open(data: mmap.mmap) -> _HDF5:
    start = 0
    while data[start : start + len(_MAGIC)] != _MAGIC:  # after a user block of 512, 1024, ...
        start = max(512, 2 * start)
        if start >= len(data):
            return _HDF5(data, 0, 8, 8)
    version, *sizes = data[start + 8 : start + 15].ljust(7, b"\0")
    address_bytes, size_bytes = sizes[:2] if version >= 2 else sizes[-2:]
    return _HDF5(data, start, address_bytes, size_bytes)


def _false_mapping(contents: _HDF5, mappings: dict[tuple[int, int], tuple[int, int]]) -> str | None:
    """Description of the first mapping of a virtual data set that does not have its checksum.

    Objects of heaps say nothing about their use: a mapping is one to which a layout refers.
    """
    for pattern in _VIRTUAL_LAYOUTS:
        for count, place in enumerate(contents.places(pattern)):
            if count == _MAX_LAYOUTS:
                break
            address = place + len(pattern)
            heap = contents.start + contents.number(address, contents.address_bytes)
            index = contents.number(address + contents.address_bytes, 4)
            if (heap, index) not in mappings:
                continue
            start, stop = mappings[heap, index]
            middle = max(start, stop - _CHECKSUM_BYTES)
            if lookup3(contents.data[start:middle]) != contents.number(middle, _CHECKSUM_BYTES):
                return f"the mapping of a virtual data set at byte {start} has a false checksum"
    return None


def lookup3(data: bytes) -> int:
    """Checksum of the metadata of HDF5.

    Parameters
    ----------
    data : bytes
        Content.

    Returns
    -------
    int
        Checksum of 32 bits.

    References
    ----------
    Jenkins, "lookup3.c, for hash table lookup" (2006), burtleburtle.net/bob/c/lookup3.c
    """
    a = b = c = (0xDEADBEEF + len(data)) & _UINT32
    if not data:
        return c
    num_words = (len(data) - 1) // 12 * 3
    words = struct.unpack_from(f"<{num_words}I", data)
    for i in range(0, num_words, 3):
        a = (a + words[i]) & _UINT32
        b = (b + words[i + 1]) & _UINT32
        c = (c + words[i + 2]) & _UINT32
        a = (a - c & _UINT32) ^ _rotated(c, 4)
        c = c + b & _UINT32
        b = (b - a & _UINT32) ^ _rotated(a, 6)
        a = a + c & _UINT32
        c = (c - b & _UINT32) ^ _rotated(b, 8)
        b = b + a & _UINT32
        a = (a - c & _UINT32) ^ _rotated(c, 16)
        c = c + b & _UINT32
        b = (b - a & _UINT32) ^ _rotated(a, 19)
        a = a + c & _UINT32
        c = (c - b & _UINT32) ^ _rotated(b, 4)
        b = b + a & _UINT32
    last = struct.unpack("<3I", data[4 * num_words :].ljust(12, b"\0"))
    a, b, c = ((number + word) & _UINT32 for number, word in zip((a, b, c), last, strict=True))
    c = (c ^ b) - _rotated(b, 14) & _UINT32
    a = (a ^ c) - _rotated(c, 11) & _UINT32
    b = (b ^ a) - _rotated(a, 25) & _UINT32
    c = (c ^ b) - _rotated(b, 16) & _UINT32
    a = (a ^ c) - _rotated(c, 4) & _UINT32
    b = (b ^ a) - _rotated(a, 14) & _UINT32
    return (c ^ b) - _rotated(b, 24) & _UINT32


def _rotated(number: int, num_bits: int) -> int:
    return (number << num_bits | number >> 32 - num_bits) & _UINT32
