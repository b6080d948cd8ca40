from __future__ import annotations

import math

import pytest
import torch

from pcloud.images import grid_graph, pixel_cloud, pixel_graph

pytestmark = pytest.mark.rounding


def images():
    return torch.rand(3, 2, 7, 9, generator=torch.Generator().manual_seed(0))


def test_points_are_the_bright_pixels():
    x, pos, batch = pixel_cloud(images(), 0.8)
    points = iter(zip(x, pos, batch, strict=True))
    for i, image in enumerate(images()):
        for row in range(7):
            for column in range(9):
                if image[:, row, column].max() > 0.8:
                    colour, at, of = next(points)
                    assert torch.equal(colour, image[:, row, column])
                    assert at.tolist() == pytest.approx([(row - 3) / 4.5, (column - 4) / 4.5])
                    assert of == i
    assert next(points, None) is None


def test_a_dark_image_has_no_points():
    pictures = images()
    pictures[1] = 0
    _, _, batch = pixel_cloud(pictures, 0.5)
    assert batch.unique().tolist() == [0, 2]


@pytest.mark.parametrize("diagonals", [False, True])
def test_neighbours_on_the_grid_are_the_closest_pixels(diagonals):
    height, width, reach = 4, 5, math.sqrt(2) if diagonals else 1.0
    row, column = torch.arange(20) // width, torch.arange(20) % width
    pos = torch.stack([row, column], dim=-1).float()
    distance = torch.cdist(pos, pos)
    expected = ((distance > 0) & (distance < reach + 0.1)).nonzero()
    edges = grid_graph(height, width, diagonals=diagonals).T
    assert sorted(edges.tolist()) == sorted(expected.tolist())


def test_edges_come_from_the_nearest_pixels_of_the_same_image():
    graph = pixel_graph(images(), k=3, threshold=0.7)
    source, target = graph.edge_index
    assert torch.equal(graph.batch[source], graph.batch[target])
    length = (graph.pos[source] - graph.pos[target]).norm(dim=-1)
    for i in range(len(graph.x)):
        own = (graph.batch == graph.batch[i]) & (torch.arange(len(graph.x)) != i)
        nearest = (graph.pos[own] - graph.pos[i]).norm(dim=-1).sort().values[:3]
        torch.testing.assert_close(length[target == i].sort().values, nearest)
