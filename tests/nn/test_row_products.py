"""Products of rows in parts, one for each thread, against plain ones."""

import pytest
import torch

from pcloud.nn.row_products import (
    add_row_product,
    for_threads,
    row_product,
    split_rows,
    totals,
)


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("rows", [0, 1, 7, 12])
def test_products_of_rows_are_those_of_all_at_once(threads, rows):
    a, b = torch.randn(rows, 5, dtype=torch.float64), torch.randn(rows, 3, dtype=torch.float64)
    matrix = torch.randn(5, 3, dtype=torch.float64)
    out = torch.empty_like(b)
    row_product(split_rows(a), for_threads(matrix), split_rows(out))
    torch.testing.assert_close(out, a @ matrix)
    sums = totals(matrix)
    add_row_product(sums, split_rows(a), split_rows(b))
    torch.testing.assert_close(sums.sum(0), a.T @ b)
