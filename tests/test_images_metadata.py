"""What a file says besides its pixels comes back: byte for byte where it is still true, corrected where it is not."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from image_samples import chunk, noise, picture, png
from PIL import Image, ImageCms, ImageOps

from irestore.images import (
    Metadata,
    Picture,
    SaveOptions,
    encode,
    load,
    probe,
    provenance,
    save,
)

FORMATS = ("png", "png16", "jpg", "webp", "tiff", "tiff16", "avif")
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<?xpacket begin="\xef\xbb\xbf"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description tiff:Orientation="6" '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" dc:creator="J\xc3\xb6rg"><tiff:ImageWidth>12</tiff:ImageWidth>'
    b"</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
)
TRUE_XMP = XMP.replace(b'Orientation="6"', b'Orientation="1"').replace(b">12<", b">20<")  # of 20 pixels, upright
MAKER_NOTE = bytes(range(256)) * 3
THUMBNAIL = b"\xff\xd8 the picture as it was, uncropped \xff\xd9"


def exif(order: str = "<", orientation: int = 6, width: int = 12, height: int = 20) -> bytes:
    """A camera's EXIF block: makers' note, GPS, resolution, and a thumbnail in its second directory."""

    def entry(tag: int, kind: int, count: int, value: bytes | int) -> bytes:
        raw = struct.pack(order + "I", value) if isinstance(value, int) else value.ljust(4, b"\0")
        return struct.pack(order + "HHI", tag, kind, count) + raw

    def short(value: int) -> bytes:
        return struct.pack(order + "H", value)

    def table(*entries: bytes, link: int = 0) -> bytes:
        return struct.pack(order + "H", len(entries)) + b"".join(entries) + struct.pack(order + "I", link)

    at = {"first": 8, "camera": 200, "gps": 300, "second": 360, "resolution": 430, "maker": 450, "thumbnail": 1300}
    block = bytearray(at["thumbnail"])
    block[:8] = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at["first"])
    first = table(
        entry(0x010F, 2, 4, b"Abc\0"),
        entry(0x0112, 3, 1, short(orientation)),
        entry(0x011A, 5, 1, at["resolution"]),
        entry(0x011B, 5, 1, at["resolution"]),
        entry(0x0128, 3, 1, short(2)),
        entry(0x8769, 4, 1, at["camera"]),
        entry(0x8825, 4, 1, at["gps"]),
        link=at["second"],
    )
    camera = table(
        entry(0x927C, 7, len(MAKER_NOTE), at["maker"]),
        entry(0xA002, 3, 1, short(width)),
        entry(0xA003, 4, 1, height),
    )
    gps = table(entry(0x0001, 2, 2, b"N\0"))
    second = table(entry(0x0201, 4, 1, at["thumbnail"]), entry(0x0202, 4, 1, len(THUMBNAIL)))
    pieces = {"first": first, "camera": camera, "gps": gps, "second": second, "maker": MAKER_NOTE}
    pieces["resolution"] = struct.pack(order + "II", 300, 1)
    for name, piece in pieces.items():
        block[at[name] : at[name] + len(piece)] = piece
    return bytes(block) + THUMBNAIL


def tagged(**fields: object) -> Picture:
    """A picture of 20 x 12 pixels, upright now, whose metadata are from before it was turned."""
    metadata = Metadata(icc=ICC, exif=exif(), xmp=XMP, dpi=(300.0, 300.0))
    return picture(12, 20, metadata=metadata, **fields)


def written(name: str, options: SaveOptions = SaveOptions()) -> bytes:  # noqa: B008
    return encode(tagged(depth=16 if "16" in name else 8), name.removesuffix("16"), options)


def tags(content: bytes) -> Image.Exif:
    """As Pillow, which knows nothing of our code, reads them."""
    with Image.open(io.BytesIO(content)) as image:
        return image.getexif()


@pytest.mark.parametrize("name", FORMATS)
class TestEveryFormat:
    def test_profile_is_kept_byte_for_byte(self, name: str) -> None:
        assert load(io.BytesIO(written(name))).metadata.icc == ICC

    def test_exif_is_kept_and_corrected(self, name: str) -> None:
        found = tags(written(name))
        assert found[0x010F] == "Abc"
        assert found.get(0x0112, 1) == 1
        assert found[0x011A] == 300
        camera = found.get_ifd(0x8769)
        assert (camera[0xA002], camera[0xA003]) == (20, 12)
        assert camera[0x927C] == MAKER_NOTE
        assert found.get_ifd(0x8825)[1] == "N"
        assert THUMBNAIL not in written(name)

    def test_xmp_is_kept_and_corrected(self, name: str) -> None:
        assert load(io.BytesIO(written(name))).metadata.xmp == TRUE_XMP

    def test_resolution_is_kept(self, name: str) -> None:
        found = load(io.BytesIO(written(name))).metadata
        if name not in ("webp", "avif"):  # which have it in EXIF alone
            assert found.dpi == pytest.approx((300, 300), abs=0.02)

    def test_strip_leaves_profile_and_pixels(self, name: str) -> None:
        content = written(name, SaveOptions(metadata="strip"))
        found = load(io.BytesIO(content)).metadata
        assert found.icc == ICC
        assert (found.exif, found.xmp, found.dpi, found.text) == (None, None, None, {})
        assert b"Abc" not in content
        assert np.array_equal(load(io.BytesIO(content)).pixels, load(io.BytesIO(written(name))).pixels)

    @pytest.mark.parametrize("metadata", ["keep", "strip"])
    def test_provenance_is_found_again(self, name: str, metadata: str) -> None:
        tag = provenance("0.1.0", [("heart-x2", "ab" * 32)], ["sr"])
        content = written(name, SaveOptions(provenance=tag, metadata=metadata))  # type: ignore[arg-type]
        assert probe(io.BytesIO(content)).provenance == tag
        assert probe(io.BytesIO(written(name))).provenance is None
        again = encode(load(io.BytesIO(content)), name.removesuffix("16"))
        assert probe(io.BytesIO(again)).provenance is None, "a copy without a tag of its own must not carry the old one"


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_bytes_stay_where_they_were(order: str) -> None:
    before = exif(order)
    metadata = Metadata(exif=before, dpi=(600.0, 600.0))
    with Image.open(io.BytesIO(encode(picture(12, 20, metadata=metadata), "jpg"))) as image:
        after = image.info["exif"].removeprefix(b"Exif\0\0")
    assert len(after) == len(before) - len(THUMBNAIL)
    changed = [i for i in range(len(after)) if after[i] != before[i]]
    assert 0 < len(changed) <= 16  # orientation, width, height, resolution and the link to the thumbnail
    assert tags(encode(picture(12, 20, metadata=metadata), "jpg"))[0x011A] == 600


@pytest.mark.parametrize("side", [70_000, 65_535])
def test_exif_size_beyond_16_bits(side: int) -> None:
    content = encode(picture(1, side, metadata=Metadata(exif=exif())), "png")
    assert tags(content).get_ifd(0x8769)[0xA002] == side


def test_damaged_exif_is_dropped_with_a_word(tmp_path: Path) -> None:
    damaged = exif()[:100]
    for content in (damaged, b"no EXIF", b"II+\0\x08\0\0\0" + bytes(20)):
        notes = save(
            picture(4, 4, metadata=Metadata(exif=content)), tmp_path / "a.png", SaveOptions(provenance="irestore/1")
        )
        assert notes == ("its EXIF is damaged and was not kept",)
        assert probe(tmp_path / "a.png").provenance == "irestore/1"


def test_what_jpeg_cannot_hold_is_dropped_with_a_word(tmp_path: Path) -> None:
    metadata = Metadata(exif=exif() + bytes(70_000), xmp=XMP + b" " * 70_000, iptc=bytes(70_000))
    notes = save(picture(8, 8, metadata=metadata), tmp_path / "a.jpg", SaveOptions(provenance="irestore/1"))
    assert [note.split()[1] for note in notes] == ["EXIF", "XMP", "IPTC"]
    assert probe(tmp_path / "a.jpg").provenance == "irestore/1"
    assert save(picture(8, 8, metadata=metadata), tmp_path / "a.png") == ("not kept, since png cannot hold it: IPTC",)
    assert load(tmp_path / "a.png").metadata.xmp == TRUE_XMP.replace(b">20<", b">8<") + b" " * 70_000


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["jpg", "png", "png16", "webp", "tiff", "tiff16", "avif"])
def test_pictures_are_turned_upright_once(name: str, orientation: int) -> None:
    """Pillow's own transposition is the reference; what we write from the result needs no more turning."""
    upright = Image.fromarray(np.kron(noise(3, 5, 3), np.ones((16, 16, 1), np.uint8)))
    if name.endswith("16"):
        deep = np.asarray(upright).astype(np.uint16) * 257
        content = deep_with_orientation(name, deep, orientation)
    else:
        tag = Image.Exif()
        tag[0x0112] = orientation
        stream = io.BytesIO()
        upright.save(stream, {"jpg": "JPEG", "tiff": "TIFF"}.get(name, name.upper()), exif=tag.tobytes(), quality=95)
        content = stream.getvalue()
    tag = Image.Exif()
    tag[0x0112] = orientation
    reference = upright.copy()
    reference.info["exif"] = tag.tobytes()
    expected = np.asarray(ImageOps.exif_transpose(reference)) / 255

    found = load(io.BytesIO(content))
    assert (found.width, found.height) == expected.shape[1::-1]
    assert (probe(io.BytesIO(content)).width, probe(io.BytesIO(content)).height) == (found.width, found.height)
    assert np.abs(found.pixels - expected).mean() < 0.04
    again = load(io.BytesIO(encode(found, name.removesuffix("16"))))
    assert np.abs(again.pixels - expected).mean() < 0.04


