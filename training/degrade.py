"""Degradations: from a clean picture to the damaged one that a network learns to restore, at random but repeatably.

Each is a frozen dataclass, called with a picture, (H, W) grey or (H, W, 3), uint8, and a generator; it gives a picture
of the same shape, uint8 or float32, on the scale of 0..255. A margin of `margin` pixels on all sides of the result is
no good, so crops are cut larger by that much. Shares are probabilities, pairs of numbers are ranges. `clean` is the
share of pictures that stay as they are, so that a network learns not to harm them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from irestore.degrade import add_noise, to_bytes
from training import kernels
from training.blur import Blur
from training.pixels import Damage, Damaged, Pixels, Range, camera_noise, compress, integer, log_uniform
from training.rain import Rain


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
        shot = log_uniform(self.shot, random)
        read = np.exp(2.18 * np.log(shot) + 1.2 + random.normal(0, 0.26))
        coarse = kernels.disc(0.6, 1) if random.random() < self.coarse else None
        noisy = camera_noise(image, shot, float(read), random, coarse)
        return compress(noisy, integer(self.quality, random)) if random.random() < self.compressed else noisy


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
        result[top:, left:] = compress(image[top:, left:], integer(self.quality, random), chroma)
        return result


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """One of the others, each as often as its share says; or (share `several`) blur, noise and JPEG in turn.

    parts: a table of each one's parameters, and its `share`. In turn, each of the three is left out every second time,
    and a share `shuffled` is in another order than a camera's.
    """

    parts: Mapping[str, Mapping[str, Any]]
    several: float = 0.2
    shuffled: float = 0.0
    clean: float = 0.05

    @cached_property
    def damages(self) -> dict[str, Damage]:
        """The degradations by name."""
        return {name: build({"name": name} | _without_share(part)) for name, part in self.parts.items()}

    @property
    def margin(self) -> int:
        """The largest one: what those in turn spoil beyond it is faint."""
        return max(damage.margin for damage in self.damages.values())

    def __call__(self, image: Pixels, random: np.random.Generator) -> Damaged:
        """The damaged picture."""
        kind = random.random()
        if kind < self.clean:
            return image
        if kind < self.clean + self.several:
            damaged: Damaged = image
            for name in random.permutation(IN_TURN) if random.random() < self.shuffled else IN_TURN:
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
