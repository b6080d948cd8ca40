"""A tagger of your own in one file.

    pcloud train --data simulated --model examples/my_tagger.py:MyTagger --out runs/mine

A model takes the flat tensors `x (N, F)`, `p4 (N, 4)` in GeV and `batch (N,)`, and returns one row
of logits per jet. Keyword arguments of the class are options on the command line:
`--model-options.width 128`. docs/extend.md shows how to register a model under a name.
"""

from torch import Tensor, nn

from pcloud.nn import RaggedLayout, as_layout, knn, mean_pool
from pcloud.nn.graph.coordinates import eta_phi


class MyTagger(nn.Module):
    """Two layers that combine a particle with the mean of its neighbours, then a mean over the jet.

    Parameters
    ----------
    in_features : int
        Features per particle F.
    num_outputs : int
        Number of outputs, one for each class (C).
    width : int
        Number of channels.
    k : int
        Number of neighbours of a particle in eta and phi.
    """

    def __init__(self, in_features: int, num_outputs: int = 2, width: int = 64, k: int = 8) -> None:
        super().__init__()
        self.k = k
        self.embed = nn.Linear(in_features, width)
        self.own = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.near = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(2))
        self.head = nn.Linear(width, num_outputs)

    def forward(
        self, x: Tensor, p4: Tensor, batch: Tensor | None, layout: RaggedLayout | None = None
    ) -> Tensor:
        """Logits (B, C)."""
        layout = as_layout(batch, layout, x)
        neighbors = knn(eta_phi(p4, layout), layout, self.k)  # (N, k), N where there is none
        x = self.embed(x)
        for own, near in zip(self.own, self.near, strict=True):
            padded = nn.functional.pad(x, (0, 0, 0, 1))
            around = padded[neighbors].mean(1)
            x = x + nn.functional.gelu(own(x) + near(around))
        return self.head(mean_pool(x, layout))