def deep_with_orientation(name: str, samples: np.ndarray, orientation: int) -> bytes:
    block = exif(orientation=orientation)
    if name == "png16":
        return png(samples, before=chunk(b"eXIf", block))
    tifffile = pytest.importorskip("tifffile")
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    return stream.getvalue()


def test_a_bmp_keeps_its_resolution() -> None:
    found = load(io.BytesIO(encode(tagged(), "bmp"))).metadata
    assert found.dpi == pytest.approx((300, 300), abs=0.02)
    assert (found.icc, found.exif) == (None, None)


def test_dpi_grows_with_the_picture() -> None:
    small = picture(4, 6, metadata=Metadata(dpi=(72.0, 96.0)))
    assert small.replaced(picture(8, 12).pixels, None).metadata.dpi == (144.0, 192.0)
    assert picture(4, 6).replaced(picture(8, 12).pixels, None).metadata.dpi is None


def test_png_says_what_its_colours_mean() -> None:
    chunks = [(b"gAMA", struct.pack(">I", 100_000)), (b"sRGB", b"\1"), (b"cICP", bytes([9, 16, 0, 1]))]
    before = b"".join(chunk(*each) for each in chunks) + chunk(b"tEXt", b"Title\0A title") + chunk(b"tIME", bytes(7))
    for depth in (8, 16):
        found = load(io.BytesIO(png(noise(4, 4, 3, depth), before=before)))
        assert found.metadata.png_colour == tuple(chunks)
        again = load(io.BytesIO(encode(found, "png")))
        assert again.metadata.png_colour == tuple(chunks)
        assert dict(again.metadata.text) == {"Title": "A title"}


