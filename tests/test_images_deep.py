"""16 bits a sample stay 16 bits, however a file lays them out; where they cannot, a note says so."""

import io
import struct
import zlib
from typing import Any, Literal

import numpy as np
import pytest
from image_samples import noise, picture, png
from numpy.typing import NDArray
from PIL import Image

from irestore.errors import ReadError
from irestore.images import Metadata, Picture, SaveOptions, encode, load, probe

tifffile = pytest.importorskip("tifffile")  # the independent writer and reader


def whole(found: Picture) -> NDArray[Any]:
    """Samples (H, W, C) of a 16-bit picture."""
    assert found.depth == 16
    planes = [found.pixels[..., :1] if found.grey else found.pixels]
    planes += [] if found.alpha is None else [found.alpha[..., None]]
    return np.rint(np.concatenate(planes, axis=2) * np.float64(65535)).astype(np.uint16)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 17), (33, 5)])
def test_png(size: tuple[int, int], channels: int, interlaced: bool) -> None:
    samples = noise(*size, channels, 16)
    content = png(samples, interlaced=interlaced)
    assert np.array_equal(whole(load(io.BytesIO(content))), samples)
    assert probe(io.BytesIO(content)).depth == 16


def test_png_colour_key() -> None:
    """A colour that counts as transparent is compared at all 16 bits."""
    samples = np.full((2, 2, 3), 0x1234, np.uint16)
    samples[0, 0, 1] = 0x1235
    from image_samples import chunk

    content = png(samples, before=chunk(b"tRNS", b"\x12\x34" * 3))
    assert np.array_equal(whole(load(io.BytesIO(content)))[..., 3], [[65535, 0], [0, 0]])
    grey = png(samples[..., 1:2], before=chunk(b"tRNS", b"\x12\x34"))
    assert np.array_equal(whole(load(io.BytesIO(grey)))[..., 1], [[65535, 0], [0, 0]])


def test_png_is_written_as_others_read_it() -> None:
    """Pillow reads the high bytes of our filtered rows, for grey all 16 bits."""
    ramp = np.linspace(0, 1, 64 * 50 * 3, dtype=np.float32).reshape(64, 50, 3)
    smooth = Picture(pixels=ramp, alpha=None, grey=False, depth=16, format="png")
    content = encode(smooth, "png")
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(np.asarray(image), np.floor(ramp * 65535 + 0.5).astype(np.uint16) >> 8)
    grey = Picture(pixels=ramp[..., :1].repeat(3, axis=2), alpha=None, grey=True, depth=16, format="png")
    with Image.open(io.BytesIO(encode(grey, "png"))) as image:
        assert np.array_equal(np.asarray(image), np.floor(ramp[..., 0] * 65535 + 0.5))
    assert len(content) < ramp.size * 2 / 2, "a gradient must be filtered well"


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [8, 16])
def test_strips_of_a_png_are_one_stream_whatever_compresses_them(
    monkeypatch: pytest.MonkeyPatch, depth: Literal[8, 16], channels: int
) -> None:
    values = np.random.default_rng(0).random((67, 33, channels)).astype(np.float32)
    alpha = values[..., -1] if channels in (2, 4) else None
    grey = channels < 3
    pixels = values[..., :1].repeat(3, axis=2) if grey else values[..., :3]
    given = Picture(pixels=pixels, alpha=alpha, grey=grey, depth=depth, format="png")
    monkeypatch.setattr("irestore.images.png._STRIP_BYTES", 1000)
    written = []
    for count in (1, 4):
        monkeypatch.setattr("irestore.images.png.processors", lambda count=count: count)
        written.append(encode(given, "png"))
    assert written[0] == written[1]
    data, at = b"", 8
    while at < len(written[0]):
        length, name = struct.unpack_from(">I4s", written[0], at)
        data += written[0][at + 8 : at + 8 + length] * (name == b"IDAT")
        at += 12 + length
    assert len(zlib.decompress(data)) == 67 * (1 + 33 * channels * depth // 8)  # which checks its Adler-32
    read = load(io.BytesIO(written[0]))
    peak = 2**depth - 1
    assert np.array_equal(np.rint(read.pixels * peak), np.floor(pixels * peak + 0.5))
    assert alpha is None or np.array_equal(np.rint(read.alpha * peak), np.floor(alpha * peak + 0.5))


LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "big-endian": {"byteorder": ">"},
    "deflated": {"compression": "zlib"},
    "differences": {"compression": "zlib", "predictor": True},
    "differences, big-endian": {"compression": "zlib", "predictor": True, "byteorder": ">"},
    "tiles": {"tile": (16, 32)},
    "tiles, differences": {"tile": (32, 16), "compression": "zlib", "predictor": True},
    "strips": {"rowsperstrip": 7},
    "planes": {"planarconfig": "separate"},
    "planes, strips": {"planarconfig": "separate", "rowsperstrip": 7},
    "planes, tiles": {"planarconfig": "separate", "tile": (16, 16), "compression": "zlib", "predictor": True},
    "BigTIFF": {"bigtiff": True},
    "BigTIFF, big-endian": {"bigtiff": True, "byteorder": ">", "compression": "zlib"},
}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiff(layout: str, channels: int) -> None:
    options = dict(LAYOUTS[layout])
    samples = noise(41, 37, channels, 16)
    given: NDArray[Any] = samples
    if "planarconfig" in options:
        if channels == 1:
            pytest.skip("one plane is no matter of layout")
        given = np.moveaxis(samples, 2, 0)
    stream = io.BytesIO()
    extra = ["unassalpha"] if channels in (2, 4) else None
    photometric = "rgb" if channels > 2 else "minisblack"
    if channels == 1:
        given = samples[..., 0]
    elif channels == 2 and "planarconfig" not in options:
        options["planarconfig"] = "contig"
    tifffile.imwrite(stream, given, photometric=photometric, extrasamples=extra, metadata=None, **options)
    content = stream.getvalue()
    found = load(io.BytesIO(content))
    assert np.array_equal(whole(found), samples)
    info = probe(io.BytesIO(content))
    assert (info.depth, info.width, info.height, info.has_alpha) == (16, 37, 41, channels in (2, 4))


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_deflate", "lzma"])
def test_tiff_grey_by_libtiff(compression: str) -> None:
    samples = noise(20, 23, 1, 16)[..., 0]
    stream = io.BytesIO()
    try:
        Image.fromarray(samples).save(stream, "TIFF", compression=compression)
    except OSError:
        pytest.skip("this libtiff has no such codec")
    assert np.array_equal(whole(load(io.BytesIO(stream.getvalue())))[..., 0], samples)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_16_bit_tiff_that_is_cut_is_refused(compression: str | None) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, noise(20, 23, 3, 16), photometric="rgb", compression=compression)
    for missing in (2, 40, 1000):
        with pytest.raises(ReadError, match="the file is damaged or incomplete"):
            load(io.BytesIO(stream.getvalue()[:-missing]))


