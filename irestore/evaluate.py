"""How good a network is: damaged pictures, restored and compared with the clean ones as the papers on each task do.

All is compared in 8 bits, on RGB or on Y (unrounded; see `irestore.tasks`), for sr without a border of `scale` pixels.
A grey picture is its own Y (MATLAB's convention, with which bicubic has 28.42 and 26.00 dB on Set5 and Set14 x4; papers
that read it as colour get up to 1.3 dB more for it).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from irestore import degrade, images, metrics
from irestore.errors import UsageError
from irestore.images import Metadata, Picture, SaveOptions
from irestore.images.picture import JpegTables
from irestore.pairing import pairs, pictures
from irestore.tasks import TASKS

if TYPE_CHECKING:
    from irestore.batch.restorer import Restorer

Bytes = NDArray[np.uint8]
Couple = tuple[Path, Path | None]  # a clean picture and its damaged one; None: to be made
SMALLEST = 11  # pixels inside the border, for SSIM


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is tried: a task, and the damage that is done to clean pictures where damaged ones are not at hand.

    sigma: Gaussian noise in 8-bit levels, neither rounded nor clipped, as papers add it; the same for the same file
    name. quality: JPEG, 1..100, colour with 4:2:0 as common encoders do. grey: colour pictures are turned into their Y
    before anything else.
    """

    task: str
    scale: int = 1
    sigma: float | None = None
    quality: int | None = None
    grey: bool = False

    @property
    def border(self) -> int:
        """Pixels on each side that are not compared."""
        return self.scale if TASKS[self.task].enlarges else 0

    @property
    def baseline(self) -> str:
        """What the restored picture is compared with."""
        return "bicubic" if TASKS[self.task].enlarges else "input"

    @property
    def compares(self) -> str:
        """What is compared, for people."""
        channels = "Y of BT.601" if TASKS[self.task].on_luma else "RGB"
        return f"{channels}, border of {self.border} pixels left out" if self.border else channels


class Score(NamedTuple):
    """PSNR in dB (infinite for equal pictures) and SSIM."""

    psnr: float
    ssim: float


class Case(NamedTuple):
    """One picture before it is restored: what the network gets, and what it should give."""

    name: str
    damaged: Picture
    clean: Bytes  # (H, W, 3)


class Row(NamedTuple):
    """One picture's figures: of the baseline and of the restored picture."""

    name: str
    baseline: Score
    restored: Score


def couples(trial: Trial, clean: Path, damaged: Path | None) -> list[Couple]:
    """The clean pictures of a folder, in natural order, each with its damaged one. Reads no picture.

    Raises UsageError for pictures without a partner, and where no damage is known.
    """
    if damaged is None:
        _check_damage(trial)
        return [(path, None) for path in pictures(clean)]
    if trial.sigma is not None or trial.quality is not None:
        raise UsageError("--lr has the damaged pictures, so nothing is done to them: leave out --sigma and --quality")
    return list(pairs(clean, damaged))


def read(trial: Trial, clean_path: Path, damaged_path: Path | None) -> Case:
    """The case of one couple; the damage is done here where there is no file with it. Raises ReadError, UsageError."""
    clean = _flat(trial, images.load(clean_path))
    name = clean_path.stem
    if damaged_path is None:
        clean = _with(clean, degrade.cut_to_multiple(clean.pixels, trial.scale))
        return Case(name, _damaged(trial, clean, clean_path.name), as_saved(clean))
    damaged = _flat(trial, images.load(damaged_path))
    height, width = damaged.height * trial.scale, damaged.width * trial.scale
    if not (0 <= clean.height - height < trial.scale and 0 <= clean.width - width < trial.scale):
        raise UsageError(
            f"{damaged_path}: {damaged.width}x{damaged.height} is not 1/{trial.scale} of "
            f"{clean.width}x{clean.height}, the size of {clean_path}"
        )
    if damaged.grey != clean.grey:  # a JPEG of a grey picture may be stored in colour: then both are colour
        clean, damaged = replace(clean, grey=False), replace(damaged, grey=False)
    return Case(name, damaged, as_saved(clean)[:height, :width])


def measure_all(trial: Trial, found: Iterable[Couple], restorer: Restorer) -> Iterator[Row]:
    """The figures of each picture as they come, and last their mean. Raises as `read` and `measure`."""
    rows = []
    for couple in found:
        rows.append(measure(trial, read(trial, *couple), restorer))
        yield rows[-1]
    yield mean(rows)


