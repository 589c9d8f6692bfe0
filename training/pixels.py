"""What degradations are made of: their types, JPEG, the light behind sRGB, and numbers drawn at random."""

from __future__ import annotations

import io
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from irestore.degrade import to_bytes
from training import kernels

Pixels = NDArray[np.uint8]
Damaged = NDArray[np.uint8] | NDArray[np.float32]
Range = tuple[float, float]


class Damage(Protocol):
    """What a degradation looks like."""

    @property
    def margin(self) -> int:
        """Pixels along the sides of a result that are no good."""

    def __call__(self, image: Pixels, random: np.random.Generator) -> Damaged:
        """The damaged picture."""


def compress(image: Pixels, quality: int, chroma: int = 2) -> Pixels:
    """The picture after JPEG at that quality, 1..100; `chroma` 0 is full, 2 halved in both directions."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality, **({"subsampling": chroma} if image.ndim == 3 else {}))
    with Image.open(stream) as file:
        return np.asarray(file)


def camera_noise(
    image: Pixels, shot: float, read: float, random: np.random.Generator, coarse: kernels.Kernel | None = None
) -> Pixels:
    """The picture with noise of variance shot * light + read in linear light; `coarse` smears it, at equal variance."""
    light = LINEAR[image]
    noise = random.standard_normal(image.shape, np.float32)
    if coarse is not None:
        noise = kernels.convolve(noise, coarse / np.sqrt(np.square(coarse).sum()))
    return to_bytes(255 * from_linear(light + np.sqrt(shot * light + read).astype(np.float32) * noise))


def to_linear(values: NDArray[Any]) -> NDArray[np.float32]:
    """sRGB in 0..1 -> light in 0..1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)


def from_linear(light: NDArray[Any]) -> NDArray[np.float32]:
    """Light -> sRGB in 0..1; clipped."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)


LINEAR = to_linear(np.arange(256) / 255)


def integer(bounds: tuple[int, int], random: np.random.Generator) -> int:
    """Both bounds included."""
    return int(random.integers(bounds[0], bounds[1] + 1))


def log_uniform(bounds: Range, random: np.random.Generator) -> float:
    """Each doubling is as likely as any other."""
    return float(np.exp(random.uniform(*np.log(bounds))))
