"""Rain: streaks in layers, and the veil of those far away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from irestore.degrade import to_bytes
from training import kernels
from training.pixels import Damaged, Pixels, Range, integer, log_uniform


@dataclass(frozen=True, kw_only=True)
class Rain:
    """Bright streaks in `layers` layers, each with its own length, width and density, and perhaps a veil.

    angle: of the picture's rain, radians from upright; that of a layer differs from it by up to `spread`, each way.
    density: drops a pixel. strength: of full white. A share `sheets` of the layers is no single streaks but noise
    blurred along their direction; a share `hard` has streaks with hard edges. A share `screen` is brightened towards
    white, the others by addition. A share `veil` loses contrast, as by distant rain.
    """

    layers: tuple[int, int] = (1, 5)
    angle: Range = (-0.7, 0.7)
    spread: Range = (0.0, 0.7)  # drawn for each picture
    length: Range = (8, 40)
    width: Range = (0.6, 2.5)
    density: Range = (4e-4, 1.2e-2)
    strength: Range = (0.2, 0.9)
    sheets: float = 0.0
    hard: float = 0.0
    screen: float = 0.5
    veil: float = 0.15
    clean: float = 0.05
    margin: ClassVar[int] = 0  # streaks go round the sides

    def __call__(self, image: Pixels, random: np.random.Generator) -> Damaged:
        """The rainy picture."""
        if random.random() < self.clean:
            return image
        rain = np.zeros(image.shape[:2], np.float32)
        angle, spread = random.uniform(*self.angle), random.uniform(*self.spread)
        for _ in range(integer(self.layers, random)):
            layer = self.streaks(image.shape[:2], angle + random.uniform(-spread, spread), random)
            rain = np.maximum(rain, layer)
        rain = rain.reshape(*rain.shape, *[1] * (image.ndim - 2))
        light = image / np.float32(255)
        if random.random() < self.veil:
            light = light + np.float32(random.uniform(0.05, 0.4)) * (np.float32(random.uniform(0.5, 0.9)) - light)
        light = light + rain * (1 - light) if random.random() < self.screen else light + rain
        return to_bytes(light * 255)

    def streaks(self, size: tuple[int, ...], angle: float, random: np.random.Generator) -> NDArray[np.float32]:
        """One layer, (H, W): 0 where it does not rain, at most `strength`."""
        length = log_uniform(self.length, random)
        reach = int(length / 2) + 2
        height, width = size
        size = max(height, 2 * reach + 1), max(width, 2 * reach + 1)  # streaks may be longer than the picture
        kernel = kernels.line(length, np.pi / 2 + angle, random.uniform(*self.width), reach)
        if random.random() < self.hard:
            kernel = (kernel >= kernel.max() / 2).astype(np.float32)
        if random.random() < self.sheets:
            noise = random.standard_normal(size, np.float32)
            noise = kernels.convolve(noise, kernel / np.sqrt(np.square(kernel).sum()))
            layer = (noise - random.uniform(0, 1.5)) * random.uniform(0.3, 1)
        else:
            drops = (random.random(size, np.float32) < log_uniform(self.density, random)).astype(np.float32)
            drops *= random.uniform(0.3, 1, size).astype(np.float32)
            layer = kernels.convolve(drops, kernel / kernel.max())
        layer = layer[:height, :width]
        return np.asarray(np.clip(layer, 0, 1) * random.uniform(*self.strength), np.float32)
