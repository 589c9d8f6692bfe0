"""Degradations: from a clean picture to the damaged one that a network learns to restore. uint8 in, uint8 out."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def bicubic(image: Image, factor: int) -> Image:
    """The picture `factor` times smaller, equal to MATLAB's imresize(uint8, 1/factor, 'bicubic') bit for bit.

    Sides are first cut to multiples of `factor`. Anti-aliased (the kernel widens by `factor`), symmetric at the edges,
    rows first, rounded to 8 bits after each direction.
    """
    height, width = (side - side % factor for side in image.shape[:2])
    small = _shrink(image[:height, :width], factor)
    return _shrink(small.swapaxes(0, 1), factor).swapaxes(0, 1)


def _shrink(image: Image, factor: int) -> Image:
    """Rows only, rounded half up to 8 bits."""
    taps, weights = _taps(image.shape[0], factor)
    total = np.zeros((len(taps), *image.shape[1:]))
    for tap, weight in zip(taps.T, weights.T, strict=True):
        total += weight.reshape(-1, *[1] * (image.ndim - 1)) * image[tap]
    return np.clip(np.floor(total + 0.5), 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=64)
def _taps(size: int, factor: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """For each output row the input rows and their weights, both (size / factor, 4 * factor + 2)."""
    centre = (np.arange(size // factor) + 0.5) * factor - 0.5
    taps = np.floor(centre - 2 * factor).astype(int)[:, None] + np.arange(4 * factor + 2)
    weights = _keys(np.abs(centre[:, None] - taps) / factor)
    mirror = np.concatenate([np.arange(size), np.arange(size)[::-1]])
    return mirror[taps % (2 * size)], weights / weights.sum(1, keepdims=True)


def _keys(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic kernel with a = -1/2 at distances x >= 0."""
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
