"""Images as graphs: bright pixels as a point cloud, or all pixels on a regular grid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pcloud.images.image_set import as_floating
from pcloud.models.registry import build_model, register_model
from pcloud.nn.graph.knn import knn_graph
from pcloud.nn.layout import RaggedLayout

__all__ = ["PixelCloud", "grid_graph", "pixel_cloud", "pixel_graph"]


def pixel_cloud(images: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Convert the pixels above a threshold to points.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W)
        Images, uint8 or float.
    threshold : float
        Lower bound on the largest channel of a pixel that becomes a point.

    Returns
    -------
    x : Tensor, shape (N, C)
        Channels of the points as floating-point numbers.
    pos : Tensor, shape (N, 2)
        Positions (row, column) relative to the centre, in units of half the longer side: -1 to 1.
    batch : Tensor, shape (N,)
        Index of the image of each point, sorted; a dark image has no points.

    Examples
    --------
    >>> image = torch.zeros(1, 1, 4, 4)
    >>> image[0, 0, 1, 2] = 0.8
    >>> x, pos, batch = pixel_cloud(image, threshold=0.5)
    >>> x, batch
    (tensor([[0.8000]]), tensor([0]))
    """
    images = as_floating(images)
    batch, row, column = (images.amax(dim=1) > threshold).nonzero(as_tuple=True)
    height, width = images.shape[-2:]
    middle = torch.tensor([height - 1, width - 1], device=images.device) / 2
    pos = (torch.stack([row, column], dim=-1) - middle) / (max(height, width) / 2)
    return images[batch, :, row, column], pos.to(images.dtype), batch


def grid_graph(height: int, width: int, *, diagonals: bool = False) -> Tensor:
    """Edges between neighbouring pixels of a regular grid, in both directions.

    Parameters
    ----------
    height, width : int
        Size of the image; pixel (row, column) is node ``row * width + column``.
    diagonals : bool
        Connect pixels that touch at a corner, too.

    Returns
    -------
    Tensor, shape (2, E)
        Edges ``(source, target)``.

    Examples
    --------
    >>> grid_graph(1, 2)
    tensor([[0, 1],
            [1, 0]])
    """
    nodes = torch.arange(height * width).view(height, width)
    pairs = [(nodes[:, :-1], nodes[:, 1:]), (nodes[:-1], nodes[1:])]
    if diagonals:
        pairs += [(nodes[:-1, :-1], nodes[1:, 1:]), (nodes[:-1, 1:], nodes[1:, :-1])]
    edges = torch.cat([torch.stack([a.flatten(), b.flatten()]) for a, b in pairs], dim=1)
    return torch.cat([edges, edges.flip(0)], dim=1)


def pixel_graph(images: Tensor, k: int, threshold: float = 0.0) -> Any:
    """Convert bright pixels, with edges from the `k` nearest ones, to a PyG batch.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W)
        Images, uint8 or float.
    k : int
        Number of neighbours.
    threshold : float
        As for :func:`pixel_cloud`.

    Returns
    -------
    torch_geometric.data.Data
        With ``x``, ``pos``, ``edge_index`` and ``batch``.
    """
    from torch_geometric.data import Data

    x, pos, batch = pixel_cloud(images, threshold)
    return Data(x=x, pos=pos, edge_index=knn_graph(pos, batch, k), batch=batch)


@register_model(
    "pixel_cloud",
    paper="1902.08570",
    year=2019,
    use="sparse images, as graphs",
    kind="image",
    symmetries=(),
)
class PixelCloud(nn.Module):
    """Network on clouds applied to the bright pixels of an image.

    Parameters
    ----------
    in_channels : int
        Number of channels of the images.
    num_outputs : int
        Number of outputs, one for each class (C).
    network : str
        Name of the network, such as ``"particlenet_lite"`` or ``"dgcnn"``. Its features are the
        channels and the position of each point; neighbours are searched by position.
    threshold : float
        As for :func:`pixel_cloud`, in the units of the inputs of a network on images.
    **options
        Options of the network.
    """

    frequencies: Tensor

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        *,
        network: str = "particlenet_lite",
        threshold: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__()
        self.threshold = threshold
        frequencies = torch.tensor([[127.1, 269.5], [311.7, 183.3]])
        self.register_buffer("frequencies", frequencies, persistent=False)
        options = {"coordinates": "identity"} | options
        self.network = build_model(network, in_channels + 2, num_outputs, **options)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of ``images (B, in_channels, H, W)``."""
        x, pos, batch = pixel_cloud(images, self.threshold)
        # Many pixels have equal distances, and the choice among them would depend on the batch. A
        # shift of about a thousandth of the side, different for each pixel, breaks these ties.
        apart = pos + 1e-3 * torch.sin(pos @ self.frequencies)
        layout = RaggedLayout.from_batch(batch, num_jets=len(images))
        return self.network(torch.cat([x, pos], dim=-1), apart, batch, layout)
