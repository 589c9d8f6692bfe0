"""A picture file that Pillow reads: what its header says, and its frames. JPEG XL among them."""

import dataclasses
import re
from collections.abc import Iterator
from importlib import import_module
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from irestore.errors import ReadError
from irestore.images import jxl, png
from irestore.images.exif import orientation, provenance_of, provenance_of_text
from irestore.images.metadata import exif_of, format_name, read_metadata
from irestore.images.picture import Info, Metadata, Picture
from irestore.images.samples import Decoded, decode, to_samples

# Formats with a signature. Not EPS (it runs Ghostscript), nor formats whose openers guess: TGA only by its suffix.
_OPENED = (
    *("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "DIB", "GIF", "AVIF", "JPEG2000", "PPM", "ICO", "CUR", "ICNS"),
    *("PCX", "DCX", "SGI", "QOI", "SUN", "PSD", "DDS", "XBM", "XPM", "HEIF", "JXL"),
)
_TGA_SUFFIXES = (".tga", ".icb", ".vda", ".vst")
_STARTS = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"RIFF": "WebP",
    b"II*": "TIFF",
    b"MM\0*": "TIFF",
}
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_BEHIND = {  # what further frames are, in formats of one picture
    "MPO": "further pictures behind the photograph", "HEIF": "further pictures behind the photograph", "PSD": "layers",
}  # fmt: skip
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
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS and not (head[9:12] == b"if1" and b"avif" in head[16:4096]):
        need("pillow_heif", "HEIC", "heic")
        import_module("pillow_heif").register_heif_opener()
    formats = (*_OPENED, "TGA") if name.lower().endswith(_TGA_SUFFIXES) else _OPENED
    Image.init()
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
        raise ReadError(f"reading {kind} needs an extra: pip install 'irestore[{extra}]'") from error