def test_tiff_white_is_zero() -> None:
    samples = noise(5, 4, 1, 16)[..., 0]
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, photometric="miniswhite")
    assert np.array_equal(whole(load(io.BytesIO(stream.getvalue())))[..., 0], 65535 - samples)


def test_tiff_premultiplied_alpha() -> None:
    alpha = np.array([[0, 1, 30_000, 65535]], np.uint16)
    colour = np.array([[0, 1, 15_000, 40_000]], np.uint16)
    samples = np.dstack([colour, colour, colour, alpha])
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, photometric="rgb", extrasamples=["assocalpha"], metadata=None)
    found = whole(load(io.BytesIO(stream.getvalue())))
    assert found[0, :, 0].tolist() == [0, 65535, 32768, 40_000]
    assert np.array_equal(found[..., 3], alpha)


def test_tiff_channels_without_a_meaning_are_named() -> None:
    stream = io.BytesIO()
    samples = noise(6, 6, 5, 16)
    tifffile.imwrite(
        stream, samples, photometric="rgb", planarconfig="contig", extrasamples=["unspecified"] * 2, metadata=None
    )
    found = load(io.BytesIO(stream.getvalue()))
    assert np.array_equal(whole(found), samples[..., :3])
    assert found.notes == ("it has channels besides colour and alpha, which were not kept",)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_tiff_is_written_as_others_read_it(channels: int, depth: int) -> None:
    samples = noise(300, 70, channels, depth)
    planes = samples / np.float32(2**depth - 1)
    colour = planes[..., : 3 if channels > 2 else 1]
    original = Picture(
        pixels=np.broadcast_to(colour, (300, 70, 3)).astype(np.float32),
        alpha=planes[..., -1] if channels in (2, 4) else None,
        grey=channels < 3,
        depth=depth,
        format="png",
        metadata=Metadata(dpi=(300, 300)),
    )
    with tifffile.TiffFile(io.BytesIO(encode(original, "tiff"))) as file:
        page = file.pages[0]
        assert page.bitspersample == depth
        assert page.resolution == (300, 300)
        strips = [page.decode(*each)[0] for each in segments(file, page)]
    assert np.array_equal(np.concatenate(strips, axis=1).reshape(samples.shape), samples)


