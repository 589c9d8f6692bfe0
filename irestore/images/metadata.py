"""What a file says besides its pixels, as Pillow's image has it."""

from typing import Any

from PIL import Image, JpegImagePlugin

from irestore.images.exif import resolution, sensible
from irestore.images.picture import JpegTables, Metadata

_EXIF_HEAD = b"Exif\0\0"
_IPTC_RESOURCE = 0x0404
# Keywords of PNG texts that are carried as XMP, EXIF and profile, corrected.
_CARRIED = ("XML:com.adobe.xmp", *(f"Raw profile type {kind}" for kind in ("exif", "APP1", "xmp", "icc", "icm")))
_NOT_KEPT = {  # of a JPEG's segments, by how they start
    b"http://ns.adobe.com/xmp/extension/": "the second part of its XMP, which is very long, was not kept",
    b"jumb": "its content credentials (C2PA) are only true for the original and were not kept",
}
_LUMA_SUM = 3688  # of the JPEG standard's luminance table, which libjpeg calls quality 50


def exif_of(image: Image.Image) -> bytes | None:
    """The EXIF block of an open image without its "Exif" mark, None where there is none."""
    exif = image.info.get("exif")
    try:
        if not isinstance(exif, bytes):  # PNG before it had an eXIf chunk: a head of three lines, then hexadecimal
            exif = bytes.fromhex("".join(str(image.info.get("Raw profile type exif")).split("\n")[3:]))
    except ValueError:
        return None
    return exif.removeprefix(_EXIF_HEAD) or None


def read_metadata(image: Image.Image, notes: list[str]) -> Metadata:
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
    )


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    return value if isinstance(value, bytes) and value else None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    if image.format in ("JPEG", "MPO") and not image.info.get("jfif_unit") and not resolution(exif_of(image)):
        return None  # 72, Pillow's guess for EXIF without a resolution
    return sensible(*map(float, image.info.get("dpi", (0, 0))))


def _jpeg_tables(image: Image.Image) -> JpegTables | None:
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode not in ("L", "RGB"):
        return None
    tables = tuple(tuple(table) for _, table in sorted(image.quantization.items()))
    if not tables or any(len(table) != 64 for table in tables):
        return None
    percent = 100 * sum(tables[0]) / _LUMA_SUM
    quality = round(max((200 - percent) / 2 if percent < 100 else 5000 / percent, 1))
    return JpegTables(quality, tables, JpegImagePlugin.get_sampling(image) if image.mode == "RGB" else -1)
