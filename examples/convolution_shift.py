"""A convolution commutes with shifts, a dense layer does not.

python examples/convolution_shift.py
"""

import torch
from torch import nn

torch.manual_seed(0)
images = torch.zeros(4, 1, 16, 16)
images[:, :, 4:9, 4:9] = torch.rand(4, 1, 5, 5)  # far from the border, where padding would show


def shift(maps):
    """Maps that are moved by two pixels down and three to the right."""
    return maps.roll((2, 3), dims=(2, 3))


layers = {
    "convolution 5x5": nn.Conv2d(1, 8, 5, padding=2, bias=False),
    "two convolutions": nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)),
    "convolution, max-pool 2x2": nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.MaxPool2d(2, 1)),
    "dense layer": nn.Sequential(nn.Flatten(), nn.Linear(256, 256), nn.Unflatten(1, (1, 16, 16))),
}
for name, layer in layers.items():
    with torch.no_grad():
        inner = (..., slice(3, 12), slice(4, 12))  # away from what a shift brings in
        first, second = layer(shift(images))[inner], shift(layer(images))[inner]
    change = (first - second).abs().max() / first.abs().max()
    print(f"{name:26} shift before or after: largest difference {change:.1e}")
