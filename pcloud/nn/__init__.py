"""Layers on ragged batches of jets, and the functions needed to write a network.

A network calls :func:`as_layout` first, and passes the layout to the layers. The subpackages are
sorted by what relates the particles of a jet: neighbours (``graph``), all pairs (``pairs``),
attention (``attention``) and Minkowski products (``lorentz``). ``numerics`` contains tools for the
layers. The other modules are the layout itself (``layout``), pooling to one row per jet
(``pooling``), sequences of particles (``sequences``), clustering trees (``clustering``), plain
multilayer perceptrons (``dense``) and several collections of a jet (``collections``).
"""

from pcloud.nn.attention.attention import ClassAttention, SelfAttention, attend, padding_bias
from pcloud.nn.attention.feed_forward import FeedForward
from pcloud.nn.attention.gated_pooling import GatedPooling
from pcloud.nn.attention.head_slots import HeadSlots
from pcloud.nn.attention.pair_bias import PairBias
from pcloud.nn.clustering import clustering_trees, exclusive_axes
from pcloud.nn.collections import CollectionEmbedding
from pcloud.nn.dense import dense_layers
from pcloud.nn.graph.coordinates import eta_phi, identity, jet_momenta
from pcloud.nn.graph.edge_conv import EdgeBlock, EdgeConv
from pcloud.nn.graph.knn import gather_neighbors, knn, knn_graph
from pcloud.nn.layout import DenseBlock, RaggedLayout, as_layout
from pcloud.nn.lorentz.minkowski import mass_treatment
from pcloud.nn.lorentz.tokens import SpacetimeTokens
from pcloud.nn.numerics.derivatives import higher_derivatives, kernel_allowed
from pcloud.nn.pairs.blocks import PairBlocks
from pcloud.nn.pairs.equivariant import EquivariantLinear, Pairs, invariant_pool
from pcloud.nn.pairs.linear import PairLinear
from pcloud.nn.pairs.messages import PairMessages
from pcloud.nn.pooling import max_by_index, max_pool, mean_pool, sum_by_index, sum_pool
from pcloud.nn.representation import Representation
from pcloud.nn.sequences import JetSequences, RaggedConv1d, by_pt, halved_sequences

__all__ = [
    "ClassAttention",
    "CollectionEmbedding",
    "DenseBlock",
    "EdgeBlock",
    "EdgeConv",
    "EquivariantLinear",
    "FeedForward",
    "GatedPooling",
    "HeadSlots",
    "JetSequences",
    "PairBias",
    "PairBlocks",
    "PairLinear",
    "PairMessages",
    "Pairs",
    "RaggedConv1d",
    "RaggedLayout",
    "Representation",
    "SelfAttention",
    "SpacetimeTokens",
    "as_layout",
    "attend",
    "by_pt",
    "clustering_trees",
    "dense_layers",
    "eta_phi",
    "exclusive_axes",
    "gather_neighbors",
    "halved_sequences",
    "higher_derivatives",
    "identity",
    "invariant_pool",
    "jet_momenta",
    "kernel_allowed",
    "knn",
    "knn_graph",
    "mass_treatment",
    "max_by_index",
    "max_pool",
    "mean_pool",
    "padding_bias",
    "sum_by_index",
    "sum_pool",
]
