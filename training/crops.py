"""Random batches of aligned crops; damaged beforehand, or now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from irestore.degrade import to_bytes
from training.pixels import Damage, Damaged, Pixels

GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Pair:
    """A clean picture and the one to restore it from, 1/scale as large; None: the clean one, damaged for every crop."""

    clean: Pixels
    damaged: Pixels | None


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How crops are drawn. `size`: side of a damaged crop in pixels. `grey`: the share of crops without colour.

    `paired`: the share of crops from pictures that came with a damaged version, where there are others too. `places`:
    of so many places in the picture, that with most detail is taken; skies and walls teach little.
    """

    scale: int
    size: int
    batch: int
    seed: int
    grey: float = 0.0
    paired: float = 0.5
    places: int = 1


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """An endless row of batches; the one of a number is always the same. Pictures too small for a crop are left out.

    Raises ValueError where none is left, or where a picture has no damaged version and no `damage` is given.
    """

    def __init__(self, pairs: list[Pair], drawing: Drawing, damage: Damage | None = None) -> None:
        self.drawing, self.damage = drawing, damage
        self.margin = damage.margin if damage else 0
        self.pairs = [pair for pair in pairs if min(pair.clean.shape[:2]) >= self._needed(pair) * drawing.scale]
        if not self.pairs:
            raise ValueError(f"no picture is large enough for crops of {drawing.size} pixels: make the crops smaller")
        if damage is None and any(pair.damaged is None for pair in self.pairs):
            raise ValueError("some pictures have no damaged version: name a degradation")
        self.share = self._shares()

    def _damaged_now(self, pair: Pair) -> bool:
        """Whether the damage is drawn for each crop: not where it came with the picture. What was shrunk is not yet."""
        return self.damage is not None and (pair.damaged is None or self.drawing.scale > 1)

    def _needed(self, pair: Pair) -> int:
        return self.drawing.size + (2 * self.margin if self._damaged_now(pair) else 0)

    def _shares(self) -> NDArray[np.float64]:
        """How often each picture is drawn: one of four times the area twice as often; the paired as is asked."""
        share = np.sqrt([float(np.prod(pair.clean.shape[:2])) for pair in self.pairs])
        paired = np.array([pair.damaged is not None for pair in self.pairs])
        if paired.any() and not paired.all():
            share[paired] *= self.drawing.paired / share[paired].sum()
            share[~paired] *= (1 - self.drawing.paired) / share[~paired].sum()
        weights: NDArray[np.float64] = share / share.sum()
        return weights

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Batch `number`: damaged (B, 3, size, size) and clean (B, 3, size * scale, size * scale), float32 in 0..1."""
        random = np.random.default_rng([self.drawing.seed, number])
        chosen = random.choice(len(self.pairs), self.drawing.batch, p=self.share)
        damaged, clean = zip(*(self._crop(self.pairs[i], random) for i in chosen), strict=True)
        return as_batch(damaged), as_batch(clean)

    def _crop(self, pair: Pair, random: np.random.Generator) -> tuple[Damaged, Pixels]:
        scale, size = self.drawing.scale, self._needed(pair)
        free = [side // scale - size + 1 for side in pair.clean.shape[:2]]
        places = random.integers(free, size=(self.drawing.places, 2)).tolist()
        top, left = max(places, key=lambda at: detail(_square(pair.clean, at, size, scale)))
        turn, flip = int(random.integers(4)), bool(random.integers(2))
        grey = random.random() < self.drawing.grey
        crops = []
        for image, zoom in ((pair.clean, scale), (pair.damaged, 1)):
            if image is not None:
                crop = np.rot90(_square(image, (top, left), size, zoom), turn)
                crop = crop[:, ::-1] if flip else crop
                crops.append(to_grey(crop) if grey else crop)
        if not self._damaged_now(pair):
            return crops[-1], crops[0]
        assert self.damage is not None
        return damaged_inside(crops[-1], crops[0], self.damage, random)


def _square(image: Pixels, at: Sequence[int], size: int, zoom: int) -> Pixels:
    """A square of an image that is `zoom` times as large as the one that place and size are pixels of."""
    top, left = at
    return image[top * zoom : (top + size) * zoom, left * zoom : (left + size) * zoom]


def detail(image: Pixels) -> float:
    """The mean difference of neighbours in green, in 8-bit levels."""
    green = image[..., 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def damaged_inside(image: Pixels, clean: Pixels, damage: Damage, random: np.random.Generator) -> tuple[Damaged, Pixels]:
    """(image after the damage, clean) without the margin that it spoils; clean is a whole number of times larger."""
    cut, scale = damage.margin, len(clean) // len(image)
    damaged = damage(np.ascontiguousarray(image), random)
    inside, larger = slice(cut, -cut or None), slice(cut * scale, -cut * scale or None)
    return damaged[inside, inside], clean[larger, larger]


def to_grey(image: Pixels) -> Pixels:
    """(H, W, 3) -> (H, W), as JPEG weighs the colours."""
    return to_bytes(image @ GREY)


def as_batch(images: tuple[Damaged, ...] | list[Damaged] | list[Pixels] | tuple[Pixels, ...]) -> Tensor:
    """Pictures of equal size, (H, W) or (H, W, 3), 0..255 -> float32 (B, 3, H, W) in 0..1."""
    colours = [np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image for image in images]
    return torch.from_numpy(np.stack(colours)).permute(0, 3, 1, 2).float() / 255
