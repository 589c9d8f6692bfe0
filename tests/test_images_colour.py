"""Colours look after as they looked before: profiles travel, other colour spaces are converted through theirs."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from icc_profiles import ADOBE_RGB, green_cmyk, linear_grey, wide_rgb
from image_samples import picture
from PIL import Image
from skimage.color import deltaE_ciede2000, xyz2lab

from irestore.errors import UsageError
from irestore.images import Metadata, Picture, SaveOptions, encode, load, save
from irestore.images.colour import parse_colour

PATCHES = np.array(
    [
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [255, 255, 0],
        [20, 200, 120],
        [128, 128, 128],
        [250, 240, 200],
        [9, 30, 60],
    ]
)


def patches(**fields: object) -> Picture:
    """Eight flat squares of 16 x 16 pixels."""
    pixels = np.kron(PATCHES.reshape(2, 4, 3), np.ones((16, 16, 1))) / 255
    return Picture(
        **{"alpha": None, "grey": False, "depth": 8, "format": "png", "pixels": pixels.astype(np.float32)} | fields
    )


def lab(content: bytes) -> np.ndarray:
    """How a colour-managed viewer sees the middle of each square: the profile's gamma and matrix, then CIELAB."""
    found = load(io.BytesIO(content))
    assert found.metadata.icc == wide_rgb()
    light = found.pixels[8::16, 8::16].astype(np.float64) ** 2.2
    return xyz2lab(light @ np.array(ADOBE_RGB), illuminant="D50")


@pytest.mark.parametrize("name", ["png", "jpg", "webp", "tiff", "avif"])
@pytest.mark.parametrize("source", ["png", "jpg", "tiff"])
def test_wide_gamut_looks_the_same(source: str, name: str) -> None:
    """Delta E (CIEDE2000) on flat patches, across every pair of formats: 0 where nothing is lost, else under 1.

    One step of 255 in a dark patch is a delta E of 1 by itself, so for lossy formats it is the mean that counts.
    """
    wide = patches(metadata=Metadata(icc=wide_rgb()))
    before = encode(wide, source, SaveOptions(quality=100))
    after = encode(load(io.BytesIO(before)), name, SaveOptions(quality=100, lossless=True if name == "webp" else None))
    off = deltaE_ciede2000(lab(before), lab(after))
    assert off.max() < 0.01 if name in ("png", "tiff", "webp") else off.mean() < 1


def test_formats_without_profiles_get_srgb() -> None:
    """A GIF cannot say that its red is Adobe's red, so its numbers are changed instead."""
    content = encode(patches(metadata=Metadata(icc=wide_rgb())), "gif")
    red, grey = load(io.BytesIO(content)).pixels[8, 8], load(io.BytesIO(content)).pixels[24, 24]
    assert red[0] == 1
    assert np.abs(grey - 128 / 255).max() < 0.02
    assert load(io.BytesIO(content)).pixels[24, 8, 0] < 4 / 255, "this green has less than no red in sRGB"


@pytest.mark.parametrize("name", ["png", "jpg", "tiff", "avif", "webp", "gif"])
def test_grey_profile_is_kept_or_applied(name: str) -> None:
    """Half the light is 128 under a linear profile and 188 in sRGB."""
    grey = picture(16, 16, grey=True, pixels=np.full((16, 16, 3), 128 / 255, np.float32))
    tagged = Picture(**{**vars(grey), "metadata": Metadata(icc=linear_grey())})
    found = load(io.BytesIO(encode(tagged, name)))
    if name in ("webp", "gif"):
        assert found.metadata.icc is None
        assert np.abs(found.pixels * 255 - 188).max() < 3
    else:
        assert found.metadata.icc == linear_grey()
        assert np.abs(found.pixels * 255 - 128).max() < 3
        assert found.grey


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("name", ["png", "tiff", "jpg", "webp", "avif"])
def test_a_grey_picture_with_a_profile_for_rgb_is_written_as_rgb(name: str, depth: int) -> None:
    """PNG forbids the one with the other, and no reader could use it."""
    grey = picture(16, 16, grey=True, depth=depth, metadata=Metadata(icc=wide_rgb()))
    grey = dataclasses.replace(grey, pixels=np.full((16, 16, 3), 128 / 255, np.float32))
    content = encode(grey, name, SaveOptions(quality=100))
    found = load(io.BytesIO(content))
    assert (found.grey, found.metadata.icc) == (False, wide_rgb())
    assert np.abs(found.pixels * 255 - 128).max() < 3
    if name == "png":
        assert content[24:26] == bytes([depth, 2])  # bits, colour type


@pytest.mark.parametrize("name", ["gif", "bmp", "ppm"])
def test_a_profile_for_rgb_is_applied_to_grey(tmp_path: Path, name: str) -> None:
    grey = picture(16, 16, grey=True, pixels=np.full((16, 16, 3), 60 / 255, np.float32))
    notes = save(dataclasses.replace(grey, metadata=Metadata(icc=wide_rgb())), tmp_path / f"a.{name}")
    assert notes == ("its RGB colours were converted to sRGB",)
    assert np.abs(load(tmp_path / f"a.{name}").pixels * 255 - 57).max() < 2  # 2.2 against sRGB's curve


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile(kind: str) -> None:
    stream = io.BytesIO()
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(stream, kind, icc_profile=green_cmyk())
    found = load(io.BytesIO(stream.getvalue()))
    red, green, blue = found.pixels[8, 8]
    assert green > red + 0.2
    assert green > blue + 0.2, "cyan by the plain formula has as much blue as green"
    assert found.metadata.icc is None
    assert found.notes == ("its CMYK colours were converted to sRGB",)


def test_cmyk_without_a_profile_is_named() -> None:
    stream = io.BytesIO()
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(stream, "TIFF")
    found = load(io.BytesIO(stream.getvalue()))
    assert found.pixels[8, 8].tolist() == [0, 1, 1]
    assert found.notes == ("CMYK without a CMYK profile; colours were converted by the plain formula",)


def test_a_damaged_cmyk_profile_is_named() -> None:
    stream = io.BytesIO()
    damaged = green_cmyk()[:200].ljust(400, b"\xff")
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(stream, "TIFF", icc_profile=damaged)
    found = load(io.BytesIO(stream.getvalue()))
    assert found.notes == ("its colour profile is damaged; colours were converted without it",)


def test_lab_becomes_srgb() -> None:
    """L 54, a 81, b 70 is sRGB's red under D50, which profiles are written for."""
    stream = io.BytesIO()
    Image.new("LAB", (8, 8), (round(54.29 * 2.55), 128 + 81, 128 + 70)).save(stream, "TIFF")
    found = load(io.BytesIO(stream.getvalue()))
    assert np.abs(found.pixels[4, 4] - [1, 0, 0]).max() < 0.02
    assert not found.grey


@pytest.mark.parametrize(
    ("text", "colour"),
    [("white", (1, 1, 1)), ("#f00", (1, 0, 0)), ("#00ff00", (0, 1, 0)), ("rgb(0, 0, 255)", (0, 0, 1))],
)
def test_colours_are_written_as_in_css(text: str, colour: tuple[float, ...]) -> None:
    assert parse_colour(text) == colour


@pytest.mark.parametrize("text", ["", "nocolour", "#12", "255,255,255"])
def test_what_is_no_colour_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="is no colour; write a name such as white"):
        encode(picture(2, 2), "jpg", SaveOptions(background=text))
