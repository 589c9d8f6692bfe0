"""Training pictures: folders decoded once into memory, and what is held out of them for validation."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from irestore.degrade import cut_to_multiple, shrink, to_bytes
from training.crops import Pair, damaged_inside
from training.pixels import Damage, Pixels

LOSSY = {".jpg", ".jpeg", ".webp", ".avif"}
LARGEST = 1600  # pixels a side; larger pictures are halved
LARGE_ENOUGH = 600  # pixels a side; such pictures are used at half size too, where `halves` asks for it


class Cache:
    """Decoded pictures in a folder, mapped into memory: runs beside each other share them. None: nothing is kept."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def get(self, key: str, make: Callable[[], Pixels]) -> Pixels:
        """What was made for that key before, else what `make` gives."""
        if self.folder is None:
            return make()
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}.tmp")
            with unfinished.open("wb") as file:
                np.save(file, make())
            unfinished.replace(path)
        pixels: Pixels = np.load(path, mmap_mode="r")
        return pixels


def read_folder(folder: Path, skip: tuple[str, ...] = (), cache: Cache | None = None) -> Iterator[tuple[str, Pixels]]:
    """Every picture below the folder with its cache key, RGB, sorted by name, but those whose path below the folder
    begins with one of `skip`.

    Sources with compression artefacts are halved, and all are halved until no side exceeds LARGEST, so that what is
    learnt is the picture and not its compression. Raises ValueError where the folder has none.
    """
    for path in _pictures(folder):
        if path.relative_to(folder).as_posix().startswith(skip):
            continue
        status = path.stat()
        key = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
        yield key, (cache or Cache()).get(key, partial(read_clean, path))


def read_clean(path: Path) -> Pixels:
    """A picture without traces of compression, no side above LARGEST."""
    pixels = read(path)
    halve = path.suffix.lower() in LOSSY
    while halve or max(pixels.shape[:2]) > LARGEST:
        pixels, halve = shrink(pixels, 2), False
    return pixels


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


def load(
    folder: Path, config: dict[str, Any], scale: int, damage: Damage | None, cache: Cache | None = None
) -> tuple[list[Pair], list[Pair]]:
    """(for training, for validation) as the config's table [data] says.

    skip: beginnings of paths that are left out. hold_out: every so many-th picture is kept for validation, its middle,
    valid_size pixels of the damaged side. halves: large pictures are used at half size too. pairs: [damaged, clean]
    folders below `folder` to use besides. Where `scale` is above 1 or there is no `damage`, pictures are made `scale`
    times smaller, by bicubic; then damaged, if at all.
    """
    cache = cache or Cache()
    images = list(read_folder(folder, tuple(config.get("skip", ())), cache))
    every, size = config["hold_out"], config["valid_size"]
    kept = [each for i, each in enumerate(images) if i % every]
    if config.get("halves", False):
        large = [each for each in kept if min(each[1].shape[:2]) >= LARGE_ENOUGH]
        kept += [(f"{key} /2", cache.get(f"{key} /2", partial(shrink, pixels, 2))) for key, pixels in large]
    if damage and scale == 1:
        train = [Pair(pixels, None) for _, pixels in kept]
    else:
        small = [cache.get(f"{key} /{scale}", partial(shrink, pixels, scale)) for key, pixels in kept]
        train = [Pair(cut_to_multiple(pixels, scale), each) for (_, pixels), each in zip(kept, small, strict=True)]
    whole = (size + 2 * (damage.margin if damage else 0)) * scale
    held = [
        _held(centre(pixels, whole), scale, damage) for _, pixels in images[::every] if min(pixels.shape[:2]) >= whole
    ]
    for damaged, clean in config.get("pairs", ()):
        pairs = read_pairs(folder / clean, folder / damaged)
        train += [pair for i, pair in enumerate(pairs) if i % every]
        held += [_middle(pair, size) for pair in pairs[::every] if min(pair.clean.shape[:2]) >= size]
    return train, held


def centre(image: Pixels, size: int) -> Pixels:
    """The middle of a picture, size x size."""
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def _held(image: Pixels, scale: int, damage: Damage | None) -> Pair:
    """A pair that is the same in every run: the damage is drawn by the picture."""
    clean = cut_to_multiple(image, scale)
    small = shrink(clean, scale)
    if damage is None:
        return Pair(clean, small)
    damaged, clean = damaged_inside(small, clean, damage, np.random.default_rng(int(image.sum())))
    return Pair(clean, to_bytes(damaged))


def _middle(pair: Pair, size: int) -> Pair:
    assert pair.damaged is not None
    return Pair(centre(pair.clean, size), centre(pair.damaged, size))
