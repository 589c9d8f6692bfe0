"""The round-trip table: every kind of samples in every format that holds it comes back as it was."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from irestore.images import FORMATS, Picture, SaveOptions, encode, load, probe, save

HEIGHT, WIDTH = 37, 53  # odd, so that rows end inside bytes, bands and tiles
EXACT = ("png", "tiff", "webp", "jxl", "bmp", "ppm")


def samples(channels: int, depth: int) -> NDArray[Any]:
    """Noise over gradients: every bit is used and rows differ."""
    rng = np.random.default_rng(channels * depth)
    ramp = np.linspace(0, 2**depth - 1, HEIGHT * WIDTH * channels).reshape(HEIGHT, WIDTH, channels)
    noisy = ramp + rng.integers(0, 2 ** (depth - 2), ramp.shape)
    return np.clip(noisy, 0, 2**depth - 1).astype(np.uint8 if depth == 8 else np.uint16)


def picture(channels: int, depth: int) -> tuple[Picture, NDArray[Any]]:
    whole = samples(channels, depth)
    colour = whole[..., : 1 if channels < 3 else 3] / np.float32(2**depth - 1)
    pixels = np.broadcast_to(colour, (HEIGHT, WIDTH, 3)).astype(np.float32)
    alpha = whole[..., -1] / np.float32(2**depth - 1) if channels in (2, 4) else None
    return Picture(pixels=pixels, alpha=alpha, grey=channels < 3, depth=depth, format="png"), whole


def back(again: Picture, channels: int) -> NDArray[Any]:
    """The whole numbers that the pixels stand for."""
    planes = [again.pixels[..., :1] if channels < 3 else again.pixels]
    if channels in (2, 4):
        assert again.alpha is not None
        planes.append(again.alpha[..., None])
    return np.rint(np.concatenate(planes, axis=2) * np.float64(2**again.depth - 1)).astype(int)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", FORMATS)
def test_round_trip(tmp_path: Path, name: str, channels: int, depth: int) -> None:
    if name == "jxl":
        pytest.importorskip("pillow_jxl")
    form = FORMATS[name]
    original, whole = picture(channels, depth)
    options = SaveOptions(lossless=name in EXACT or None, background=None if form.alpha else "black")
    path = tmp_path / f"picture{form.suffixes[0]}"
    save(original, path, options)
    info, again = probe(path), load(path)

    kept = depth if depth in form.depths else 8
    assert (info.format, info.width, info.height, info.depth) == (name, WIDTH, HEIGHT, kept)
    assert (again.format, again.depth, again.grey) == (
        name,
        kept,
        channels in ((1, 2) if form.grey_alpha or name == "gif" else (1,) if form.grey else ()),
    )
    if name in ("jpg", "gif") or (channels in (2, 4) and not form.alpha):  # of which only the size is exact
        return
    assert (again.alpha is not None) == (channels in (2, 4))
    expected = (whole.astype(np.int64) * (2**kept - 1) / (2**depth - 1) + 0.5).astype(int)
    difference = np.abs(back(again, channels) - expected)
    if name in EXACT:
        visible = expected[..., -1] > 0 if channels in (2, 4) else ...  # WebP blackens what nobody sees
        assert difference[visible].max() == 0
    else:
        assert difference.mean() < 8


def test_a_tiff_is_turned_as_its_tag_says_and_not_as_its_xmp() -> None:
    """Pillow would turn the pixels by the XMP, of which the plan, and the size that it promises, know nothing."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'
    stream = io.BytesIO()
    Image.fromarray(samples(3, 8)).save(stream, "TIFF", tiffinfo={700: xmp})
    info, found = (read(io.BytesIO(stream.getvalue())) for read in (probe, load))
    assert (info.width, info.height) == (found.width, found.height) == (WIDTH, HEIGHT)
    assert found.metadata.xmp == xmp
    assert load(io.BytesIO(encode(found, "tiff"))).metadata.xmp == xmp.replace(b"6", b"1")


@pytest.mark.parametrize(("peak", "notes"), [(255, ()), (1023, ("its samples of 10 bits were read as 8",))])
def test_a_ppm_of_text_is_read_at_8_bits_with_a_word(peak: int, notes: tuple[str, ...]) -> None:
    found = load(io.BytesIO(b"P3 2 1 %d\n %d 0 0  0 0 %d\n" % (peak, peak, peak)))
    assert found.pixels.tolist() == [[[1, 0, 0], [0, 0, 1]]]
    assert (found.depth, found.notes) == (8, notes)
