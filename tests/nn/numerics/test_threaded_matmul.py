"""Products of rows in parts, one for each thread, against plain ones."""

import pytest
import torch

from pcloud.nn.numerics.threaded_matmul import (
    add_row_product,
    for_threads,
    row_product,
    split_rows,
    totals,
)

pytestmark = pytest.mark.rounding


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows", [0, 1, 7, 12])
def test_products_of_rows_are_those_of_all_at_once(threads, rows):
    a, b = torch.randn(rows, 5, dtype=torch.float64), torch.randn(rows, 3, dtype=torch.float64)
    matrix = torch.randn(5, 3, dtype=torch.float64)
    out = torch.empty_like(b)
    of_a = split_rows(a, threads)
    row_product(of_a, for_threads(matrix, threads), split_rows(out, threads))
    torch.testing.assert_close(out, a @ matrix)
    sums = totals(matrix, threads)
    add_row_product(sums, of_a, split_rows(b, threads))
    torch.testing.assert_close(sums.sum(0), a.T @ b)
