from __future__ import annotations

import importlib.util

import awkward as ak
import numpy as np
import pytest
import uproot

from pcloud.errors import InputError
from pcloud.io import baskets
from pcloud.io.baskets import BasketFile, UnusualBasketError, check_size, has_plain_baskets
from pcloud.io.root import RootTree

DTYPES = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
COMPRESSIONS = [uproot.ZLIB(1), uproot.LZ4(1), uproot.ZSTD(1), uproot.LZMA(1), None]


def columns(num_rows: int, seed: int = 0) -> dict[str, ak.Array]:
    """A column of numbers and one of lists, some of them empty, of every type."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, num_rows)
    made: dict[str, ak.Array] = {}
    for dtype in DTYPES:
        numbers = rng.integers(0, 100, num_rows + counts.sum()).astype(dtype)
        made[f"number_{dtype}"] = ak.Array(numbers[:num_rows])
        made[f"list_{dtype}"] = ak.unflatten(numbers[num_rows:], counts)
    return {name.replace("?", "bool"): column for name, column in made.items()}


def write(path, parts, compression=COMPRESSIONS[0]):
    with uproot.recreate(path, compression=compression) as file:
        file.mktree("tree", {n: ak.type(c).content for n, c in parts[0].items()})
        for part in parts:
            file["tree"].extend(part)
    return path


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=str)
def test_every_type_and_compression_is_read_as_by_uproot(tmp_path, compression):
    parts = [columns(number, seed) for seed, number in enumerate((70, 1, 29))]
    path = write(tmp_path / "a.root", parts, compression)
    table = RootTree(path, None)
    tree = uproot.open(path)["tree"]
    for start, stop in ((0, 100), (0, 1), (13, 70), (70, 71), (60, 95)):
        read = table.read_columns(list(parts[0]), start, stop)
        for name, values in read.items():
            assert has_plain_baskets(tree[name])
            expected = tree[name].array(entry_start=start, entry_stop=stop)
            if name.startswith("list"):
                assert values.offsets.tolist() == [0, *np.cumsum(ak.num(expected))]
                values, expected = values.content, ak.flatten(expected)
            assert values.dtype == np.dtype(ak.type(expected).content.primitive)
            np.testing.assert_array_equal(values, expected)
    table.close()


def test_vectors_of_the_example_are_read_as_by_uproot(reference_data):
    path = reference_data / "jetclass2_example_100.root"
    tree = uproot.open(path)["tree"]
    file = BasketFile(path)
    for name in ("part_px", "part_charge", "part_isPhoton", "jet_pt"):
        for start, stop in ((0, 100), (37, 38), (50, 99)):
            expected = tree[name].array(entry_start=start, entry_stop=stop)
            found = file.read(tree[name], start, stop)
            if name != "jet_pt":
                assert found.offsets.tolist() == [0, *np.cumsum(ak.num(expected))]
                found, expected = found.content, ak.flatten(expected)
            np.testing.assert_array_equal(found, expected)
    file.close()


def test_baskets_of_several_blocks_are_joined(tmp_path):
    numbers = np.arange(5_000_000, dtype=np.int32)  # blocks have at most 16 MiB
    path = write(tmp_path / "a.root", [{"number": ak.Array(numbers)}])
    table = RootTree(path, None)
    np.testing.assert_array_equal(
        table.read_columns(["number"], 0, len(numbers))["number"], numbers
    )
    table.close()


def test_libdeflate_and_zlib_give_the_same_bytes(tmp_path, monkeypatch):
    path = write(tmp_path / "a.root", [columns(500)])
    tables = []
    for inflate in (baskets._choose_inflate(), baskets._inflate_with_zlib):
        monkeypatch.setattr(baskets, "_inflate", inflate)
        table = RootTree(path, None)
        tables.append(table.read_columns(["list_f4", "number_i8"], 0, 500))
        table.close()
    np.testing.assert_array_equal(tables[0]["list_f4"].content, tables[1]["list_f4"].content)
    np.testing.assert_array_equal(tables[0]["number_i8"], tables[1]["number_i8"])


def test_libdeflate_is_used_where_it_is_installed():
    is_installed = importlib.util.find_spec("deflate") is not None
    assert (baskets._inflate is baskets._inflate_with_zlib) != is_installed


def basket_of(path, name):
    branch = uproot.open(path)["tree"][name]
    seek = int(branch.member("fBasketSeek")[0])
    return branch, seek, int(branch.member("fBasketBytes")[0])


def test_changed_bytes_of_a_basket_are_found(tmp_path):
    path = write(tmp_path / "a.root", [{"list": ak.Array([[1.0, 2.0], [], [3.0]] * 40)}], None)
    good = path.read_bytes()
    branch, seek, size = basket_of(path, "list")
    key = branch.basket_key(0).fKeylen
    ends = seek + size
    changes = {
        "damaged": (seek + 3, b"\x00"),  # bytes of the basket
        "says that it has": (seek + key - 9, b"\x7f"),  # entries
        "decrease": (ends - 4 * 60, b"\x7f"),  # offset of an entry
        "not a list": (ends - 4 * 61 + 3, bytes([good[ends - 4 * 61 + 3] + 1])),
    }
    for text, (place, byte) in changes.items():
        path.write_bytes(good[:place] + byte + good[place + 1 :])
        file = BasketFile(path)
        with pytest.raises(InputError, match=text):
            file.read(branch, 0, 120)
        file.close()
    path.write_bytes(good[: seek + 20])
    file = BasketFile(path)
    with pytest.raises(InputError, match="ends within"):
        file.read(branch, 0, 120)
    file.close()


def test_a_size_that_no_compression_reaches_is_refused():
    check_size(64 << 20, 1)
    with pytest.raises(InputError, match="compressed to 60,000"):
        check_size(70 << 20, 60_000)


def test_a_basket_of_another_layout_is_read_by_uproot(tmp_path, monkeypatch):
    def unusual(*_):
        raise UnusualBasketError

    path = write(tmp_path / "a.root", [columns(50)])
    table = RootTree(path, None)
    expected = table.read_columns(["list_f4"], 3, 41)["list_f4"]
    monkeypatch.setattr(BasketFile, "read", unusual)
    found = table.read_columns(["list_f4"], 3, 41)["list_f4"]
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.content, expected.content)
    table.close()
