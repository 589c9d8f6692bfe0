"""Blur kernels, (2 r + 1, 2 r + 1) with sum 1, convolution with them, and blur that differs from place to place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
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


def sweep(image: NDArray[Any], motion: tuple[float, float], zoom: float, turn: float) -> NDArray[np.float32]:
    """The mean of the picture (H, W) or (H, W, C) while the camera moves evenly by `motion` (down, right) pixels.

    Meanwhile it comes nearer by the share `zoom` and turns by `turn` radians about the middle, so that every place is
    blurred in its own way. Outside, the edge is repeated.
    """
    height, width = image.shape[:2]
    reach = math.hypot(*motion) + (abs(zoom) + abs(turn)) * max(height, width) / 2
    planes = torch.from_numpy(np.ascontiguousarray(image.reshape(height, width, -1), np.float32)).permute(2, 0, 1)
    times = torch.linspace(-0.5, 0.5, max(2, math.ceil(reach) + 1))[:, None, None]
    rows = [
        [zoom, -turn * height / width, 2 * motion[1] / width],
        [turn * width / height, zoom, 2 * motion[0] / height],
    ]
    places = torch.eye(2, 3) + times * torch.tensor(rows, dtype=torch.float32)
    grid = F.affine_grid(places, [len(places), *planes.shape], align_corners=False)
    seen = F.grid_sample(planes.expand(len(places), -1, -1, -1), grid, padding_mode="border", align_corners=False)
    return seen.mean(0).permute(1, 2, 0).reshape(image.shape).numpy()


def _normalised(kernel: NDArray[Any]) -> Kernel:
    return np.asarray(kernel / kernel.sum(), np.float32)
