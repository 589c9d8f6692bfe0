"""Transparency: colours where none are seen, alpha at another size, a background put behind."""

from dataclasses import replace

import numpy as np
from PIL import Image

from .picture import Picture, Plane


def resize_alpha(alpha: Plane, scale: int) -> Plane:
    """Alpha (H, W) as (H * scale, W * scale), by cubic interpolation of the whole plane, in 0..1.

    Cubic, since its one negative lobe is clipped away: Lanczos would leave a faint second outline around cut-outs.
    Constant alpha stays that constant.
    """
    height, width = alpha.shape
    if scale == 1:
        return alpha
    if (alpha == alpha[0, 0]).all():
        return np.full((height * scale, width * scale), alpha[0, 0], np.float32)
    plane = Image.fromarray(np.ascontiguousarray(alpha, np.float32))
    resized = np.asarray(plane.resize((width * scale, height * scale), Image.Resampling.BICUBIC), np.float32)
    return resized.clip(0, 1)


def fill_transparent(picture: Picture) -> Picture:
    """The picture with colours under zero alpha drawn from their nearest visible neighbours; all else untouched.

    What a painting program left there, black mostly, would bleed into the edges through any network.
    """
    if picture.alpha is None or not (hidden := picture.alpha == 0).any() or hidden.all():
        return picture
    filled = _spread(picture.pixels, picture.alpha)
    return replace(picture, pixels=np.where(hidden[..., None], filled, picture.pixels))


def _spread(pixels: Plane, weight: Plane) -> Plane:
    """Colours everywhere, from where `weight` is: averaged over ever larger squares, then read back, finest first."""
    height, width = weight.shape
    known = weight[..., None] > 0
    if known.all() or weight.size == 1:
        return pixels
    coarse_weight = _halved(weight)
    coarse = (_halved(pixels * weight[..., None]) / np.maximum(coarse_weight, 1e-12)[..., None]).astype(np.float32)
    finer = _spread(coarse, coarse_weight)
    return np.where(known, pixels, finer.repeat(2, axis=0).repeat(2, axis=1)[:height, :width])


def _halved(values: Plane) -> Plane:
    """Sums over squares of 2 x 2, those at the border padded with zeros."""
    height, width = values.shape[:2]
    padding = [(0, height % 2), (0, width % 2)] + [(0, 0)] * (values.ndim - 2)
    padded = np.pad(values, padding)
    rows = padded[0::2] + padded[1::2]
    return rows[:, 0::2] + rows[:, 1::2]


def flattened(picture: Picture, background: tuple[float, float, float]) -> Picture:
    """The picture over a background of that RGB colour, without alpha. A grey one over a colour becomes RGB."""
    if picture.alpha is None:
        return picture
    alpha = picture.alpha[..., None]
    pixels = picture.pixels * alpha + np.asarray(background, np.float32) * (1 - alpha)
    return replace(picture, pixels=pixels, alpha=None, grey=picture.grey and len(set(background)) == 1)
