"""The damage that papers measure with: MATLAB's bicubic resizing, Gaussian noise, and rounding to bytes."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Values = TypeVar("Values", bound=NDArray[Any])
Floats = TypeVar("Floats", NDArray[np.float32], NDArray[np.float64])


def shrink(image: Values, factor: int) -> Values:
    """The picture `factor` times smaller, equal to MATLAB's imresize(image, 1/factor, 'bicubic') bit for bit.

    image: (H, W) or (H, W, C), uint8, which is rounded after each direction, or floating, which is not. Sides are first
    cut to multiples of `factor`. Anti-aliased: the kernel widens by `factor`.
    """
    return _resize(cut_to_multiple(image, factor), 1, factor)


def enlarge(image: Values, factor: int) -> Values:
    """The picture `factor` times larger, equal to MATLAB's imresize(image, factor, 'bicubic'); uint8 or floating."""
    return _resize(image, factor, 1)


def cut_to_multiple(image: Values, factor: int) -> Values:
    """The picture without the rows and columns at its end that make its sides no multiples of `factor`."""
    height, width = (side - side % factor for side in image.shape[:2])
    return image[:height, :width]  # type: ignore[return-value]


def add_noise(image: Floats, sigma: float, random: np.random.Generator) -> Floats:
    """The picture plus Gaussian noise of deviation `sigma`, each value on its own; neither rounded nor clipped."""
    noise = random.standard_normal(image.shape, dtype=np.float32)
    return image + image.dtype.type(sigma) * noise


def to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Values of 0..255, rounded half up and clipped."""
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def _resize(image: Values, up: int, down: int) -> Values:
    """Rows, then columns: symmetric at the edges, in float64, brought back to the type of the image after each."""
    resized: NDArray[Any] = image
    for _ in range(2):
        taps, weights = _taps(resized.shape[0], up, down)
        total = np.zeros((len(taps), *resized.shape[1:]))
        for tap, weight in zip(taps.T, weights.T, strict=True):
            total += weight.reshape(-1, *[1] * (image.ndim - 1)) * resized[tap]
        resized = (to_bytes(total) if image.dtype == np.uint8 else total.astype(image.dtype)).swapaxes(0, 1)
    return resized  # type: ignore[return-value]


@functools.lru_cache(maxsize=64)
def _taps(size: int, up: int, down: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """For each of the size * up / down output rows the input rows and their weights, both (rows, taps)."""
    stretch = max(1, down // up)  # of the kernel, where the picture gets smaller
    centre = (np.arange(size * up // down) + 0.5) * down / up - 0.5
    taps = np.floor(centre - 2 * stretch).astype(int)[:, None] + np.arange(4 * stretch + 2)
    weights = _keys(np.abs(centre[:, None] - taps) / stretch)
    mirror = np.concatenate([np.arange(size), np.arange(size)[::-1]])
    return mirror[taps % (2 * size)], weights / weights.sum(1, keepdims=True)


def _keys(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic kernel with a = -1/2 at distances x >= 0."""
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
