"""A picture file that Pillow reads: what its header says, and its frames. JPEG XL among them."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from irestore.errors import ReadError, install_command
from irestore.images import jxl, png
from irestore.images.exif import orientation, provenance_of, provenance_of_text
from irestore.images.formats import FORMATS
from irestore.images.metadata import exif_of, read_metadata
from irestore.images.picture import Info, Metadata, Picture
from irestore.images.pillow_errors import set_hooks
from irestore.images.samples import Decoded, decode, to_samples

# Formats with a signature. Not EPS (it runs Ghostscript), nor formats whose openers guess: TGA only by its suffix.
_OPENED = (
    *("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "DIB", "GIF", "AVIF", "JPEG2000", "PPM", "ICO", "CUR", "ICNS"),
    *("PCX", "DCX", "SGI", "QOI", "SUN", "PSD", "DDS", "XBM", "XPM", "HEIF", "JXL"),
)
_TGA_SUFFIXES = (".tga", ".icb", ".vda", ".vst")
_LOSSY = {"JPEG", "MPO", "AVIF", "HEIF"}  # but for rare settings, which their headers do not tell
_NAMES = {"MPO": "jpg"} | {row.pillow: name for name, row in FORMATS.items()}  # Pillow's -> ours
_STARTS = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"RIFF": "WebP",
    b"II*": "TIFF",
    b"MM\0*": "TIFF",
}
_HEIC, _HEIC_OR_AVIF = (b"heic", b"heix", b"hevc", b"heim", b"heis"), (b"mif1", b"msf1")
_SINGLE = ("MPO", "HEIF", "PSD")  # further frames are previews or layers
_TURNED = ("HEIF", "JXL")  # their decoders turn the pixels upright themselves
_HEADER_BYTES = 2**16
_AV1_SETTINGS = rb"av1C..(.)"  # (AV1-ISOBMFF, section 2.3.3)
_AV1_DEEP, _AV1_TWELVE, _AV1_GREY = 0x40, 0x20, 0x10
_JP2_DEPTH = rb"\xff\x4f\xff\x51.{38}(.)"  # of the first component, 42 bytes into a JPEG 2000 codestream


def open_image(stream: BinaryIO, name: str = "") -> ImageFile.ImageFile:
    """Pillow's image of `stream`, header read and no pixel decoded. Call it inside `pillow_errors`."""
    head = _header(stream)
    if head[4:8] == b"ftyp" and (head[8:12] in _HEIC or (head[8:12] in _HEIC_OR_AVIF and b"avif" not in head[16:4096])):
        need("pillow_heif", "HEIC", "heic")
        import_module("pillow_heif").register_heif_opener()
    formats = (*_OPENED, "TGA") if name.lower().endswith(_TGA_SUFFIXES) else _OPENED
    try:
        return Image.open(stream, formats=[known for known in formats if known in Image.OPEN])
    except UnidentifiedImageError as error:
        kind = next((kind for start, kind in _STARTS.items() if head.startswith(start)), None)
        if kind is None:
            raise ReadError("not a picture of a format that can be read") from error
        raise ReadError(f"a {kind} of a kind that cannot be read, or damaged at its very start") from error


def _header(stream: BinaryIO) -> bytes:
    """The first bytes of the stream, which then is at its start."""
    stream.seek(0)
    head = stream.read(_HEADER_BYTES)
    stream.seek(0)
    return head


def need(module: str, kind: str, extra: str) -> None:
    """Import a module that adds a format to Pillow; raises ReadError where it is not installed."""
    try:
        import_module(module)
    except ImportError as error:
        raise ReadError(f"reading {kind} needs an extra: {install_command(extra)}") from error
    set_hooks()


class PillowFile:
    """One open file. Use it inside `pillow_errors`: any method may raise whatever Pillow raises."""

    def __init__(self, stream: BinaryIO, name: str, notes: list[str]) -> None:
        self._stream, self._notes = stream, notes
        self._image = image = open_image(stream, name)
        kind, (width, height) = image.format or "unknown", image.size
        frames = 1 if kind in _SINGLE else int(getattr(image, "n_frames", 1))
        self._deep = _deep_reader(image, stream) if frames == 1 else None
        self._first = int(frames > 1 and bool(image.info.get("default_image")))  # of an APNG: stands for all of them
        frames -= self._first
        comment = image.info.get("comment") if kind == "GIF" else None
        at = stream.tell()
        self.info = Info(
            format=_NAMES.get(kind, kind.lower()),
            width=height if self._turn >= 5 else width,
            height=width if self._turn >= 5 else height,
            frames=frames,
            depth=16 if self._deep is not None or image.mode.startswith("I") else 8,
            has_alpha=image.has_transparency_data,
            lossy=kind in _LOSSY or (kind == "WEBP" and not self._is_lossless_webp()),
            provenance=provenance_of_text(comment) if isinstance(comment, bytes) else provenance_of(exif_of(image)),
        )
        if kind == "PNG":
            png.check_data(stream)
        stream.seek(at)

    def close(self) -> None:
        """Free the decoder; the stream stays open."""
        self._image.close()

    def pictures(self) -> Iterator[Picture]:
        """The frames, each composed over those before it where the format asks for that."""
        image, count = self._image, self.info.frames
        if image.format == "PSD":
            self._notes.append("only its merged picture was read, not its layers")
        elif image.format in _SINGLE and getattr(image, "n_frames", 1) > 1:
            self._notes.append("it has further pictures behind the photograph, which were not kept")
        if self._first:
            self._notes.append("its separate picture for viewers without animation was not kept")
        for i in range(self._first, self._first + count):
            if self._first + count > 1:
                image.seek(i)
            width, height = image.size
            decoded = self._decoded()
            rows, columns = decoded.colour.shape[:2]
            if image.format == "HEIF" and (columns, rows) != (width, height):
                raise ReadError(
                    f"its header promises {width} x {height} pixels, its data are {columns} x {rows}; "
                    "the file is damaged"
                )
            at = self._stream.tell()
            if image.format == "PNG" and i == 0 and not image.info.get("default_image"):
                png.check_end(image, self._stream)
            metadata = self._metadata(count)
            self._stream.seek(at)
            yield decoded.picture(self._turn, self.info.format, metadata)

    @property
    def _turn(self) -> int:
        return 1 if self._image.format in _TURNED else orientation(exif_of(self._image))

    def _metadata(self, count: int) -> Metadata:
        info, kind = self._image.info, self.info.format
        more: dict[str, Any] = {}
        if kind == "png":
            more["png_colour"] = png.colour_chunks(self._stream, self._notes)
        elif kind == "webp":  # by its first frame's data
            more["lossless"] = self._is_lossless_webp()
        if count > 1:
            more |= {"duration": float(info.get("duration", 0)), "loop": _plays(kind, info.get("loop"))}
        return dataclasses.replace(read_metadata(self._image, self._notes), **more)

    def _is_lossless_webp(self) -> bool:
        found = re.search(rb"VP8[ L]", _header(self._stream))
        return found is not None and found[0] == b"VP8L"

    def _decoded(self) -> Decoded:
        if self._deep is not None:
            return self._deep()
        image = self._image
        bits, grey = _true_kind(image, self._stream)
        if bits > 8:
            self._notes.append(f"its samples of {bits} bits were read as 8")
        image.load()
        decoded = decode(image, self._notes)
        return Decoded(decoded.colour[..., 0], decoded.alpha) if grey and decoded.colour.ndim == 3 else decoded


