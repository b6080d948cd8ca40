"""Make ``part_versions.npz``: random networks of weaver-core 0.5.3 and their logits.

    python -m tests.models.make_part_versions

Only this script needs weaver-core; the tests read the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from weaver.nn.model.ParticleTransformer import ParticleTransformer

from pcloud.nn import RaggedLayout
from tests.models.contract import make_jets
from tests.models.test_part import padded, randomized

FILE = Path(__file__).with_name("part_versions.npz")
COUNTS = [1, 2, 3, 40, 5, 17, 30, 12]
SMALL = {
    "pair_input_dim": 4,
    "use_pre_activation_pair": False,
    "trim": False,
    "embed_dims": (12, 16, 12),
    "pair_embed_dims": (8, 8),
    "num_heads": 3,
    "num_layers": 2,
    "num_cls_layers": 1,
    "fc_params": [(8, 0.1)],
}
GATED = {"use_qk_norm": True, "headwise_attn_output_gate": True}
NETWORKS = {
    "version_1_gated": {"version": 1, "block_params": GATED, "cls_block_params": GATED},
    "version_2": {"version": 2},
    "version_2_gated": {"version": 2, "block_params": GATED, "cls_block_params": GATED},
    "version_3": {"version": 3},
    "version_3.5": {"version": 3.5},
}


def network(options: dict) -> nn.Module:
    """With norms and statistics as far from their start as those of a trained network."""
    torch.manual_seed(0)
    model = randomized(ParticleTransformer(7, 3, **SMALL, **options))
    x, p4, batch = make_jets([30] * 8, seed=1)
    model.train()
    for _ in range(5):
        model(*padded(x, p4, RaggedLayout.from_batch(batch), 30))
    return model.eval()


@torch.no_grad()
def main() -> None:
    """Write the file beside this script."""
    x, p4, batch = make_jets(COUNTS)
    inputs = padded(x, p4, RaggedLayout.from_batch(batch), max(COUNTS))
    arrays = {"x": x.numpy(), "p4": p4.numpy(), "batch": batch.numpy()}
    for name, options in NETWORKS.items():
        model = network(options)
        for key, value in model.state_dict().items():
            arrays[f"{name}/state/{key}"] = value.numpy()
        # The constant of RMSNorm depends on the precision.
        for dtype in (torch.float32, torch.float64):
            logits = model.to(dtype)(*(part.to(dtype) for part in inputs))
            arrays[f"{name}/{dtype}"] = logits.numpy()
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