@pytest.mark.parametrize("name", ["jpg", "tiff"])
def test_press_captions_are_kept(name: str) -> None:
    iptc = b"\x1c\x02\x78\x00\x07Caption"
    assert load(io.BytesIO(encode(picture(8, 8, metadata=Metadata(iptc=iptc)), name))).metadata.iptc == iptc


class TestJpeg:
    @staticmethod
    def jpeg(**options: object) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(noise(32, 32, 3)).save(stream, "JPEG", **options)
        return stream.getvalue()

    @pytest.mark.parametrize("subsampling", [0, 1, 2])
    @pytest.mark.parametrize("quality", [90, 93, 100])
    def test_tables_and_subsampling_are_kept(self, quality: int, subsampling: int) -> None:
        content = self.jpeg(quality=quality, subsampling=subsampling)
        before = load(io.BytesIO(content))
        after = load(io.BytesIO(encode(before, "jpg")))
        assert before.metadata.jpeg is not None
        assert abs(before.metadata.jpeg.quality - quality) <= 1
        assert before.metadata.jpeg.subsampling == subsampling
        assert after.metadata.jpeg == before.metadata.jpeg

    def test_a_restored_picture_is_not_ruined_again(self) -> None:
        after = load(io.BytesIO(encode(load(io.BytesIO(self.jpeg(quality=20))), "jpg"))).metadata.jpeg
        assert after is not None
        assert (after.quality, after.subsampling) == (90, 2)

    def test_quality_can_be_chosen(self) -> None:
        content = encode(load(io.BytesIO(self.jpeg(quality=95))), "jpg", SaveOptions(quality=60))
        jpeg = load(io.BytesIO(content)).metadata.jpeg
        assert jpeg is not None
        assert jpeg.quality == 60

    @pytest.mark.parametrize("quality", range(20, 101, 4))
    def test_quality_is_estimated(self, quality: int) -> None:
        jpeg = load(io.BytesIO(self.jpeg(quality=quality))).metadata.jpeg
        assert jpeg is not None
        assert abs(jpeg.quality - quality) <= 1


