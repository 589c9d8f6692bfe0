"""The damage that small phones do, for what is measured and for what is shown."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from irestore import degrade, images
from irestore.evaluate import as_saved
from training.degrade import Blur, Jpeg, Noise


def as_by_a_phone(picture: images.Picture, name: str) -> images.Picture:
    """The picture slightly blurred, noisy and compressed; the same for the same name."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    pixels = np.pad(as_saved(picture), ((16, 16), (16, 16), (0, 0)), mode="reflect")
    for damage in (
        Blur(motion=0, radius=(1, 1), linear=0, sigma=(0, 0), compressed=0, clean=0),
        Noise(sigma=(5, 5), rounded=1, camera=0, clean=0),
    ):
        pixels = degrade.to_bytes(damage(pixels, random))
    pixels = Jpeg(quality=(60, 60), double=0, shifted=0, full_chroma=0, clean=0)(pixels[16:-16, 16:-16], random)
    return picture_of(pixels)


def picture_of(pixels: NDArray[np.uint8]) -> images.Picture:
    """The picture of pixels (H, W, 3)."""
    return images.Picture(pixels.astype(np.float32) / np.float32(255), None, grey=False, depth=8, format="png")
