"""Training pictures: a folder decoded once into memory, and random pairs of crops from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.degrade import Image as Pixels
from training.degrade import bicubic

LOSSY = {".jpg", ".jpeg", ".webp", ".avif"}


@dataclass(frozen=True)
class Pair:
    """A damaged picture and the clean one, `scale` times as large."""

    damaged: Pixels
    clean: Pixels


def read_folder(folder: Path, *, largest: int = 1600) -> Iterator[tuple[str, Pixels]]:
    """(relative name, RGB picture) of every picture below the folder, sorted by name.

    Sources with compression artefacts are halved, and all are halved until no side exceeds `largest`, so that what is
    learnt is the picture and not its compression. Raises ValueError where the folder has none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in LOSSY | {".png"})
    if not paths:
        raise ValueError(f"{folder}: no PNG, JPEG, WebP or AVIF picture below this folder")
    for path in paths:
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("RGB"))
        halve = path.suffix.lower() in LOSSY
        while halve or max(pixels.shape[:2]) > largest:
            pixels, halve = bicubic(pixels, 2), False
        yield path.relative_to(folder).as_posix(), pixels


class Crops:
    """Endless random batches of aligned crops, flipped and turned at random."""

    def __init__(self, pairs: list[Pair], *, scale: int, size: int, batch: int, seed: int) -> None:
        self.pairs = [pair for pair in pairs if min(pair.damaged.shape[:2]) >= size]
        if not self.pairs:
            raise ValueError(f"no picture has a damaged side of {size} pixels or more: make the crops smaller")
        self.scale, self.size, self.batch = scale, size, batch
        self.random = np.random.default_rng(seed)
        areas = np.array([np.prod(pair.damaged.shape[:2]) for pair in self.pairs], dtype=np.float64)
        self.share = np.sqrt(areas) / np.sqrt(areas).sum()  # a picture of four times the area is drawn twice as often

    def draw(self) -> tuple[Tensor, Tensor]:
        """A batch: damaged (B, 3, size, size) and clean (B, 3, size * scale, size * scale), float32 in 0..1."""
        damaged, clean = zip(*(self._crop(i) for i in self.random.choice(len(self.pairs), self.batch, p=self.share)), strict=True)
        return as_batch(damaged), as_batch(clean)

    def _crop(self, index: int) -> tuple[Pixels, Pixels]:
        pair, size, scale = self.pairs[index], self.size, self.scale
        top = int(self.random.integers(pair.damaged.shape[0] - size + 1))
        left = int(self.random.integers(pair.damaged.shape[1] - size + 1))
        turn, flip = int(self.random.integers(4)), bool(self.random.integers(2))
        crops = []
        for image, zoom in ((pair.damaged, 1), (pair.clean, scale)):
            crop = image[top * zoom : (top + size) * zoom, left * zoom : (left + size) * zoom]
            crop = np.rot90(crop, turn)
            crops.append(crop[:, ::-1] if flip else crop)
        return crops[0], crops[1]


def as_batch(images: tuple[Pixels, ...] | list[Pixels]) -> Tensor:
    """uint8 pictures of equal size (H, W, 3) -> float32 (B, 3, H, W) in 0..1."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def make_pairs(images: list[Pixels], damage: Callable[[Pixels], Pixels], scale: int) -> list[Pair]:
    """Each picture, cut to a multiple of `scale`, beside its damaged version."""
    return [Pair(damage(image), image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]) for image in images]