def measure(trial: Trial, case: Case, restorer: Restorer) -> Row:
    """The picture restored, and both figures. Raises RestoreError; UsageError for a picture too small to measure."""
    restored = as_saved(restorer([case.damaged])[0])
    return Row(case.name, score(trial, case, baseline(trial, case.damaged)), score(trial, case, restored))


def mean(rows: Iterable[Row]) -> Row:
    """The averages over all pictures, as papers state them."""
    baseline, restored = np.mean([(row.baseline, row.restored) for row in rows], axis=0)
    return Row("mean", Score(*map(float, baseline)), Score(*map(float, restored)))


def baseline(trial: Trial, damaged: Picture) -> Bytes:
    """What needs no network: the damaged picture, enlarged by MATLAB's bicubic where the task is to enlarge."""
    pixels = as_saved(damaged)
    return degrade.enlarge(pixels, trial.scale) if TASKS[trial.task].enlarges else pixels


def score(trial: Trial, case: Case, result: Bytes) -> Score:
    """A result (H, W, 3) against the clean picture. Raises UsageError as `measure`."""
    if min(case.clean.shape[:2]) < SMALLEST + 2 * trial.border:
        raise UsageError(f"{case.name}: too small to measure; SSIM needs {SMALLEST} pixels inside the border")

    def compared(pixels: Bytes) -> NDArray[np.generic]:
        if case.damaged.grey:
            return pixels[..., 0]
        return metrics.luma(pixels) if TASKS[trial.task].on_luma else pixels

    both = compared(result), compared(case.clean)
    return Score(metrics.psnr(*both, border=trial.border), metrics.ssim(*both, border=trial.border))


def as_saved(picture: Picture) -> Bytes:
    """(H, W, 3) in 0..255 as a file of 8 bits holds it: clipped, rounded to nearest, grey the mean of its channels."""
    pixels = picture.pixels
    if picture.grey:
        pixels = np.broadcast_to(pixels.mean(axis=2, dtype=np.float64, keepdims=True), pixels.shape)
    return degrade.to_bytes(pixels * 255)


def _check_damage(trial: Trial) -> None:
    """Check that damaged pictures can be made from clean ones as the trial says. Raises UsageError."""
    task, own = trial.task, TASKS[trial.task].damage
    made = {row.damage: name for name, row in TASKS.items() if row.damage}
    for option, name in made.items():
        if name != task and getattr(trial, option) is not None:
            raise UsageError(f"--{option} is for {name}, not for {task}")
    if own is not None and getattr(trial, own) is None:
        raise UsageError(f"{task}: say how strong the damage is (--{own} N), or give damaged pictures (--lr DIR)")
    if own is None and not TASKS[task].enlarges:
        raise UsageError(f"{task}: there is no agreed way to make damaged pictures; give them (--lr DIR)")


def _flat(trial: Trial, picture: Picture) -> Picture:
    """The picture without transparency and, if so wanted, without colour."""
    if trial.grey and not picture.grey:
        luma = degrade.to_bytes(metrics.luma(picture.pixels * 255)) / 255
        return replace(_with(picture, luma[..., None].repeat(3, axis=2)), grey=True)
    return _with(picture, picture.pixels)


def _with(picture: Picture, pixels: NDArray[np.floating]) -> Picture:
    """An opaque picture of these pixels, with no memory of its file."""
    return Picture(np.array(pixels, np.float32), None, grey=picture.grey, depth=8, format="png")


def _damaged(trial: Trial, clean: Picture, name: str) -> Picture:
    if trial.sigma is not None:
        random = np.random.default_rng([0, *os.fsencode(name)])
        noise = clean.pixels[..., :1] if clean.grey else clean.pixels
        noisy = degrade.add_noise(noise, trial.sigma / 255, random)
        return _with(clean, np.broadcast_to(noisy, clean.pixels.shape))
    if trial.quality is not None:
        tables = JpegTables(quality=trial.quality, tables=(), subsampling=2)
        source = replace(clean, metadata=Metadata(jpeg=tables))
        return images.load(io.BytesIO(images.encode(source, "jpg", SaveOptions(quality=trial.quality))))
    return _with(clean, degrade.shrink(as_saved(clean), trial.scale) / np.float32(255))
