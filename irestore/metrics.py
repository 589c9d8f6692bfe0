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


def crop(image: Array, border: int) -> Array:
    """The image without `border` pixels on all four sides, as papers do with border = scale."""
    return image[border : image.shape[0] - border, border : image.shape[1] - border] if border else image


def psnr(a: NDArray[np.generic], b: NDArray[np.generic], *, border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinity where both are equal.

    Raises ValueError where the shapes differ.
    """
    _same_shape(a, b)
    error = crop(a.astype(np.float64), border) - crop(b.astype(np.float64), border)
    mse = float(np.mean(error**2))
    return float("inf") if mse == 0 else float(10 * np.log10(255**2 / mse))


def ssim(a: NDArray[np.generic], b: NDArray[np.generic], *, border: int = 0) -> float:
    """Structural similarity (Wang et al. 2004), the mean over channels: Gaussian window of 11 pixels with sigma 1.5.

    Only pixels count whose window lies inside. Raises ValueError where the shapes differ or a side (less the border) is
    below 11.
    """
    _same_shape(a, b)
    x, y = (crop(v.astype(np.float64), border) for v in (a, b))
    if min(x.shape[:2]) < 11:
        raise ValueError(f"SSIM needs at least 11x11 pixels inside the border, not {x.shape[0]}x{x.shape[1]}")
    if x.ndim == 3:
        return float(np.mean([_ssim_plane(x[..., c], y[..., c]) for c in range(x.shape[2])]))
    return _ssim_plane(x, y)


def _ssim_plane(x: Array, y: Array) -> float:
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = _gauss(x), _gauss(y)
    vx, vy, cov = _gauss(x * x) - mx * mx, _gauss(y * y) - my * my, _gauss(x * y) - mx * my
    score = ((2 * mx * my + c1) * (2 * cov + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(np.mean(score))


def _gauss(plane: Array) -> Array:
    """The plane filtered by the window of SSIM, without the pixels whose window leaves the plane."""
    kernel = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    rows = np.lib.stride_tricks.sliding_window_view(plane, 11, axis=0) @ kernel
    out: Array = np.lib.stride_tricks.sliding_window_view(rows, 11, axis=1) @ kernel
    return out


def _same_shape(a: NDArray[np.generic], b: NDArray[np.generic]) -> None:
    if a.shape != b.shape:
        raise ValueError(f"pictures differ in size: {a.shape} and {b.shape}")