def _plays(kind: str, loop: int | None) -> int:
    """How often an animation is played, 0 for ever. A GIF counts the times after the first, and may say nothing."""
    if kind != "gif":
        return int(loop or 0)
    return 1 if loop is None else loop and loop + 1


def _true_kind(image: ImageFile.ImageFile, stream: BinaryIO) -> tuple[int, bool]:
    """Bits a sample in the file, where Pillow gives 8, else 0; and whether an AVIF is grey, which Pillow may hide."""
    bits = 0 if image.mode.startswith(("I", "F")) else 16 if ";16" in png.raw_mode(image) else 8
    if image.format == "PPM" and image.mode == "RGB" and image.tile[0][0] == "ppm_plain":  # its maximum
        return int(image.tile[0].args[1]).bit_length(), False  # type: ignore[index]
    if image.format not in ("AVIF", "JPEG2000"):
        return bits, False
    at = stream.tell()
    found = re.search(_AV1_SETTINGS if image.format == "AVIF" else _JP2_DEPTH, _header(stream), re.DOTALL)
    stream.seek(at)
    flags = found[1][0] if found else 0
    if image.format == "JPEG2000":
        return (flags & 0x7F) + 1 if bits and found else bits, False
    bits = (12 if flags & _AV1_TWELVE else 10) if flags & _AV1_DEEP else 8
    return bits, bool(flags & _AV1_GREY) and image.mode == "RGB"


def _deep_reader(image: ImageFile.ImageFile, stream: BinaryIO) -> Callable[[], Decoded] | None:
    """What reads all bits of samples that have more than 8, where Pillow does not."""
    if image.format == "PNG" and png.is_deep(image):
        return lambda: png.decoded(image, lambda: open_image(stream))
    if image.format == "PPM" and image.mode == "RGB" and image.tile[0][0] == "ppm":
        return lambda: _ppm(image, stream)
    if image.format == "HEIF" and int(image.info.get("bit_depth", 8)) > 8:
        return lambda: _heif(stream)
    return None


def _ppm(image: ImageFile.ImageFile, stream: BinaryIO) -> Decoded:
    """RGB of more or less than 8 bits: numbers, high byte first, scaled from the file's own maximum to 65535."""
    tile, (width, height) = image.tile[0], image.size
    peak = int(tile.args[1])  # type: ignore[index]
    kind = np.dtype(">u2" if peak > 255 else "u1")
    stream.seek(tile.offset)
    samples = np.frombuffer(stream.read(width * height * 3 * kind.itemsize), kind).reshape(height, width, 3)
    return Decoded(to_samples(samples.astype(np.float32) / np.float32(peak), 16))


def _heif(stream: BinaryIO) -> Decoded:
    """HEIC of 10 or 12 bits a sample, at 16."""
    stream.seek(0)
    samples = np.asarray(import_module("pillow_heif").open_heif(stream, convert_hdr_to_8bit=False, hdr_to_16bit=True))
    with_alpha = samples.ndim == 3 and samples.shape[2] == 4
    return Decoded(samples[..., :3], samples[..., 3]) if with_alpha else Decoded(samples)


class JxlFile(PillowFile):
    """An open JPEG XL file. Pillow's plugin decodes it as it opens it, so that waits until pixels are asked for."""

    def __init__(self, stream: BinaryIO, name: str, notes: list[str]) -> None:
        need("pillow_jxl", "JPEG XL", "jxl")
        self._stream, self._notes, self._deep, self._first = stream, notes, None, 0
        self.info, bits = jxl.header(stream)
        if bits > self.info.depth:
            notes.append(f"its samples of {bits} bits were read as {self.info.depth}")

    def close(self) -> None:
        """Nothing is open between two calls."""

    def pictures(self) -> Iterator[Picture]:
        """The one picture."""
        with open_image(self._stream) as self._image:
            yield from super().pictures()
