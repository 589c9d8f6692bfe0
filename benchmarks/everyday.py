"""The bundled models on pictures as people have them: python -m benchmarks.everyday docs/quality

Makes files from scikit-image's free pictures, restores each with one command, and writes a contact sheet of before and
after for each (`everyday-NAME.png`). Nothing is measured: these are to be looked at.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from irestore import degrade
from irestore.cli import main as irestore
from training.blur import Blur
from training.pixels import LINEAR, Pixels, camera_noise, from_linear
from training.rain import Rain


def page(random: np.random.Generator) -> Pixels:
    """A printed page in lamp light, photographed a little out of focus."""
    blurred = Blur(motion=0, radius=(1.0, 1.0), compressed=0, clean=0)(np.repeat(data.page()[..., None], 3, 2), random)
    lamp = np.array([0.9, 0.75, 0.5]) * np.linspace(1, 0.5, blurred.shape[1])[:, None]
    return camera_noise(degrade.to_bytes(255 * from_linear(LINEAR[blurred] * lamp)), 3e-3, 3e-5, random)


def night(random: np.random.Generator) -> Pixels:
    """A snapshot at night: a tenth of the light, made brighter again by the camera."""
    dark = degrade.to_bytes(255 * from_linear(LINEAR[data.coffee()] / 2))
    return camera_noise(dark, 1e-2, 4e-4, random)


def old(random: np.random.Generator) -> Pixels:
    """A small picture of the early web."""
    return degrade.shrink(data.astronaut(), 3)


def shaken(random: np.random.Generator) -> Pixels:
    """By a hand that was not still."""
    return degrade.to_bytes(Blur(motion=1, even=0, length=(9, 9), compressed=0, clean=0)(data.chelsea(), random))


def rain(random: np.random.Generator) -> Pixels:
    """Through a shower."""
    return degrade.to_bytes(Rain(layers=(2, 2), density=(4e-3, 4e-3), strength=(0.4, 0.6), clean=0)(data.cat(), random))


def saved_again(random: np.random.Generator) -> Pixels:
    """To be compressed strongly."""
    return data.coffee()


# name -> the picture, the quality of its JPEG file, what is typed
CASES: dict[str, tuple[Callable[[np.random.Generator], Pixels], int, list[str]]] = {
    "page": (page, 75, ["restore"]),
    "night": (night, 85, ["denoise"]),
    "old": (old, 50, ["sr", "-x4"]),
    "shaken": (shaken, 90, ["deblur"]),
    "rain": (rain, 92, ["derain"]),
    "saved-again": (saved_again, 12, ["dejpeg"]),
}


def main(arguments: list[str] | None = None) -> None:
    """Writes the sheets. Raises SystemExit where a command fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the sheets go")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, quality, command) in CASES.items():
            before, after = Path(folder, f"{name}.jpg"), Path(folder, f"{name}-restored.png")
            Image.fromarray(make(np.random.default_rng(1))).save(before, quality=quality)
            sheet = options.folder / f"everyday-{name}.png"
            model = [] if command[0] == "sr" else ["-m", "fast"]
            for each in (
                [*command, *model, "--offline", "-q", str(before), "-o", str(after)],
                ["compare", str(before), str(after), "--sheet", str(sheet), "--overwrite"],
            ):
                if code := irestore(each):
                    raise SystemExit(code)


if __name__ == "__main__":
    main()
