"""Small made images: a bright bar, lying or standing, in one of the two halves of the classes."""

from __future__ import annotations

import numpy as np


def bars(number: int = 120, size: int = 18, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Grey uint8 images (B, size, size) of noise with a bar, and 1 where the bar stands upright."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (number, size, size), dtype=np.uint8)
    labels = rng.permutation(np.arange(number) % 3 == 0).astype(np.int64)
    for image, upright in zip(images, labels, strict=True):
        row, column = rng.integers(3, size - 4, 2)
        view = image.T if upright else image
        view[row : row + 2, 2:-2] = 220
        view[column, :2] = 120
    return images, labels
