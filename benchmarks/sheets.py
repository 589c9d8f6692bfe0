"""Sheets of crops of scikit-image's free pictures: what a model makes of each, beside the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage import data

from benchmarks.phone import as_by_a_phone, picture_of
from irestore import degrade, images, weights
from irestore.batch.restorer import Restorer
from irestore.evaluate import as_saved
from training.degrade import Blur, Damage, Jpeg, Noise, Rain

CROP = 128  # pixels a side of what the sheets show
CORNERS = {"astronaut": (48, 160), "chelsea": (48, 128), "coffee": (80, 240)}  # (top, left) of it, in scikit-image's
DAMAGES: dict[str, Damage] = {
    "denoise": Noise(sigma=(35, 35), camera=0, clean=0, rounded=1),
    "dejpeg": Jpeg(quality=(15, 15), double=0, clean=0),
    "deblur": Blur(motion=1, length=(10, 14), clean=0),
    "derain": Rain(layers=(2, 3), clean=0),
}


def write_sheet(path: Path, entry: weights.Entry, restorer: Restorer) -> None:
    """Writes the sheet of a model as a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images.save(picture_of(sheet(entry, restorer)), path)


def sheet(entry: weights.Entry, restorer: Restorer) -> NDArray[np.uint8]:
    """Crops of three pictures: a row each, before, after and truth side by side."""
    rows = []
    for number, (name, corner) in enumerate(CORNERS.items()):
        truth = degrade.cut_to_multiple(getattr(data, name)(), entry.scale)
        if entry.task == "sr":
            damaged = degrade.shrink(truth, entry.scale)
            damaged = as_saved(as_by_a_phone(picture_of(damaged), name)) if entry.sources == "lossy" else damaged
            before = degrade.enlarge(damaged, entry.scale)
        elif entry.task in DAMAGES:
            damaged = before = degrade.to_bytes(DAMAGES[entry.task](truth, np.random.default_rng(number)))
        else:
            damaged = before = as_saved(as_by_a_phone(picture_of(truth), name))
        after = as_saved(restorer([picture_of(damaged)])[0])
        rows.append(np.concatenate([_crop(image, *corner) for image in (before, after, truth)], axis=1))
    return np.concatenate(rows)


def _crop(image: NDArray[np.uint8], top: int, left: int) -> NDArray[np.uint8]:
    """A square, each pixel twice as large."""
    return image[top : top + CROP, left : left + CROP].repeat(2, axis=0).repeat(2, axis=1)
