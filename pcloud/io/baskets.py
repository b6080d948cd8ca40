"""Baskets of TTrees whose entries are numbers or lists of numbers.

uproot decodes baskets of every type, but spends about as much time in Python as in the decompression.
Those of numbers and of lists of numbers are decoded here, by several threads at the same time.
"""

from __future__ import annotations

import itertools
import math
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import uproot
from uproot.compression import decompress
from uproot.interpretation.jagged import AsJagged
from uproot.interpretation.numerical import AsDtype
from uproot.source.chunk import Chunk, Source
from uproot.source.cursor import Cursor

from pcloud.errors import InputError
from pcloud.io.jets import as_offsets
from pcloud.io.table import Ragged

__all__ = ["BasketFile", "UnusualBasketError", "check_size", "has_plain_baskets"]

# What is larger, and this much larger than its compressed form, is damaged. The largest ratio of zlib
# is 1032; baskets usually have less than 1 MiB.
_MAX_BASKET_BYTES = 64 << 20
_MAX_RATIO = 1100

_KEY = struct.Struct(
    ">ihiIhh"
)  # bytes, version, bytes of the content, date, bytes of the key, cycle
_BASKET = struct.Struct(
    ">Hiiii?"
)  # version, sizes of two buffers, entries, end of the content, flag
_ZLIB = b"ZL"
_BLOCK_HEADER_BYTES = 9  # algorithm (2), method, bytes before (3) and after decompression (3)
_INT_BYTES = 4


def _inflate_with_zlib(data: memoryview, size: int) -> bytes:
    return zlib.decompress(data, bufsize=max(1, size))


def _choose_inflate() -> Callable[[memoryview, int], bytes | bytearray]:
    """Function that decompresses zlib data to a known size; libdeflate takes half the time."""
    try:
        from deflate import zlib_decompress
    except ImportError:
        return _inflate_with_zlib
    return zlib_decompress


_inflate = _choose_inflate()


class UnusualBasketError(Exception):
    """Basket of another layout, which uproot may know."""


def check_size(size: int, stored: int) -> None:
    """Check the size of decompressed data, for which memory is reserved.

    Parameters
    ----------
    size, stored : int
        Numbers of bytes after and before decompression.

    Raises
    ------
    InputError
        If no compression could make so few bytes of so many.
    """
    if size > _MAX_BASKET_BYTES and size > _MAX_RATIO * stored:
        raise InputError(f"{size:,} bytes are said to be compressed to {stored:,}")


def has_plain_baskets(branch: uproot.TBranch) -> bool:
    """Return True if all entries of a branch are numbers, or all are lists of numbers."""
    kind = branch.interpretation
    content = kind.content if isinstance(kind, AsJagged) else kind
    return (
        type(content) is AsDtype
        and content.from_dtype.kind in "biuf"
        and content.to_dtype == content.from_dtype.newbyteorder("=")
        and branch.num_baskets == branch._num_normal_baskets
    )


class BasketFile:
    """File whose baskets can be read by several threads.

    Parameters
    ----------
    path : Path
        ROOT file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._size = path.stat().st_size
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, branch: uproot.TBranch, start: int, stop: int) -> np.ndarray | Ragged:
        """Entries `start` to `stop` of a branch for which `has_plain_baskets` is true.

        Raises
        ------
        InputError
            If a basket is damaged.
        UnusualBasketError
            If a basket has another layout.
        """
        kind = branch.interpretation
        parts: list[np.ndarray | Ragged] = []
        for i, (first, last) in enumerate(itertools.pairwise(branch.entry_offsets)):
            if first < stop and last > start:
                content, offsets = self._basket(branch, i, last - first)
                rows = slice(max(start, first) - first, min(stop, last) - first)
                if offsets is None:
                    parts.append(_numbers(kind, content, last - first)[rows])
                else:
                    parts.append(_lists(kind, content, offsets[rows.start : rows.stop + 1]))
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _basket(
        self, branch: uproot.TBranch, index: int, num_entries: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Content of a basket, uint8, and the offsets (B + 1,) of its entries in it, if it has them."""
        seek = int(branch.member("fBasketSeek")[index])
        stored = int(branch.member("fBasketBytes")[index])
        if not 0 <= seek <= seek + stored <= self._size:
            raise InputError(f"the file ends within a basket of {stored:,} bytes at {seek:,}")
        with self._lock:
            self._file.seek(seek)
            basket = self._file.read(stored)
        key_bytes, size, border = _sizes(basket, num_entries)
        data = _decompressed(basket, key_bytes, size, branch.file.source)
        if border == size:
            return data, None
        if size - border != _INT_BYTES * (num_entries + 2):  # a number, and the offsets
            raise UnusualBasketError
        offsets = data[border + _INT_BYTES :].view(">i4").astype(np.int64) - key_bytes
        offsets[-1] = border
        if offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise InputError("the offsets of the entries of a basket decrease")
        return data[:border], offsets


