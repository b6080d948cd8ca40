"""Checksums of RNTuples, compared before their numbers are used."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import uproot
import xxhash

from pcloud.errors import InputError
from pcloud.io import JetSchema, read_jets
from pcloud.io.rntuple import check_pages, form_columns
from tests.io.conftest import assert_same_jets, make_flat

SCHEMA = JetSchema({name: name for name in ("E", "px", "py", "pz")})
FLAT = make_flat(num_jets=40)
COMPRESSIONS = {
    "none": None,
    "zlib": uproot.ZLIB(1),
    "lz4": uproot.LZ4(1),
    "zstd": uproot.ZSTD(1),
}


def write(path: Path, compression: str = "none") -> Path:
    p4 = FLAT.to_awkward().p4
    branches = {name: p4[name] for name in p4.fields}
    with uproot.recreate(path, compression=COMPRESSIONS[compression]) as file:
        file.mkrntuple("tree", {name: column[:25] for name, column in branches.items()})
        file["tree"].extend({name: column[25:] for name, column in branches.items()})
    return path


def change(path: Path, position: int, content: bytes) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:position] + content + data[position + len(content) :])


def page_lists(path: Path) -> list[tuple[int, int]]:
    """Positions and sizes of the lists of pages in the file."""
    with uproot.open(path) as file:
        links = [group.page_list_link for group in file["tree"].footer.cluster_group_records]
    return [(link.locator.offset, link.locator.num_bytes) for link in links]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_false_number_in_a_list_of_pages_is_refused_at_once(tmp_path, compression):
    path = write(tmp_path / "a.root", compression)
    assert_same_jets(read_jets(path, SCHEMA), FLAT.to_awkward()[["p4"]])
    for position, size in page_lists(path):
        good = path.read_bytes()
        for number in (0, 2**31 - 1, 10**6):
            change(path, position + size // 2, struct.pack("<I", number))
            start = time.perf_counter()
            with pytest.raises(InputError, match=r"a\.root: cannot read the ROOT file"):
                read_jets(path, SCHEMA)
            assert time.perf_counter() - start < 5
            path.write_bytes(good)


@pytest.mark.parametrize("part", ["Header", "Footer"])
def test_a_changed_header_or_footer_is_refused(tmp_path, part):
    path = write(tmp_path / "a.root")
    with uproot.open(path) as file:
        position = file["tree"].member(f"fSeek{part}")
    change(path, position + 20, b"\xff")
    with pytest.raises(InputError, match=f"wrong checksum of the {part.lower()}"):
        read_jets(path, SCHEMA)


class PagesOfRoot:
    """RNTuple of one column, of two pages with checksums, as ROOT writes them (uproot does not)."""

    def __init__(self, pages: list[bytes]) -> None:
        contents = [page + struct.pack("<Q", xxhash.xxh3_64_intdigest(page)) for page in pages]
        self.content = b"".join(contents)
        starts = np.cumsum([0, *map(len, contents)])
        locators = [
            SimpleNamespace(offset=int(start), num_bytes=len(page))
            for start, page in zip(starts, pages, strict=False)
        ]
        descriptions = [SimpleNamespace(has_checksum=True, locator=where) for where in locators]
        self.cluster_summaries = [
            SimpleNamespace(num_first_entry=0, num_entries=5),
            SimpleNamespace(num_first_entry=5, num_entries=5),
        ]
        self.page_link_list = [[SimpleNamespace(pages=[page])] for page in descriptions]
        self.file = SimpleNamespace(source=self)

    def chunk(self, start: int, stop: int) -> SimpleNamespace:
        return SimpleNamespace(raw_data=np.frombuffer(self.content[start:stop], np.uint8))


def test_pages_with_a_wrong_checksum_are_refused():
    ntuple = PagesOfRoot([b"0123456789", b"abcdefg"])
    check_pages(ntuple, {0}, 0, 10)
    ntuple.content = ntuple.content.replace(b"abc", b"abd")
    check_pages(ntuple, {0}, 0, 5)
    with pytest.raises(ValueError, match="wrong checksum of a page of column 0"):
        check_pages(ntuple, {0}, 4, 6)


def test_the_columns_of_lists_and_structures_are_found(tmp_path):
    path = write(tmp_path / "a.root")
    with uproot.open(path) as file:
        ntuple = file["tree"]
        form = ntuple["E"].to_akform()[0]
        assert form_columns([form]) == {0, 1}
        assert form_columns([ntuple.to_akform()[0]]) == set(range(8))
