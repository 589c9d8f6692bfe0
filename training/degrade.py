"""Degradations: from a clean picture to the damaged one that a network learns to restore, at random but repeatably.

Each is a frozen dataclass, called with a picture, (H, W) grey or (H, W, 3), uint8, and a generator; it gives a picture
of the same shape, uint8 or float32, on the scale of 0..255. A margin of `margin` pixels on all sides of the result is
no good, so crops are cut larger by that much. Shares are probabilities, pairs of numbers are ranges. `clean` is the
share of pictures that stay as they are, so that a network learns not to harm them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from irestore.degrade import add_noise, to_bytes
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


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Gaussian noise of one strength, as it is or as an 8-bit file holds it; or (share `camera`) that of a camera.

    A camera's noise has, in linear light, the variance shot * light + read; the read noise grows with the shot noise as
    in real cameras (Brooks et al., arXiv 1811.11127). A share of `coarse` is smeared over its neighbours, as by
    demosaicing, and a share of `compressed` then goes through JPEG.
    """

    sigma: Range = (0, 50)
    rounded: float = 0.5
    camera: float = 0.25
    shot: Range = (1e-4, 1.2e-2)
    coarse: float = 0.5
    compressed: float = 0.7
    quality: tuple[int, int] = (60, 98)
    clean: float = 0.05
    margin: ClassVar[int] = 16

    def __call__(self, image: Pixels, random: np.random.Generator) -> Damaged:
        """The noisy picture; uint8 but for Gaussian noise that is not rounded."""
        kind = random.random()
        if kind < self.clean:
            return image
        if kind < self.clean + self.camera:
            return self.as_camera(image, random)
        noisy = add_noise(image.astype(np.float32), random.uniform(*self.sigma), random)
        return to_bytes(noisy) if random.random() < self.rounded else noisy

    def as_camera(self, image: Pixels, random: np.random.Generator) -> Pixels:
        """Noise in linear light, then perhaps JPEG."""
        shot = _log_uniform(self.shot, random)
        read = np.exp(2.18 * np.log(shot) + 1.2 + random.normal(0, 0.26))
        coarse = kernels.disc(0.6, 1) if random.random() < self.coarse else None
        noisy = camera_noise(image, shot, float(read), random, coarse)
        return compress(noisy, _integer(self.quality, random)) if random.random() < self.compressed else noisy


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """JPEG, colour with and without halved chroma; a share `double` was compressed before, on another grid.

    A share `shifted` has its grid not at the picture's corner, as after a cut.
    """

    quality: tuple[int, int] = (5, 95)
    double: float = 0.2
    shifted: float = 0.3
    full_chroma: float = 0.3
    clean: float = 0.05
    margin: ClassVar[int] = 16  # one unit of JPEG with halved chroma, so that cutting it off keeps the grid

    def __call__(self, image: Pixels, random: np.random.Generator) -> Damaged:
        """The picture after compression."""
        if random.random() < self.clean:
            return image
        chroma = 0 if random.random() < self.full_chroma else 2
        if random.random() < self.double:
            image = self._once(image, random, chroma, shifted=True)
        return self._once(image, random, chroma, shifted=random.random() < self.shifted)

    def _once(self, image: Pixels, random: np.random.Generator, chroma: int, *, shifted: bool) -> Pixels:
        top, left = random.integers(0, 16, 2) if shifted else (0, 0)
        result = image.copy()
        result[top:, left:] = compress(image[top:, left:], _integer(self.quality, random), chroma)
        return result


@dataclass(frozen=True, kw_only=True)
class Blur:
    """Motion (share `motion`) or defocus (a disc of `radius`), then a little noise.

    Motion is a shaken path of `length` pixels, short ones as often as long ones on a logarithmic scale.
    A share `linear` is blurred in linear light, as cameras do; a share `compressed` then goes through JPEG.
    """

    motion: float = 0.7
    length: Range = (1, 24)
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
        reach = self.margin - 1
        if random.random() < self.motion:
            kernel = kernels.shake(_log_uniform(self.length, random), reach, random)
        else:
            kernel = kernels.disc(random.uniform(*self.radius), reach)
        if random.random() < self.linear:
            blurred = 255 * from_linear(kernels.convolve(LINEAR[image], kernel))
        else:
            blurred = kernels.convolve(image, kernel)
        result = to_bytes(add_noise(blurred, random.uniform(*self.sigma), random))
        return compress(result, _integer(self.quality, random)) if random.random() < self.compressed else result


