"""Blur kernels, (2 r + 1, 2 r + 1) with sum 1, and convolution with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Kernel = NDArray[np.float32]


def disc(radius: float, reach: int) -> Kernel:
    """A defocused lens: a disc of `radius` pixels with a smooth edge, in a kernel that reaches `reach` pixels."""
    axis = np.arange(-reach, reach + 1)
    distance = np.hypot(axis[:, None], axis)
    return _normalised(np.clip(radius + 0.5 - distance, 0, 1))


def line(length: float, angle: float, width: float, reach: int) -> Kernel:
    """A straight stroke of `length` and `width` pixels, `angle` radians from the x axis towards smaller y."""
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = np.abs(x * np.cos(angle) - y * np.sin(angle))
    across = np.abs(x * np.sin(angle) + y * np.cos(angle))
    return _normalised(np.clip((length + 1) / 2 - along, 0, 1) * np.clip((width + 1) / 2 - across, 0, 1))


def shake(length: float, reach: int, random: np.random.Generator) -> Kernel:
    """A hand's motion during the exposure: a smooth random path of `length` pixels, centred; clipped at `reach`."""
    steps = max(2, int(4 * length))  # four points a pixel
    turns = np.cumsum(random.normal(0, 1.5 / steps**0.5) + random.normal(0, 0.8 / steps**0.5, steps))
    heading = random.uniform(0, 2 * np.pi) + turns
    path = np.cumsum(np.stack([np.sin(heading), np.cos(heading)]), axis=1) * (length / steps)
    path = np.clip(path - path.mean(axis=1, keepdims=True), -reach, reach) + reach
    low = np.minimum(path.astype(int), 2 * reach - 1)
    y, x = path - low
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for down, right, weight in ((0, 0, (1 - y) * (1 - x)), (0, 1, (1 - y) * x), (1, 0, y * (1 - x)), (1, 1, y * x)):
        np.add.at(kernel, (low[0] + down, low[1] + right), weight)
    return _normalised(kernel)


def convolve(image: NDArray[Any], kernel: Kernel) -> NDArray[np.float32]:
    """The picture (H, W) or (H, W, C) filtered; its sides are joined, so that `reach` pixels along them are no good."""
    reach, size = len(kernel) // 2, image.shape[:2]
    if reach == 1:  # faster without a transform
        shifts = ((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))
        parts = (kernel[y + 1, x + 1] * np.roll(image, (y, x), (0, 1)) for y, x in shifts)
        return np.asarray(sum(parts), np.float32)
    padded = np.zeros(size, np.float32)
    padded[: len(kernel), : len(kernel)] = kernel
    spectrum = np.fft.rfft2(np.roll(padded, (-reach, -reach), axis=(0, 1)))
    spectrum = spectrum.reshape(*spectrum.shape, *[1] * (image.ndim - 2))
    filtered = np.fft.irfft2(np.fft.rfft2(image, axes=(0, 1)) * spectrum, size, axes=(0, 1))
    return np.asarray(filtered, np.float32)


def _normalised(kernel: NDArray[Any]) -> Kernel:
    return np.asarray(kernel / kernel.sum(), np.float32)
