from __future__ import annotations

import numpy as np
import torch

from pcloud.interpret.attention import AttentionMaps
from pcloud.interpret.attribution import Attribution
from pcloud.interpret.attribution_images import ImageAttribution
from pcloud.interpret.edges import EdgeImportance
from pcloud.interpret.taylor import TaylorCoefficients


def test_attributions_name_method_and_size():
    offsets = np.array([0, 2, 5])
    found = Attribution("saliency", np.zeros((5, 2)), ("pt", "eta"), offsets, np.zeros(2))
    assert repr(found) == "Attribution by saliency of 2 jets with 5 particles to pt, eta"
    images = ImageAttribution("occlusion", np.zeros((3, 1, 28, 30)), np.zeros(3))
    assert repr(images) == "ImageAttribution by occlusion of 3 images of 28x30 pixels"


def test_maps_and_edges_name_their_size():
    pairs = torch.zeros(6)
    maps = AttentionMaps(pairs, pairs, torch.zeros(6, 4), torch.zeros(2, 6, 8), pairs)
    assert repr(maps) == "AttentionMaps of 2 layers with 8 heads on 6 pairs"
    edges = EdgeImportance(torch.zeros(5, 3), torch.zeros(5, 3))
    assert repr(edges) == "EdgeImportance of 3 messages to each of 5 particles"


def test_coefficients_name_order_and_inputs():
    first = np.zeros((4, 2))
    assert repr(TaylorCoefficients(("a", "b"), first)) == (
        "TaylorCoefficients to order 1 of 4 jets in a, b"
    )
    second = TaylorCoefficients(("a", "b"), first, np.zeros((4, 2, 2)))
    assert "order 2" in repr(second)