class PillowFile:
    """One open file. Use it inside `pillow_errors`: any method may raise whatever Pillow raises."""

    info: Info

    def __init__(self, stream: BinaryIO, name: str, notes: list[str]) -> None:
        self._stream, self._notes = stream, notes
        self._image = image = open_image(stream, name)
        frames = 1 if image.format in _BEHIND else int(getattr(image, "n_frames", 1))
        file_format, (width, height) = format_name(image), image.size
        deep = frames == 1 and image.format == "PNG" and png.raw_mode(image).endswith(";16B")
        comment = image.info.get("comment") if file_format == "gif" else None
        at = stream.tell()
        self.info = Info(
            format=file_format,
            width=height if self._turn >= 5 else width,
            height=width if self._turn >= 5 else height,
            frames=frames,
            depth=16 if deep or image.mode.startswith("I") or self._deep_ppm or self._deep_heif else 8,
            has_alpha=image.has_transparency_data,
            file_bytes=stream.seek(0, 2),
            provenance=provenance_of_text(comment) if isinstance(comment, bytes) else provenance_of(exif_of(image)),
        )
        if image.format == "PNG":
            png.check_data(stream, self.info.file_bytes)
        stream.seek(at)

    def close(self) -> None:
        """Free the decoder; the stream stays open."""
        self._image.close()

    def pictures(self) -> Iterator[Picture]:
        """The frames, each composed over those before it where the format asks for that."""
        image, count = self._image, self.info.frames
        if image.format in _BEHIND and getattr(image, "n_frames", 1) > 1:
            self._notes.append(f"it has {_BEHIND[image.format]}, which were not kept")
        for i in range(count):
            if count > 1:
                image.seek(i)
            promised = image.size
            decoded = self._decoded(alone=count == 1)
            height, width = decoded.colour.shape[:2]
            if image.format == "HEIF" and (width, height) != promised:
                raise ReadError(
                    f"its header promises {promised[0]} x {promised[1]} pixels, its data are {width} x {height}; "
                    "the file is damaged"
                )
            if image.format == "PNG" and i == 0 and not image.info.get("default_image"):
                png.check_end(image, self._stream)
            yield decoded.picture(self._turn, self.info.format, self._metadata(count))

    @property
    def _turn(self) -> int:
        return 1 if self._image.format in _TURNED else orientation(exif_of(self._image))

    def _metadata(self, count: int) -> Metadata:
        metadata = read_metadata(self._image, self._turn != 1, self._notes)
        at = self._stream.tell()
        if self.info.format == "png":
            metadata = dataclasses.replace(metadata, png_colour=png.colour_chunks(self._stream, self._notes))
        elif self.info.format == "webp":
            metadata = dataclasses.replace(metadata, lossless=self._lossless_webp())
        self._stream.seek(at)
        if count == 1:
            return metadata
        info = self._image.info
        # A GIF without a count plays once, an APNG or WebP without one for ever.
        loop = int(info.get("loop", 1 if self.info.format == "gif" else 0))
        return dataclasses.replace(metadata, duration=float(info.get("duration", 0)), loop=loop)

    def _decoded(self, alone: bool) -> Decoded:
        image = self._image
        deep = None
        if alone:
            deep = png.decoded(image, lambda: open_image(self._stream)) if image.format == "PNG" else None
            deep = self._ppm() if self._deep_ppm else self._heif() if self._deep_heif else deep
        if deep is not None:
            return deep
        if (bits := self._cut_bits()) > 8:
            self._notes.append(f"its samples of {bits} bits were read as 8")
        image.load()
        decoded = decode(image, self._notes)
        if image.format == "AVIF" and image.mode == "RGB" and self._av1_flags() & _AV1_GREY:  # Pillow before 13
            decoded.colour = decoded.colour[..., 0]
        return decoded

    def _cut_bits(self) -> int:
        """Bits a sample in the file, where Pillow will give 8."""
        image = self._image
        if image.mode.startswith(("I", "F")):
            return 0
        if image.format == "AVIF":
            flags = self._av1_flags()
            return (12 if flags & _AV1_TWELVE else 10) if flags & _AV1_DEEP else 8
        if image.format == "JPEG2000":
            header = self._header()
            at = header.find(_JP2_CODESTREAM)
            return (header[at + _JP2_DEPTH_AT] & 0x7F) + 1 if 0 <= at < len(header) - _JP2_DEPTH_AT else 8
        return 16 if ";16" in png.raw_mode(image) else 8

    def _av1_flags(self) -> int:
        """Of an AVIF's codec configuration (AV1-ISOBMFF, section 2.3.3), the byte that holds the kind of samples."""
        found = re.search(rb"av1C..(.)", self._header(), re.DOTALL)
        return found[1][0] if found else 0

    def _header(self) -> bytes:
        self._stream.seek(0)
        return self._stream.read(_HEADER_BYTES)

    def _lossless_webp(self) -> bool:
        """Whether the first frame's data are of WebP's lossless kind."""
        self._stream.seek(12)
        while len(head := self._stream.read(8)) == 8:
            if head[:4] in (b"VP8 ", b"VP8L"):
                return head[:4] == b"VP8L"
            length = int.from_bytes(head[4:], "little")
            self._stream.seek(16 if head[:4] == b"ANMF" else length + length % 2, 1)  # into a frame, over all else
        return False

    @property
    def _deep_ppm(self) -> bool:
        tile = self._image.tile[:1]
        return self._image.format == "PPM" and bool(tile) and tile[0][0] == "ppm" and self._image.mode == "RGB"

    def _ppm(self) -> Decoded:
        """RGB of more or less than 8 bits: numbers, high byte first, scaled from the file's own maximum to 65535."""
        tile, (width, height) = self._image.tile[0], self._image.size
        peak = int(tile.args[1])  # type: ignore[index]
        kind = np.dtype(">u2" if peak > 255 else "u1")
        self._stream.seek(tile.offset)
        content = self._stream.read(width * height * 3 * kind.itemsize)
        if len(content) < width * height * 3 * kind.itemsize:
            raise EOFError("its pixels end too early")
        samples = np.frombuffer(content, kind).reshape(height, width, 3)
        return Decoded(to_samples(samples.astype(np.float32) / np.float32(peak), 16))

    @property
    def _deep_heif(self) -> bool:
        return self._image.format == "HEIF" and int(self._image.info.get("bit_depth", 8)) > 8

    def _heif(self) -> Decoded:
        """HEIC of 10 or 12 bits a sample, at 16."""
        heif = import_module("pillow_heif")
        self._stream.seek(0)
        samples = np.asarray(heif.open_heif(self._stream, convert_hdr_to_8bit=False, hdr_to_16bit=True))
        if samples.ndim == 3 and samples.shape[2] == 4:
            return Decoded(samples[..., :3], samples[..., 3])
        return Decoded(samples)


class JxlFile(PillowFile):
    """An open JPEG XL file. Pillow's plugin decodes it as it opens it, so that waits until pixels are asked for."""

    def __init__(self, stream: BinaryIO, name: str, notes: list[str]) -> None:
        need("pillow_jxl", "JPEG XL", "jxl")
        self._stream, self._notes = stream, notes
        header = jxl.header(stream)
        if header.animated:
            raise ReadError("is an animated JPEG XL, which cannot be read; convert it to APNG first")
        self._bits = header.depth
        depth, tag = 16 if header.grey and header.depth > 8 else 8, provenance_of(header.exif)
        size = stream.seek(0, 2)
        self.info = Info("jxl", header.width, header.height, 1, depth, header.has_alpha, size, tag)

    def close(self) -> None:
        """Nothing is open between two calls."""

    def pictures(self) -> Iterator[Picture]:
        """The one picture."""
        if self._bits > self.info.depth:
            self._notes.append(f"its samples of {self._bits} bits were read as {self.info.depth}")
        with open_image(self._stream) as self._image:
            yield from super().pictures()
