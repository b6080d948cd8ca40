from __future__ import annotations

import numpy as np
import pytest

from pcloud.errors import InputError
from pcloud.io.growing import GrowingColumn

LARGE = 2**60 + 1


def grown(*parts):
    column = GrowingColumn("event")
    for part in parts:
        column.append(part, 0)
    return column.values


@pytest.mark.parametrize("types", [(np.uint64, np.int64), (np.int64, np.uint64)])
def test_large_numbers_of_two_types_stay_exact(types):
    first, second = (np.array([LARGE], dtype=kind) for kind in types)
    assert grown(first, second).tolist() == [LARGE, LARGE]


def test_negative_numbers_beside_unsigned_ones():
    assert grown(np.array([-1]), np.array([LARGE], dtype=np.uint64)).tolist() == [-1, LARGE]
    with pytest.raises(
        InputError, match=r"'event' has int64 .* and uint64 .* read the files separ"
    ):
        grown(np.array([-1]), np.array([2**63 + 1], dtype=np.uint64))


def test_whole_numbers_beside_floats():
    assert grown(np.array([2**53]), np.array([0.5])).tolist() == [2.0**53, 0.5]
    with pytest.raises(InputError, match="no common type holds exactly"):
        grown(np.array([LARGE]), np.array([0.5]))