@pytest.mark.parametrize("lossless", [True, False])
def test_webp_stays_lossless_or_not(lossless: bool) -> None:
    content = encode(picture(16, 16), "webp", SaveOptions(lossless=lossless))
    again = load(io.BytesIO(content))
    assert again.metadata.lossless is lossless
    assert load(io.BytesIO(encode(again, "webp"))).metadata.lossless is lossless
    assert load(io.BytesIO(encode(again, "webp", SaveOptions(quality=50)))).metadata.lossless is False


def test_a_gif_has_its_tag_in_a_comment() -> None:
    tagged_gif = encode(picture(4, 4), "gif", SaveOptions(provenance="irestore/1 test"))
    assert probe(io.BytesIO(tagged_gif)).provenance == "irestore/1 test"
    again = encode(load(io.BytesIO(tagged_gif)), "gif")
    assert probe(io.BytesIO(again)).provenance is None
    assert b"irestore/" not in again


def test_a_resolution_that_the_file_does_not_tell_is_not_invented() -> None:
    """Pillow says 72 dpi for a JPEG that has EXIF, but no resolution in it."""
    for given, expected in ((None, None), ((72, 72), (72, 72)), ((300, 300), (300, 300))):
        stream = io.BytesIO()
        said = Image.Exif()
        said[0x010F] = "Maker"
        options = {} if given is None else {"dpi": given}
        Image.new("RGB", (4, 4)).save(stream, "JPEG", exif=said, **options)
        stream.seek(0)
        assert load(stream).metadata.dpi == expected


def test_png_texts_of_other_tools_are_kept() -> None:
    text = {"Raw profile type iptc": "\niptc\n 3\n616263", "parameters": "Steps: 20", "Author": "Jörg"}
    found = load(io.BytesIO(encode(picture(4, 4, metadata=Metadata(text=text)), "png")))
    assert dict(found.metadata.text) == text


def test_exif_in_the_manner_of_old_pngs() -> None:
    """ImageMagick wrote it as hexadecimal text; damaged text is no EXIF, but no reason to refuse the picture."""
    block = b"Exif\0\0" + exif(orientation=6)
    for digits, width in ((block.hex(), 4), ("xyz", 6)):
        text = f"Raw profile type exif\0\nexif\n{len(block):8}\n{digits}\n"
        found = load(io.BytesIO(png(noise(4, 6, 3), before=chunk(b"tEXt", text.encode()))))
        assert found.width == width
        assert (found.metadata.exif == exif(orientation=6)) == (width == 4)


def test_xmp_need_not_be_utf_8() -> None:
    packet = "<x:xmpmeta/>".encode("utf-16")
    for name in FORMATS:
        content = encode(
            picture(4, 4, depth=16 if "16" in name else 8, metadata=Metadata(xmp=packet)), name.removesuffix("16")
        )
        assert packet in content
