"""Layers on ragged batches: torch in, torch out."""

from pcloud.nn.coordinates import eta_phi, identity
from pcloud.nn.edge_conv import EdgeBlock, EdgeConv
from pcloud.nn.layout import DenseBlock, RaggedLayout
from pcloud.nn.neighbors import knn, knn_graph
from pcloud.nn.pooling import max_pool, mean_pool, sum_pool

__all__ = [
    "DenseBlock",
    "EdgeBlock",
    "EdgeConv",
    "RaggedLayout",
    "eta_phi",
    "identity",
    "knn",
    "knn_graph",
    "max_pool",
    "mean_pool",
    "sum_pool",
]
