"""Training pictures: folders decoded once into memory, and what is held out of them for validation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from irestore.degrade import cut_to_multiple, shrink, to_bytes
from training.crops import Pair, damaged_inside
from training.degrade import Damage, Pixels

LOSSY = {".jpg", ".jpeg", ".webp", ".avif"}
LARGEST = 1600  # pixels a side; larger pictures are halved
LARGE_ENOUGH = 600  # pixels a side; such pictures are used at half size too, where `halves` asks for it


def read_folder(folder: Path, skip: tuple[str, ...] = ()) -> Iterator[Pixels]:
    """Every picture below the folder, RGB, sorted by name, but those whose path below it begins with one of `skip`.

    Sources with compression artefacts are halved, and all are halved until no side exceeds LARGEST, so that what is
    learnt is the picture and not its compression. Raises ValueError where the folder has none.
    """
    for path in _pictures(folder):
        if path.relative_to(folder).as_posix().startswith(skip):
            continue
        pixels = read(path)
        halve = path.suffix.lower() in LOSSY
        while halve or max(pixels.shape[:2]) > LARGEST:
            pixels, halve = shrink(pixels, 2), False
        yield pixels


def read_pairs(clean: Path, damaged: Path) -> list[Pair]:
    """The pictures of two folders, paired by name, as they are. Raises ValueError where the names differ."""
    sides = [{path.stem: path for path in _pictures(folder)} for folder in (clean, damaged)]
    if alone := sides[0].keys() ^ sides[1].keys():
        raise ValueError(f"{clean}, {damaged}: {min(alone)} is in one folder only")
    return [Pair(read(path), read(sides[1][name])) for name, path in sides[0].items()]


def read(path: Path) -> Pixels:
    """The picture as RGB, (H, W, 3)."""
    with Image.open(path) as file:
        return np.asarray(file.convert("RGB"))


def _pictures(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in LOSSY | {".png"})
    if not paths:
        raise ValueError(f"{folder}: no PNG, JPEG, WebP or AVIF picture below this folder")
    return paths


def load(folder: Path, config: dict[str, Any], scale: int, damage: Damage | None) -> tuple[list[Pair], list[Pair]]:
    """(for training, for validation) as the config's table [data] says.

    skip: beginnings of paths that are left out. hold_out: every so many-th picture is kept for validation, its middle,
    valid_size pixels of the damaged side. halves: large pictures are used at half size too. pairs: [damaged, clean]
    folders below `folder` to use besides. Without `damage` the damaged picture is `scale` times smaller, by bicubic.
    """
    images = list(read_folder(folder, tuple(config.get("skip", ()))))
    every, size = config["hold_out"], config["valid_size"]
    kept = [pixels for i, pixels in enumerate(images) if i % every]
    if config.get("halves", False):
        kept += [shrink(pixels, 2) for pixels in kept if min(pixels.shape[:2]) >= LARGE_ENOUGH]
    train = [_pair(pixels, scale, damage) for pixels in kept]
    whole = size * scale + 2 * (damage.margin if damage else 0)
    held = [_held(centre(pixels, whole), scale, damage) for pixels in images[::every] if min(pixels.shape[:2]) >= whole]
    for damaged, clean in config.get("pairs", ()):
        pairs = read_pairs(folder / clean, folder / damaged)
        train += [pair for i, pair in enumerate(pairs) if i % every]
        held += [_middle(pair, size) for pair in pairs[::every] if min(pair.clean.shape[:2]) >= size]
    return train, held


def centre(image: Pixels, size: int) -> Pixels:
    """The middle of a picture, size x size."""
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def _pair(image: Pixels, scale: int, damage: Damage | None) -> Pair:
    return Pair(image, None) if damage else Pair(cut_to_multiple(image, scale), shrink(image, scale))


def _held(image: Pixels, scale: int, damage: Damage | None) -> Pair:
    """A pair that is the same in every run: the damage is drawn by the picture."""
    if damage is None:
        return _pair(image, scale, None)
    damaged, clean = damaged_inside(image, damage, np.random.default_rng(int(image.sum())))
    return Pair(clean, to_bytes(damaged))


def _middle(pair: Pair, size: int) -> Pair:
    assert pair.damaged is not None
    return Pair(centre(pair.clean, size), centre(pair.damaged, size))
