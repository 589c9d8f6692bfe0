"""A picture file that Pillow reads: what its header says, and its frames. JPEG XL among them."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import BinaryIO

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
_AV1_DEEP, _AV1_TWELVE, _AV1_GREY = 0x40, 0x20, 0x10
_JP2_CODESTREAM = b"\xff\x4f\xff\x51"
_JP2_DEPTH_AT = 42  # bytes from the start of a JPEG 2000 codestream to the depth of its first component


def open_image(stream: BinaryIO, name: str = "") -> ImageFile.ImageFile:
    """Pillow's image of `stream`, header read and no pixel decoded. Call it inside `pillow_errors`."""
    stream.seek(0)
    head = stream.read(_HEADER_BYTES)
    stream.seek(0)
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
        file_format = _NAMES.get(kind, kind.lower())
        frames = 1 if kind in _SINGLE else int(getattr(image, "n_frames", 1))
        self._deep = _deep_reader(image, stream) if frames == 1 else None
        comment = image.info.get("comment") if kind == "GIF" else None
        at = stream.tell()
        self.info = Info(
            format=file_format,
            width=height if self._turn >= 5 else width,
            height=width if self._turn >= 5 else height,
            frames=frames,
            depth=16 if self._deep is not None or image.mode.startswith("I") else 8,
            has_alpha=image.has_transparency_data,
            file_bytes=stream.seek(0, 2),
            provenance=provenance_of_text(comment) if isinstance(comment, bytes) else provenance_of(exif_of(image)),
        )
        if kind == "PNG":
            png.check_data(stream, self.info.file_bytes)
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
        for i in range(count):
            if count > 1:
                image.seek(i)
            promised = image.size
            decoded = self._decoded()
            found = decoded.colour.shape[1::-1]
            if image.format == "HEIF" and found != promised:
                raise ReadError(
                    f"its header promises {promised[0]} x {promised[1]} pixels, its data are {found[0]} x {found[1]}; "
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
        metadata = read_metadata(self._image, self._turn != 1, self._notes)
        if self.info.format == "png":
            metadata = dataclasses.replace(metadata, png_colour=png.colour_chunks(self._stream, self._notes))
        elif self.info.format == "webp":
            metadata = dataclasses.replace(metadata, lossless=_is_lossless_webp(self._stream))
        if count == 1:
            return metadata
        info = self._image.info
        # A GIF without a count plays once, an APNG or WebP without one for ever.
        loop = int(info.get("loop", 1 if self.info.format == "gif" else 0))
        return dataclasses.replace(metadata, duration=float(info.get("duration", 0)), loop=loop)

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


def _true_kind(image: ImageFile.ImageFile, stream: BinaryIO) -> tuple[int, bool]:
    """Bits a sample in the file, where Pillow gives 8, else 0; and whether an AVIF is grey, which Pillow may hide."""
    bits = 0 if image.mode.startswith(("I", "F")) else 16 if ";16" in png.raw_mode(image) else 8
    if image.format not in ("AVIF", "JPEG2000"):
        return bits, False
    at = stream.tell()
    stream.seek(0)
    header = stream.read(_HEADER_BYTES)
    stream.seek(at)
    if image.format == "AVIF":  # the codec configuration (AV1-ISOBMFF, section 2.3.3)
        found = re.search(rb"av1C..(.)", header, re.DOTALL)
        flags = found[1][0] if found else 0
        bits = (12 if flags & _AV1_TWELVE else 10) if flags & _AV1_DEEP else 8
        return bits, bool(flags & _AV1_GREY) and image.mode == "RGB"
    at = header.find(_JP2_CODESTREAM)
    if bits and 0 <= at < len(header) - _JP2_DEPTH_AT:
        bits = (header[at + _JP2_DEPTH_AT] & 0x7F) + 1
    return bits, False


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
    content = stream.read(width * height * 3 * kind.itemsize)
    if len(content) < width * height * 3 * kind.itemsize:
        raise EOFError("its pixels end too early")
    samples = np.frombuffer(content, kind).reshape(height, width, 3)
    return Decoded(to_samples(samples.astype(np.float32) / np.float32(peak), 16))


def _heif(stream: BinaryIO) -> Decoded:
    """HEIC of 10 or 12 bits a sample, at 16."""
    stream.seek(0)
    samples = np.asarray(import_module("pillow_heif").open_heif(stream, convert_hdr_to_8bit=False, hdr_to_16bit=True))
    with_alpha = samples.ndim == 3 and samples.shape[2] == 4
    return Decoded(samples[..., :3], samples[..., 3]) if with_alpha else Decoded(samples)


def _is_lossless_webp(stream: BinaryIO) -> bool:
    """Whether the first frame's data are of WebP's lossless kind."""
    stream.seek(12)
    while len(head := stream.read(8)) == 8:
        if head[:4] in (b"VP8 ", b"VP8L"):
            return head[:4] == b"VP8L"
        length = int.from_bytes(head[4:], "little")
        stream.seek(16 if head[:4] == b"ANMF" else length + length % 2, 1)  # into a frame, over all else
    return False


class JxlFile(PillowFile):
    """An open JPEG XL file. Pillow's plugin decodes it as it opens it, so that waits until pixels are asked for."""

    def __init__(self, stream: BinaryIO, name: str, notes: list[str]) -> None:
        need("pillow_jxl", "JPEG XL", "jxl")
        self._stream, self._notes, self._deep = stream, notes, None
        self.info, bits = jxl.header(stream)
        if bits > self.info.depth:
            notes.append(f"its samples of {bits} bits were read as {self.info.depth}")

    def close(self) -> None:
        """Nothing is open between two calls."""

    def pictures(self) -> Iterator[Picture]:
        """The one picture."""
        with open_image(self._stream) as self._image:
            yield from super().pictures()
