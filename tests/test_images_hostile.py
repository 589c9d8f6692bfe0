"""Files made to harm cost little: 2 s at most to look at, lies about sizes are found out, nothing leaks elsewhere."""

import contextlib
import io
import re
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from icc_profiles import green_cmyk, wide_rgb
from image_samples import chunk, noise, picture, png
from PIL import Image

from irestore.errors import ReadError, WriteError
from irestore.images import LoadOptions, Metadata, SaveOptions, encode, load, load_frames, probe, save
from irestore.images.jxl import header

SECONDS = 3.0  # of computing, where 2 are promised: the machine may be slow at the last step


def seconds_of(function: Callable[[], Any]) -> float:
    start = time.thread_time()
    function()
    return time.thread_time() - start


def overlapping_directories(byte: int) -> bytes:
    """A TIFF whose directories begin every four bytes in one long run of a byte, which thus is the count of each."""
    entries = 12 * (byte * 257)
    links = b"".join(struct.pack("<I", 8 + 4 * i) for i in range(1, entries // 4))
    return b"II*\0\x08\0\0\0" + bytes([byte]) * (entries + 2) + links + bytes(4)


@pytest.mark.parametrize("byte", [1, 8, 15, 40, 255])
def test_tiff_directories_cost_little(byte: int) -> None:
    content = overlapping_directories(byte)

    def look() -> None:
        with pytest.raises(ReadError, match="cannot be decoded"):
            probe(io.BytesIO(content))

    assert seconds_of(look) < SECONDS


@pytest.mark.parametrize("tag", [258, 11, 338, 254, 339])
def test_tiff_tags_of_many_values_cost_little(tag: int, tmp_path: Path) -> None:
    """A file with a hole in it is large for nothing."""
    path = tmp_path / "large.tif"
    rows = {256: 8, 257: 8, 258: 16, 262: 1, 277: 1}
    table = b"".join(struct.pack("<HHII", each, 3, 1, value) for each, value in sorted(rows.items()) if each != tag)
    many = struct.pack("<HHII", tag, 3, 2**27, 1000)
    count = table.count(b"\x03\0\1\0") + 1
    path.write_bytes(
        b"II*\0\x08\0\0\0" + struct.pack("<H", count) + (many + table if tag < 256 else table + many) + bytes(4)
    )
    with path.open("r+b") as stream:
        stream.truncate(2**28 + 2000)

    def look() -> None:
        with contextlib.suppress(ReadError):
            assert probe(path).width == 8

    assert seconds_of(look) < SECONDS / 4


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the time is enough to see that it is kept to."""
    monkeypatch.setattr("irestore.images.read._PROBE_SECONDS", 0.2)


@pytest.mark.usefixtures("impatient")
def test_a_gif_of_endless_frames_is_given_up() -> None:
    frame = b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"
    content = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + frame * 100_000 + b";"

    def look() -> None:
        with pytest.raises(ReadError, match=r"its header takes more than 0.2 s to read"):
            probe(io.BytesIO(content))

    assert seconds_of(look) < SECONDS / 4


@pytest.mark.usefixtures("impatient")
def test_a_png_of_endless_profiles_is_given_up() -> None:
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(15 * 2**20), 9))
    content = png(noise(2, 2, 3), before=profile * 100)

    def look() -> None:
        with pytest.raises(ReadError, match=r"its header takes more than 0.2 s to read"):
            probe(io.BytesIO(content))

    assert seconds_of(look) < SECONDS / 4


def boxed(codestream: bytes, *before: tuple[bytes, bytes], long: bool = False) -> bytes:
    """A JPEG XL container with other boxes before the codestream."""
    content = b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a"
    for name, inside in (*before, (b"jxlc", codestream)):
        head = struct.pack(">I4sQ", 1, name, 16 + len(inside)) if long else struct.pack(">I4s", 8 + len(inside), name)
        content += head + inside
    return content


def codestream(bits: str) -> bytes:
    return b"\xff\x0a" + int(bits[::-1], 2).to_bytes(8, "little") + bytes(60)


SMALL = "1" + "00000" + "000" + "00000"  # 8 x 8 pixels
LARGE = "0" + "11" + "1" * 30 + "100"  # 2**30 square


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("padding", [0, 5000, 100_000])
def test_jpeg_xl_boxes_are_walked(padding: int, long: bool) -> None:
    """Nothing hides behind a box, however long it is."""
    boxes = [(b"free", bytes(padding)), (b"Exif", bytes(4) + b"II*\0\x08\0\0\0" + bytes(6))]
    info, bits = header(io.BytesIO(boxed(codestream(LARGE + "1"), *boxes, long=long)))
    assert (info.width, info.height, bits) == (2**30, 2**30, 8)
    with pytest.raises(ReadError, match="animated JPEG XL"):
        header(io.BytesIO(boxed(codestream(SMALL + "01" + "000" + "0" + "0" + "1"), *boxes, long=long)))
    with pytest.raises(ReadError, match="without a picture"):
        header(io.BytesIO(boxed(b"", *boxes, long=long)))
    with pytest.raises(ReadError, match="boxes"):
        header(io.BytesIO(boxed(codestream(SMALL + "1"), *[(b"free", b"")] * 10_001)))


def test_a_jpeg_xl_header_is_read_to_its_end() -> None:
    """Orientation 6, another size, a preview in eighths of pixels, no animation; 12 bits, one channel more."""
    preview = "1" + "10" + "100"
    bits = SMALL + "0" + "1" + "101" + "1" + SMALL + "1" + preview + "0" + "0" + "01" + "1" + "10"
    info, depth = header(io.BytesIO(codestream(bits)))
    assert (info.width, info.height, depth, info.has_alpha) == (8, 8, 12, True)


def flat_png(rows: int, of: int, depth: int = 8, kind: int = 2, more: bytes = b"", interlaced: int = 0) -> bytes:
    """A PNG of 40 x `of` pixels, whose data are whole but for the rows that are missing."""
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[kind]
    data = zlib.compress((b"\0" + b"\x7f" * (40 * channels * depth // 8)) * rows)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, of, depth, kind, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", data) + chunk(b"IEND", b"")


PALETTE = chunk(b"PLTE", b"\xff" * 384)


@pytest.mark.parametrize(("depth", "kind"), [(8, 2), (16, 2), (8, 6), (16, 6), (8, 0), (16, 0), (8, 3)])
def test_png_rows_without_data_are_not_black(depth: int, kind: int) -> None:
    more = PALETTE if kind == 3 else b""
    assert load(io.BytesIO(flat_png(30, 30, depth, kind, more))).height == 30
    for rows in (12, 29):
        with pytest.raises(ReadError, match="its pixels end too early; the file is damaged or incomplete"):
            load(io.BytesIO(flat_png(rows, 30, depth, kind, more)))


def test_interlaced_png_without_all_data() -> None:
    with pytest.raises(ReadError, match="the file is damaged or incomplete"):
        load(io.BytesIO(flat_png(20, 30, interlaced=1)))


def test_black_rows_that_have_data_are_read() -> None:
    black = np.zeros((30, 40, 3), np.uint8)
    for interlaced in (False, True):
        assert load(io.BytesIO(png(black, interlaced=interlaced))).pixels.max() == 0


@pytest.mark.parametrize("padding", [0, 100_000])
def test_a_png_cannot_promise_more_than_its_data_hold(padding: int) -> None:
    """260 bytes that say 14000 x 14000 would be planned as days of work."""
    content = flat_png(1, 14_000) if padding == 0 else flat_png(1, 100_000_0, more=chunk(b"tEXt", bytes(padding)))
    with pytest.raises(ReadError, match="its data are too few for the size in its header"):
        probe(io.BytesIO(content))
    assert probe(io.BytesIO(flat_png(14_000, 14_000))).height == 14_000, "which is as dense as can be"


def test_warnings_and_limits_of_other_threads_stay(recwarn: pytest.WarningsRecorder) -> None:
    """Readers in threads set nothing that others see; others' `catch_warnings` do no harm to readers."""
    before = Image.MAX_IMAGE_PIXELS
    stop = threading.Event()
    heard: list[str] = []

    def other() -> None:
        while not stop.is_set():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                warnings.warn("mine", stacklevel=1)
                warnings.simplefilter("error")
                time.sleep(0.0005)
            heard.extend(str(each.message) for each in caught)

    apng = flat_png(30, 30, more=chunk(b"acTL", struct.pack(">II", 0, 0)))
    thread = threading.Thread(target=other)
    thread.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            limits = [600 if i % 2 else 1300 for i in range(100)]
            results = list(pool.map(lambda limit: outcome(apng, limit), limits))
    finally:
        stop.set()
        thread.join()
    assert results == ["40 x 30 pixels are more than the 600 allowed" if limit == 600 else "read" for limit in limits]
    assert set(heard) == {"mine"}
    assert before == Image.MAX_IMAGE_PIXELS
    assert not recwarn.list


def outcome(content: bytes, limit: int) -> str:
    try:
        found = load(io.BytesIO(content), LoadOptions(max_pixels=limit))
    except ReadError as error:
        return str(error).removeprefix("<stdin>: ").partition(";")[0]
    return "read" if found.notes == ("Invalid APNG, will use default PNG image if possible",) else str(found.notes)


def test_pillow_warns_others_as_before() -> None:
    load(io.BytesIO(flat_png(30, 30)))
    with pytest.warns(UserWarning, match="Invalid APNG"):
        Image.open(io.BytesIO(flat_png(30, 30, more=chunk(b"acTL", struct.pack(">II", 0, 0)))))
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(flat_png(1, 2**28)))


def test_no_memory_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    content = flat_png(30, 30)
    monkeypatch.setattr("irestore.images.samples.to_floats", full)
    for read in (load, lambda source: next(load_frames(source))):
        with pytest.raises(ReadError, match=r"^<stdin>: too large for the memory of this machine$"):
            read(io.BytesIO(content))
    monkeypatch.setattr("irestore.images.encoders.to_samples", full)
    for name in ("png", "tiff"):
        with pytest.raises(WriteError, match=r"^[^\n]*: too large for the memory of this machine$"):
            encode(picture(4, 4), name)


@pytest.mark.parametrize("damage", ["cut", "header", "text"])
def test_a_damaged_profile_does_not_stop_a_picture(damage: str, tmp_path: Any) -> None:
    whole = wide_rgb()
    icc = {"cut": whole[:200], "header": whole[:128] + b"\xff" * 300, "text": b"no profile at all"}[damage]
    notes = save(picture(8, 8, metadata=Metadata(icc=icc)), tmp_path / "a.gif")
    assert any(re.search("its colour profile is (damaged|not one for RGB)", note) for note in notes)
    assert load(tmp_path / "a.gif").width == 8
    stream = io.BytesIO()
    Image.new("CMYK", (8, 8)).save(stream, "TIFF", icc_profile=green_cmyk()[:150])
    assert load(io.BytesIO(stream.getvalue())).notes == (
        "its colour profile is damaged; colours were converted without it",
    )


def test_frames_of_16_bits_are_written_at_8(tmp_path: Any) -> None:
    """Pillow has no 16-bit animations; to fail in the last second would be worse."""
    from irestore.images import save_frames

    deep = [picture(6, 6, depth=16, metadata=Metadata(duration=50)) for _ in range(2)]
    deep[1] = picture(6, 6, depth=16, pixels=1 - deep[0].pixels)
    assert save_frames(deep, tmp_path / "a.png") == (
        "its 16 bits a sample became 8, as png is written with several frames",
    )
    assert len(list(load_frames(tmp_path / "a.png"))) == 2


KEPT: dict[str, tuple[Metadata, dict[str, str]]] = {
    "comment": (Metadata(comment=b"hello"), {"png": "comment", "jpg": "", "webp": "comment", "gif": ""}),
    "text": (Metadata(text={"Title": "x"}), {"png": "", "jpg": "texts", "tiff": "texts", "avif": "texts"}),
    "dpi": (
        Metadata(dpi=(300, 300)),
        {"png": "", "jpg": "", "tiff": "", "webp": "resolution", "bmp": "", "ppm": "resolution"},
    ),
    "exif": (Metadata(exif=b"II*\0\x08\0\0\0" + bytes(6)), {"png": "", "webp": "", "gif": "EXIF", "bmp": "EXIF"}),
    "xmp": (Metadata(xmp=b"<x:xmpmeta/>"), {"png": "", "webp": "", "gif": "XMP"}),
    "iptc": (Metadata(iptc=b"\x1c\x02\x78\0\1x"), {"png": "IPTC", "jpg": "", "tiff": "", "webp": "IPTC"}),
    "hdr": (Metadata(png_colour=((b"cICP", bytes(4)),)), {"png": "", "jpg": "PNG's colour chunks"}),
    "srgb": (Metadata(png_colour=((b"sRGB", b"\0"),)), {"png": "", "jpg": "", "tiff": ""}),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, row in KEPT.items() for name in row[1]])
