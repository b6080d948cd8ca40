"""Checksums of RNTuples: anchor, header, footer and lists of pages, and pages where they have some.

uproot believes the lists of pages: a single changed byte in a number of elements makes it allocate
any amount of memory. The format is described in the specification of RNTuple in ROOT
(``tree/ntuple/doc/BinaryFormatSpecification.md``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import awkward as ak
import numpy as np
import xxhash
from uproot.models.RNTuple import MetaData, Model_ROOT_3a3a_RNTuple

__all__ = ["check_envelopes", "check_pages", "form_columns"]

_ANCHOR = struct.Struct(">HHHHQQQQQQQ")
_ANCHOR_MEMBERS = (
    "fVersionEpoch",
    "fVersionMajor",
    "fVersionMinor",
    "fVersionPatch",
    "fSeekHeader",
    "fNBytesHeader",
    "fLenHeader",
    "fSeekFooter",
    "fNBytesFooter",
    "fLenFooter",
    "fMaxKeySize",
)
_CHECKSUM_BYTES = 8


def check_envelopes(ntuple: Model_ROOT_3a3a_RNTuple) -> None:
    """Compare the checksums of all metadata, before their numbers are used.

    Raises
    ------
    ValueError
        If a checksum is wrong.
    """
    members = [ntuple.member(name) for name in _ANCHOR_MEMBERS]
    if xxhash.xxh3_64_intdigest(_ANCHOR.pack(*members)) != ntuple._anchor_checksum:
        raise ValueError("wrong checksum of the anchor of the RNTuple")
    for part in ("Header", "Footer"):
        position, size, length = (ntuple.member(f"f{n}{part}") for n in ("Seek", "NBytes", "Len"))
        _check_envelope(ntuple, part.lower(), position, size, length)
    for group in ntuple.footer.cluster_group_records:
        link = group.page_list_link
        where = link.locator
        _check_envelope(
            ntuple, "list of pages", where.offset, where.num_bytes, link.env_uncomp_size
        )


def _check_envelope(
    ntuple: Model_ROOT_3a3a_RNTuple, what: str, position: int, size: int, length: int
) -> None:
    """Compare the last 8 bytes of `length` decompressed bytes with the checksum of the others."""
    locator = MetaData("Locator", offset=position, num_bytes=size)
    chunk, _ = ntuple.read_locator(locator, length)
    content = np.asarray(chunk.raw_data).view(np.uint8)
    if len(content) != length or not _is_right(content[:-_CHECKSUM_BYTES], content):
        raise ValueError(f"wrong checksum of the {what} of the RNTuple")


def _is_right(content: np.ndarray, stored: np.ndarray) -> bool:
    """Compare the checksum of `content` with the one that the last 8 bytes of `stored` are."""
    checksum = int.from_bytes(stored[-_CHECKSUM_BYTES:].tobytes(), "little")
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(content).data) == checksum


def form_columns(forms: Iterable[ak.forms.Form]) -> set[int]:
    """Numbers of the columns of an RNTuple that forms need, from their keys ``column-N``."""
    keys = (key for form in forms for key in _form_keys(form))
    return {int(key.split("-")[1]) for key in keys if key.startswith("column-")}


def _form_keys(form: ak.forms.Form) -> Iterator[str]:
    if form.form_key:
        yield form.form_key
    for inner in getattr(form, "contents", None) or [getattr(form, "content", None)]:
        if inner is not None:
            yield from _form_keys(inner)


def check_pages(
    ntuple: Model_ROOT_3a3a_RNTuple, columns: Iterable[int], start: int, stop: int
) -> None:
    """Compare the checksums of the pages of some columns; pages of uproot have none.

    Parameters
    ----------
    ntuple : RNTuple
        RNTuple whose envelopes have been checked.
    columns : iterable of int
        Numbers of the columns.
    start, stop : int
        Range of entries.

    Raises
    ------
    ValueError
        If a checksum is wrong.
    """
    clusters = zip(ntuple.cluster_summaries, ntuple.page_link_list, strict=True)
    for cluster, pages_of in clusters:
        first = cluster.num_first_entry
        if first >= stop or first + cluster.num_entries <= start:
            continue
        for column in columns:
            if column < len(pages_of):
                _check_column(ntuple, column, pages_of[column].pages)


def _check_column(ntuple: Model_ROOT_3a3a_RNTuple, column: int, pages: Iterable[MetaData]) -> None:
    for page in pages:
        if not page.has_checksum:
            continue
        where = page.locator
        end = where.offset + where.num_bytes + _CHECKSUM_BYTES
        content = np.asarray(ntuple.file.source.chunk(where.offset, end).raw_data).view(np.uint8)
        if not _is_right(content[:-_CHECKSUM_BYTES], content):
            raise ValueError(f"wrong checksum of a page of column {column} of the RNTuple")
