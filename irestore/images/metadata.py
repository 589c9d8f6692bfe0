"""What a file says besides its pixels: read from Pillow's image, and made true for the result."""

from typing import Any

from PIL import Image, JpegImagePlugin

from irestore.images.exif import tells_resolution
from irestore.images.picture import JpegTables, Metadata

_EXIF_HEAD = b"Exif\0\0"
_IPTC_RESOURCE = 0x0404
# Keywords of PNG texts that are carried as XMP, EXIF and profile, corrected.
_CARRIED = ("XML:com.adobe.xmp", *(f"Raw profile type {kind}" for kind in ("exif", "APP1", "xmp", "icc", "icm")))
_NOT_KEPT = {  # of a JPEG's segments, by how they start
    b"http://ns.adobe.com/xmp/extension/": "the second part of its XMP, which is very long, was not kept",
    b"jumb": "its content credentials (C2PA) are only true for the original and were not kept",
}
# The luminance table of the JPEG standard, which libjpeg calls quality 50; here only its sum counts, not the order.
_LUMA: tuple[int, ...] = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29,
    51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120,
    101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip


def exif_of(image: Image.Image) -> bytes | None:
    """The EXIF block of an open image without its "Exif" mark, None where there is none."""
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        return exif.removeprefix(_EXIF_HEAD) or None
    raw = image.info.get("Raw profile type exif")  # PNG before it had an eXIf chunk: a head of three lines, then hex
    try:
        return bytes.fromhex("".join(str(raw).split("\n")[3:])).removeprefix(_EXIF_HEAD) or None
    except ValueError:
        return None


def read_metadata(image: Image.Image, oriented: bool, notes: list[str]) -> Metadata:
    """Everything but the pixels of a loaded image (PNG may have chunks behind them); notes on what is not kept."""
    info, resources = image.info, image.info.get("photoshop")
    segments = [content[:35] for name, content in getattr(image, "applist", ()) if name in ("APP1", "APP11")]
    notes.extend(note for start, note in _NOT_KEPT.items() if any(start in segment for segment in segments))
    return Metadata(
        icc=_bytes(info.get("icc_profile")),
        exif=exif_of(image),
        xmp=_bytes(info.get("xmp")),
        iptc=_bytes(resources.get(_IPTC_RESOURCE)) if isinstance(resources, dict) else None,
        dpi=_dpi(image),
        text={key: str(value) for key, value in getattr(image, "text", {}).items() if key not in _CARRIED},
        comment=_bytes(info.get("comment")),
        jpeg=_jpeg_tables(image),
        oriented=oriented,
    )


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    return value if isinstance(value, bytes) and value else None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    if not (isinstance(dpi, tuple) and len(dpi) == 2):
        return None
    if image.format in ("JPEG", "MPO") and not image.info.get("jfif_unit") and not tells_resolution(exif_of(image)):
        return None  # 72, Pillow's guess for EXIF without a resolution
    x, y = float(dpi[0]), float(dpi[1])
    return (x, y) if 1 <= x < 1e6 and 1 <= y < 1e6 else None  # a damaged file's NaN fails here too


def _jpeg_tables(image: Image.Image) -> JpegTables | None:
    tables = getattr(image, "quantization", None)
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not tables:
        return None
    ordered = tuple(tuple(tables[key]) for key in sorted(tables))
    if image.mode not in ("L", "RGB") or any(len(table) != 64 for table in ordered):
        return None
    return JpegTables(_quality(ordered[0]), ordered, JpegImagePlugin.get_sampling(image) if image.mode == "RGB" else -1)


def _quality(luma: tuple[int, ...]) -> int:
    """The highest quality on libjpeg's scale whose luminance table sums up to about that of `luma`."""

    def distance(quality: int) -> int:
        percent = 5000 // quality if quality < 50 else 200 - 2 * quality
        return abs(sum(min(max((value * percent + 50) // 100, 1), 255) for value in _LUMA) - sum(luma))

    return min(range(100, 0, -1), key=distance)