def test_what_a_format_cannot_hold_is_said(kind: str, name: str, tmp_path: Any) -> None:
    metadata, names = KEPT[kind]
    given = picture(8, 8, pixels=np.zeros((8, 8, 3), np.float32), metadata=metadata)
    said = names[name]
    expected = (f"not kept, since {name} cannot hold it: {said}",) if said else ()
    assert save(given, tmp_path / f"a.{name}") == expected
    assert save(given, tmp_path / f"a.{name}", SaveOptions(metadata="strip")) == (expected if kind == "hdr" else ())


def test_what_a_gif_loses_is_said(tmp_path: Any) -> None:
    soft = picture(20, 20, alpha=np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20))
    assert save(soft, tmp_path / "a.gif") == (
        "its colours became the 256 that a frame of a gif holds",
        "its half-transparent pixels became transparent or opaque: gif holds no other",
    )
    tagged = picture(8, 8, metadata=Metadata(icc=wide_rgb()))
    for suffix in ("gif", "bmp", "ppm"):
        assert save(tagged, tmp_path / f"a.{suffix}") == ("its RGB colours were converted to sRGB",)


def test_what_a_reader_does_not_keep_is_said() -> None:
    tifffile = pytest.importorskip("tifffile")
    stream = io.BytesIO()
    tifffile.imwrite(stream, noise(8, 8, 3), photometric="rgb", extratags=[(33550, 12, 3, (1.0, 1.0, 0.0), True)])
    assert load(io.BytesIO(stream.getvalue())).notes == ("its TIFF tags 33550 were not kept",)
    private = png(noise(4, 4, 3), before=chunk(b"caBX", b"credentials") + chunk(b"tIME", bytes(7)))
    assert load(io.BytesIO(private)).notes == ("its PNG chunks caBX were not kept",)
    stream = io.BytesIO()
    Image.fromarray(noise(8, 8, 3)).save(stream, "JPEG")
    extended = b"http://ns.adobe.com/xmp/extension/\0" + bytes(40)
    segment = b"\xff\xe1" + struct.pack(">H", len(extended) + 2) + extended
    content = stream.getvalue()[:2] + segment + stream.getvalue()[2:]
    assert load(io.BytesIO(content)).notes == ("the second part of its XMP, which is very long, was not kept",)
