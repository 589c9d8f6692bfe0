"""Blur: a shaken or moving camera, or a lens out of focus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irestore.degrade import add_noise, to_bytes
from training import kernels
from training.pixels import LINEAR, Damaged, Pixels, Range, compress, from_linear, integer, log_uniform


@dataclass(frozen=True, kw_only=True)
class Blur:
    """Motion (share `motion`) or defocus (a disc of `radius`), then a little noise.

    Motion is a path of `length` pixels, short ones as often as long ones on a logarithmic scale: that of a shaken hand,
    or (share `even`) of a camera that moves evenly, and comes nearer and turns by up to `turn`, each way.
    A share `linear` is blurred in linear light, as cameras do; a share `compressed` then goes through JPEG.
    """

    motion: float = 0.7
    length: Range = (1, 24)
    even: float = 0.5
    turn: float = 0.04
    radius: Range = (0.5, 4)
    linear: float = 0.7
    sigma: Range = (0, 2)
    compressed: float = 0.1
    quality: tuple[int, int] = (80, 98)
    clean: float = 0.05

    @property
    def margin(self) -> int:
        """What the largest kernel reaches, in whole units of JPEG."""
        return int(-(-max(self.length[1] / 2 + 1, self.radius[1] + 1) // 16)) * 16

    def __call__(self, image: Pixels, random: np.random.Generator) -> Damaged:
        """The blurred picture."""
        if random.random() < self.clean:
            return image
        linear = random.random() < self.linear
        blurred = self.blurred(LINEAR[image] if linear else image.astype(np.float32), random)
        if linear:
            blurred = 255 * from_linear(blurred)
        result = to_bytes(add_noise(blurred, random.uniform(*self.sigma), random))
        return compress(result, integer(self.quality, random)) if random.random() < self.compressed else result

    def blurred(self, image: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
        """The picture, in whatever light it is, after one blur."""
        reach = self.margin - 1
        if random.random() >= self.motion:
            return kernels.convolve(image, kernels.disc(random.uniform(*self.radius), reach))
        length = log_uniform(self.length, random)
        if random.random() >= self.even:
            return kernels.convolve(image, kernels.shake(length, reach, random))
        angle = random.uniform(0, 2 * np.pi)
        zoom, turn = random.uniform(-self.turn, self.turn, 2)
        return kernels.sweep(image, (length * np.sin(angle), length * np.cos(angle)), zoom, turn)
