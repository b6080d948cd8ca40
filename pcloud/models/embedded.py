"""Networks on several collections and on categories: learned embeddings before any network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.models.registry import build_model, reads_features, takes_option
from pcloud.nn.categories import CategoriesOfCollections, CategoryEmbedding
from pcloud.nn.collections import CollectionEmbedding
from pcloud.nn.layout import RaggedLayout, as_layout
from pcloud.nn.representation import Representation

__all__ = ["EmbeddedNetwork", "Inputs", "build_embedded"]

_WIDTH = 32  # of an embedded row, that of CMS's network of collections


@dataclass(frozen=True)
class Inputs:
    """Inputs of the rows of one collection.

    Attributes
    ----------
    num_features : int
        Number of features F.
    tables : mapping of int to tuple of int
        Number of categories and width of their vectors, for each feature that is a category.
    """

    num_features: int
    tables: Mapping[int, tuple[int, int]] = field(default_factory=dict)


class EmbeddedNetwork(nn.Module):
    """Network whose rows are embedded: categories, and then collections to a common width.

    Parameters
    ----------
    network : torch.nn.Module
        ``network(x, p4, batch, layout)``.
    categories : CategoriesOfCollections, optional
        Embedding of the features that are categories.
    collections : CollectionEmbedding, optional
        Embedding of each collection.
    """

    def __init__(
        self,
        network: nn.Module,
        categories: CategoriesOfCollections | None = None,
        collections: CollectionEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.categories = categories
        self.collections = collections
        self.network: Any = network

    def forward(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
        *,
        u: Tensor | None = None,
        pos: Tensor | None = None,
        collection: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, C) from ``x (N, D)``, ``p4 (N, 4)`` in GeV and ``batch (N,)``.

        ``u (B, G)`` are features of the jets, ``pos (N, 2)`` positions (eta, phi) relative to the jet
        of rows without momentum, and ``collection (N,)`` is the collection of each row; `layout` can
        carry all of them.
        """
        layout = as_layout(batch, layout, x)
        given: dict[str, Any] = {"u": u, "pos": pos, "collection": collection}
        layout = replace(layout, **{n: value for n, value in given.items() if value is not None})
        return self.network(self._embedded(x, layout), p4, layout.batch, layout)

    def _embedded(self, x: Tensor, layout: RaggedLayout) -> Tensor:
        """Features (N, D') of the embedded rows."""
        if self.categories is not None:
            x = self.categories(x, layout.collection)
        if self.collections is not None:
            x = self.collections(x, layout.collection)
        return x

    def particles(
        self,
        x: Tensor,
        p4: Tensor,
        batch: Tensor | None = None,
        layout: RaggedLayout | None = None,
    ) -> Representation:
        """Representation of each row, where the network offers it."""
        layout = as_layout(batch, layout, x)
        return self.network.particles(self._embedded(x, layout), p4, layout.batch, layout)

    def pool(self, h: Representation) -> Tensor:
        """Input (B, D) of the head."""
        return self.network.pool(h)

    @property
    def head(self) -> nn.Module:
        """Head of the network."""
        return self.network.head

    @property
    def particle_width(self) -> int | None:
        """Number of features of a row in its representation; None where the network has none."""
        return getattr(self.network, "particle_width", None)


def build_embedded(
    name: str, inputs: Sequence[Inputs], num_outputs: int, options: Mapping[str, Any]
) -> nn.Module:
    """Build a network with random weights for the rows of some collections.

    Parameters
    ----------
    name : str
        Name of the network, see :func:`~pcloud.models.build_model`.
    inputs : sequence of Inputs
        Inputs from the particles, and from each further collection.
    num_outputs : int
        Number of outputs C.
    options : mapping
        Options of the network. With several collections, ``embed_width`` is their common width.

    Returns
    -------
    torch.nn.Module
        The network itself if there are neither further collections nor categories, or if it reads no
        features; otherwise an :class:`EmbeddedNetwork` around it.
    """
    options = dict(options)
    widths = [part.num_features for part in inputs]
    embeds_itself = takes_option(name, "collections")
    has_collections = len(inputs) > 1
    if not reads_features(name) or not (has_collections or any(part.tables for part in inputs)):
        return build_model(name, max(widths), num_outputs, **options)
    categories = None
    if any(part.tables for part in inputs):
        parts = [CategoryEmbedding(part.num_features, part.tables) for part in inputs]
        categories = CategoriesOfCollections(parts)
        widths = list(categories.widths)
    if not has_collections or embeds_itself:
        options |= {"collections": widths} if embeds_itself else {}
        network = build_model(name, max(widths), num_outputs, **options)
        return network if categories is None else EmbeddedNetwork(network, categories)
    width = options.pop("embed_width", _WIDTH)
    if not isinstance(width, int) or not 1 <= width <= 10**6:
        raise InputError(f"embed_width must be a whole number of at least 1, got {width!r}")
    network = build_model(name, width, num_outputs, **options)
    return EmbeddedNetwork(network, categories, CollectionEmbedding(widths, width))
