"""PSNR and SSIM as the papers on super-resolution and restoration compute them. Pictures are 8-bit values, 0..255."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def luma(rgb: NDArray[np.generic]) -> Array:
    """Y of BT.601 in studio range, 16..235, not rounded: (H, W, 3) in 0..255 -> (H, W).

    Grey (H, W) counts as R = G = B.
    """
    values = rgb.astype(np.float64)
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    y: Array = values @ np.array([65.481, 128.553, 24.966]) / 255 + 16
    return y


def psnr(a: NDArray[np.generic], b: NDArray[np.generic], *, border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinity where both are equal.

    `border` pixels on all four sides are left out. Raises ValueError where the shapes differ.
    """
    x, y = _inside(a, b, border)
    mse = float(np.mean((x - y) ** 2))
    return float("inf") if mse == 0 else float(10 * np.log10(255**2 / mse))


def ssim(a: NDArray[np.generic], b: NDArray[np.generic], *, border: int = 0) -> float:
    """Structural similarity (Wang et al. 2004), the mean over channels: Gaussian window of 11 pixels with sigma 1.5.

    Only pixels count whose window lies inside. Raises ValueError where the shapes differ or a side (less the border) is
    below 11.
    """
    x, y = _inside(a, b, border)
    if min(x.shape[:2]) < 11:
        raise ValueError(f"SSIM needs at least 11x11 pixels inside the border, not {x.shape[0]}x{x.shape[1]}")
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = _gauss(x), _gauss(y)
    vx, vy, cov = _gauss(x * x) - mx * mx, _gauss(y * y) - my * my, _gauss(x * y) - mx * my
    return float(np.mean(((2 * mx * my + c1) * (2 * cov + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))))


def _inside(a: NDArray[np.generic], b: NDArray[np.generic], border: int) -> tuple[Array, Array]:
    """Both without the border."""
    if a.shape != b.shape:
        raise ValueError(f"pictures differ in size: {a.shape} and {b.shape}")
    inner = slice(border, -border or None)
    return a[inner, inner].astype(np.float64), b[inner, inner].astype(np.float64)


def _gauss(image: Array) -> Array:
    """The image filtered by the window of SSIM, without the pixels whose window leaves the image."""
    kernel = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    height, width = image.shape[0] - 10, image.shape[1] - 10
    rows: Array = sum(k * image[i : i + height] for i, k in enumerate(kernel))
    filtered: Array = sum(k * rows[:, i : i + width] for i, k in enumerate(kernel))
    return filtered