def segments(file: Any, page: Any) -> list[tuple[bytes, int]]:
    handle = file.filehandle
    found = []
    for i, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        handle.seek(offset)
        found.append((handle.read(count), i))
    return found


@pytest.mark.parametrize(("peak", "depth"), [(255, 8), (1023, 16), (65535, 16)])
def test_ppm(peak: int, depth: int) -> None:
    samples = np.linspace(0, peak, 5 * 7 * 3).astype(np.uint16).reshape(5, 7, 3)
    body = samples.astype(">u2" if peak > 255 else "u1").tobytes()
    content = b"P6\n# a comment\n7 5 %d\n" % peak + body
    found = load(io.BytesIO(content))
    assert (found.depth, probe(io.BytesIO(content)).depth) == (depth, depth)
    assert np.abs(found.pixels - samples / peak).max() < 0.51 / (2**depth - 1) + 1e-6


@pytest.mark.parametrize("peak", [1023, 65535])
def test_pgm(peak: int) -> None:
    samples = np.linspace(0, peak, 35).astype(np.uint16).reshape(5, 7)
    found = load(io.BytesIO(b"P5 7 5 %d\n" % peak + samples.astype(">u2").tobytes()))
    assert (found.depth, found.grey) == (16, True)
    assert np.abs(found.pixels[..., 0] - samples / peak).max() < 1e-4


def test_jpeg_2000_that_is_cut_says_so() -> None:
    stream = io.BytesIO()
    Image.fromarray(noise(16, 16, 3)).save(stream, "JPEG2000", no_jp2=True)
    content = bytearray(stream.getvalue())
    assert load(io.BytesIO(content)).notes == ()
    content[42] = content[45] = content[48] = 15  # bits a sample, less one
    assert "its samples of 16 bits were read as 8" in load(io.BytesIO(content)).notes


@pytest.mark.parametrize("kind", ["F", "I"])
def test_samples_of_other_kinds_are_refused(kind: str) -> None:
    stream = io.BytesIO()
    Image.new(kind, (3, 3)).save(stream, "TIFF")
    with pytest.raises(ReadError, match="convert it to 16 bits first"):
        load(io.BytesIO(stream.getvalue()))


def test_depth_can_be_chosen() -> None:
    assert probe(io.BytesIO(encode(picture(4, 4), "png", SaveOptions(depth=16)))).depth == 16
    assert probe(io.BytesIO(encode(picture(4, 4, depth=16), "tiff", SaveOptions(depth=8)))).depth == 8


def test_rounding_is_to_nearest_half_up_and_clipped() -> None:
    values = np.array([-1, 0, 0.49 / 255, 0.5 / 255, 254.5 / 255, 1, 7], np.float32)
    pixels = np.broadcast_to(values[None, :, None], (1, 7, 3)).copy()
    found = load(io.BytesIO(encode(picture(1, 7, pixels=pixels), "png")))
    assert (found.pixels[0, :, 0] * 255).round().tolist() == [0, 0, 0, 1, 255, 255, 255]


def test_a_gradient_keeps_its_levels() -> None:
    """Doubled in size, a 16-bit ramp still has thousands of levels, where 8 bits have 256."""
    ramp = np.broadcast_to(np.linspace(0, 65535, 4096).astype(np.uint16)[None, :, None], (2, 4096, 3))
    before = load(io.BytesIO(png(ramp)))
    doubled = before.pixels.repeat(2, axis=0).repeat(2, axis=1)
    after = load(io.BytesIO(encode(before.replaced(doubled, None), "tiff")))
    assert len(np.unique(after.pixels)) == 4096


def test_pixel_limit_counts_pixels_not_bytes() -> None:
    """A 16-bit TIFF is unpacked as a picture of its bytes, of which there are eight a pixel."""
    from irestore.images import LoadOptions

    content = encode(picture(20, 30, depth=16, alpha=np.ones((20, 30), np.float32)), "tiff")
    assert load(io.BytesIO(content), LoadOptions(max_pixels=600)).depth == 16
    with pytest.raises(ReadError, match="30 x 20 pixels are more than the 599 allowed"):
        load(io.BytesIO(content), LoadOptions(max_pixels=599))