def _sizes(basket: bytes, num_entries: int) -> tuple[int, int, int]:
    """Bytes of the key of a basket, of its data, and of its data without the offsets of entries."""
    if len(basket) < _KEY.size + _BASKET.size:
        raise InputError("the file ends within a basket")
    num_bytes, _, size, _, key_bytes, _ = _KEY.unpack_from(basket)
    if num_bytes != len(basket) or not _KEY.size + _BASKET.size <= key_bytes <= num_bytes:
        raise InputError(f"the key of a basket of {len(basket)} bytes is damaged")
    _, _, _, entries, end, _ = _BASKET.unpack_from(basket, key_bytes - _BASKET.size)
    border = end - key_bytes
    if entries != num_entries or not 0 <= border <= size:
        raise InputError(
            f"a basket of {num_entries} entries says that it has {entries} in {border} of {size} bytes"
        )
    check_size(size, num_bytes - key_bytes)
    return key_bytes, size, border


def _decompressed(basket: bytes, start: int, size: int, source: Source) -> np.ndarray:
    """Bytes (size,) of a basket behind its key, uint8."""
    stored = np.frombuffer(basket, np.uint8, offset=start)
    if len(stored) == size:
        return stored
    view = memoryview(basket)
    blocks: list[np.ndarray] = []
    while start < len(basket):
        if basket[start : start + 2] != _ZLIB:
            cursor = Cursor(0)
            return decompress(Chunk.wrap(source, stored), cursor, {}, len(stored), size).raw_data
        sizes = basket[start + 3 : start + _BLOCK_HEADER_BYTES]
        start += _BLOCK_HEADER_BYTES
        stop = start + int.from_bytes(sizes[:3], "little")
        block = _inflate(view[start:stop], int.from_bytes(sizes[3:], "little"))
        blocks.append(np.frombuffer(block, np.uint8))
        start = stop
    data = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    if len(data) != size:
        raise InputError(f"a basket has {len(data)} instead of {size} bytes")
    return data


def _numbers(kind: AsDtype | AsJagged, content: np.ndarray, num_entries: int) -> np.ndarray:
    """Numbers (B,) from their bytes."""
    if isinstance(kind, AsJagged):
        raise UnusualBasketError
    if len(content) != num_entries * kind.itemsize:
        raise InputError(f"a basket of {num_entries} numbers has {len(content)} bytes")
    return _native(content, kind.from_dtype)


def _lists(kind: AsDtype | AsJagged, content: np.ndarray, offsets: np.ndarray) -> Ragged:
    """Lists from their bytes, each behind its header, and the offsets (B + 1,) of these."""
    if not isinstance(kind, AsJagged):
        raise UnusualBasketError
    content = content[offsets[0] : offsets[-1]]
    sizes = np.diff(offsets) - kind.header_bytes
    counts, rest = np.divmod(sizes, kind.content.itemsize)
    if rest.any() or (counts < 0).any():
        raise InputError(f"an entry of a basket is not a list of {kind.content.from_dtype}")
    if kind.header_bytes:
        content = _without_headers(content, offsets[:-1] - offsets[0], kind)
    return Ragged(as_offsets(counts), _native(content, kind.content.from_dtype))


def _without_headers(content: np.ndarray, starts: np.ndarray, kind: AsJagged) -> np.ndarray:
    """Content without the headers of the entries, which begin at `starts`."""
    step = math.gcd(kind.header_bytes, kind.content.itemsize)  # larger pieces are copied faster
    pieces = content.view(f"u{step}")
    is_content = np.ones(len(pieces), dtype=bool)
    is_content[(starts // step)[:, None] + np.arange(kind.header_bytes // step)] = False
    return pieces[is_content]


def _native(content: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers of some type, in the byte order of the machine, from their bytes."""
    values = content.view(dtype)
    return values if dtype.isnative else values.astype(dtype.newbyteorder("="))


def _joined(parts: Sequence[np.ndarray | Ragged]) -> np.ndarray | Ragged:
    """Entries of several baskets of one branch."""
    lists = [part for part in parts if isinstance(part, Ragged)]
    if not lists:
        return np.concatenate([part for part in parts if isinstance(part, np.ndarray)])
    counts = np.concatenate([np.diff(part.offsets) for part in lists])
    return Ragged(as_offsets(counts), np.concatenate([part.content for part in lists]))