@dataclass(frozen=True, kw_only=True)
class Rain:
    """Bright streaks in `layers` layers, each with its own direction, length, width and density, and perhaps a veil.

    angle: radians from upright. density: drops a pixel. strength: of full white. A share `screen` is brightened towards
    white, the others by addition. A share `veil` loses contrast, as by distant rain.
    """

    layers: tuple[int, int] = (1, 5)
    angle: Range = (-0.7, 0.7)
    length: Range = (8, 40)
    width: Range = (0.6, 2.5)
    density: Range = (4e-4, 1.2e-2)
    strength: Range = (0.2, 0.9)
    screen: float = 0.5
    veil: float = 0.15
    clean: float = 0.05
    margin: ClassVar[int] = 0  # streaks go round the sides

    def __call__(self, image: Pixels, random: np.random.Generator) -> Damaged:
        """The rainy picture."""
        if random.random() < self.clean:
            return image
        rain = np.zeros(image.shape[:2], np.float32)
        for _ in range(_integer(self.layers, random)):
            rain = np.maximum(rain, self.streaks(image.shape[:2], random))
        rain = rain.reshape(*rain.shape, *[1] * (image.ndim - 2))
        light = image / np.float32(255)
        if random.random() < self.veil:
            light = light + np.float32(random.uniform(0.05, 0.4)) * (np.float32(random.uniform(0.5, 0.9)) - light)
        light = light + rain * (1 - light) if random.random() < self.screen else light + rain
        return to_bytes(light * 255)

    def streaks(self, size: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float32]:
        """One layer, (H, W): 0 where it does not rain, at most `strength`."""
        drops = (random.random(size, np.float32) < _log_uniform(self.density, random)).astype(np.float32)
        drops *= random.uniform(0.3, 1, size).astype(np.float32)
        reach = min(int(self.length[1] / 2) + 2, (min(size) - 1) // 2)
        angle = np.pi / 2 + random.uniform(*self.angle)
        kernel = kernels.line(random.uniform(*self.length), angle, random.uniform(*self.width), reach)
        layer = kernels.convolve(drops, kernel / kernel.max())
        return np.clip(layer, 0, 1) * np.float32(random.uniform(*self.strength))


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """One of the others, each as often as its share says; or (share `several`) blur, noise and JPEG in turn.

    parts: a table of each one's parameters, and its `share`. In turn, each of the three is left out every second time.
    """

    parts: Mapping[str, Mapping[str, Any]]
    several: float = 0.2
    clean: float = 0.05

    @cached_property
    def damages(self) -> dict[str, Damage]:
        """The degradations by name."""
        return {name: build({"name": name} | _without_share(part)) for name, part in self.parts.items()}

    @property
    def margin(self) -> int:
        """What those in turn spoil together."""
        margins = {name: damage.margin for name, damage in self.damages.items()}
        return max(*margins.values(), sum(margins.get(name, 0) for name in IN_TURN) if self.several else 0)

    def __call__(self, image: Pixels, random: np.random.Generator) -> Damaged:
        """The damaged picture."""
        kind = random.random()
        if kind < self.clean:
            return image
        if kind < self.clean + self.several:
            damaged: Damaged = image
            for name in IN_TURN:
                if name in self.damages and random.random() < 0.5:
                    damaged = self.damages[name](to_bytes(damaged), random)
            return damaged
        shares = np.array([part.get("share", 1.0) for part in self.parts.values()])
        name = list(self.parts)[random.choice(len(shares), p=shares / shares.sum())]
        return self.damages[name](image, random)


IN_TURN = ("blur", "noise", "jpeg")  # as a camera has it


def _without_share(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != "share"}


DEGRADATIONS: dict[str, type[Noise] | type[Jpeg] | type[Blur] | type[Rain] | type[Mixture]] = {
    "noise": Noise,
    "jpeg": Jpeg,
    "blur": Blur,
    "rain": Rain,
    "mixture": Mixture,
}


def build(config: Mapping[str, Any]) -> Damage:
    """The degradation of a config's table: its `name` and parameters. Raises ValueError for an unknown one."""
    given = dict(config)
    name = given.pop("name", None)
    if name not in DEGRADATIONS:
        raise ValueError(f"degradation {name!r} is unknown: must be one of {', '.join(DEGRADATIONS)}")
    known = {field.name for field in fields(DEGRADATIONS[name])}
    if unknown := given.keys() - known:
        raise ValueError(f"degradation {name!r} has no {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return DEGRADATIONS[name](**values)


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


def _integer(bounds: tuple[int, int], random: np.random.Generator) -> int:
    """Both bounds included."""
    return int(random.integers(bounds[0], bounds[1] + 1))


def _log_uniform(bounds: Range, random: np.random.Generator) -> float:
    """Each doubling is as likely as any other."""
    return float(np.exp(random.uniform(*np.log(bounds))))
