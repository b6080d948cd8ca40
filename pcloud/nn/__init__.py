"""Layers on ragged batches: torch in, torch out."""

from pcloud.nn.graph.coordinates import eta_phi, identity
from pcloud.nn.graph.edge_conv import EdgeBlock, EdgeConv
from pcloud.nn.graph.knn import knn, knn_graph
from pcloud.nn.layout import DenseBlock, RaggedLayout
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
