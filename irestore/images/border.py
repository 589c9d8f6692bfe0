"""The border to Pillow's decoders: files that strangers made go in, a picture or a ReadError comes out."""

import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from ..errors import IrestoreError, ReadError, UsageError
from . import jxl

Source = str | os.PathLike[str] | BinaryIO
"""A path, or an open binary stream such as standard input."""

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
_HEADER_BYTES = 4096
_TEXT_LIMIT = 16 * 2**20  # bytes; Pillow's own 1 MiB refuses PNG files with large colour profiles
_LOCK = threading.RLock()  # Pillow's limits and Python's warning filters are global: one reader at a time


@contextmanager
def foreign(name: str, max_pixels: int, notes: list[str]) -> Iterator[None]:
    """Inside, Pillow obeys `max_pixels`, its warnings become notes, and whatever it raises becomes a ReadError.

    Pillow's limits are module globals: they are set under a lock and put back at the end.
    """
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = max_pixels, _TEXT_LIMIT
        try:
            yield
        except IrestoreError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            found = re.search(r"\((\d+) pixels\)", str(error))
            count = found[1] if found else "its"
            raise ReadError(
                f"{name}: {count} pixels are more than the {max_pixels} allowed; raise the limit to read it"
            ) from error
        except MemoryError as error:
            raise ReadError(f"{name}: too large for the memory of this machine") from error
        except Exception as error:  # decoders meet hostile bytes and raise nearly anything: SyntaxError, KeyError, ...
            raise ReadError(
                f"{name}: cannot be decoded ({one_line(error)}); the file is damaged or incomplete"
            ) from error
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = before
            notes.extend(
                note for w in caught if w.category is UserWarning and (note := one_line(w.message)) not in notes
            )


@contextmanager
def wider(times: int) -> Iterator[None]:
    """Inside, Pillow allows that many times the pixels. Only within `foreign`, for a picture whose size was checked."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None if before is None else before * times
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def one_line(error: object) -> str:
    """The text of an exception or warning on one line of at most 200 characters; its class where it has no text."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


@contextmanager
def opened(source: Source, max_bytes: int) -> Iterator[tuple[BinaryIO, str]]:
    """A seekable stream on `source` and the name that errors call it by; raises ReadError for what cannot be opened.

    A stream or a pipe is read to its end, at most `max_bytes` of it.
    """
    if not isinstance(source, (str, os.PathLike)):
        given = getattr(source, "name", None)
        name = given if isinstance(given, str) else "<stdin>"
        yield _whole(source, name, max_bytes), name
        return
    name = os.fspath(source)
    try:
        stream = Path(source).open("rb")  # noqa: SIM115 closed below: an error while decoding is not one of opening
    except (OSError, ValueError) as error:
        raise ReadError(f"{name}: {_why(error)}") from error
    with stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            yield _whole(stream, name, max_bytes), name
        elif status.st_size == 0:
            raise ReadError(f"{name}: the file is empty")
        else:
            yield stream, name


def _whole(stream: BinaryIO, name: str, max_bytes: int) -> BinaryIO:
    try:
        content = stream.read(max_bytes + 1)
    except OSError as error:
        raise ReadError(f"{name}: {_why(error)}") from error
    if len(content) > max_bytes:
        raise ReadError(f"{name}: more than {max_bytes} bytes, no picture within the pixel limit is that large")
    if not content:
        raise ReadError(f"{name}: no data")
    return io.BytesIO(content)


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a picture"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
    return f"cannot be opened ({reason})"


def open_image(stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Pillow's image of `stream`, header read and no pixel decoded. Call it inside `foreign`."""
    head = stream.read(_HEADER_BYTES)
    stream.seek(0)
    _register(head, name)
    _check_jxl(head, name)
    formats = (*_OPENED, "TGA") if name.lower().endswith(_TGA_SUFFIXES) else _OPENED
    Image.init()
    try:
        return Image.open(stream, formats=[known for known in formats if known in Image.OPEN])
    except UnidentifiedImageError as error:
        kind = next((kind for start, kind in _STARTS.items() if head.startswith(start)), None)
        if kind is None:
            raise ReadError(f"{name}: not a picture of a format that can be read") from error
        raise ReadError(f"{name}: a {kind} of a kind that cannot be read, or damaged at its very start") from error


def _register(head: bytes, name: str) -> None:
    """Make Pillow know the format of `head` if an extra reads it; raises ReadError where that is not installed."""
    try:
        if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
            if head[8:12] in (b"mif1", b"msf1") and b"avif" in head[16:]:
                return
            import_module("pillow_heif").register_heif_opener()
        elif head.startswith((b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")):
            import_module("pillow_jxl")
    except ImportError as error:
        kind, extra = ("HEIC", "heic") if head[4:8] == b"ftyp" else ("JPEG XL", "jxl")
        raise ReadError(f"{name}: reading {kind} needs an extra: pip install 'irestore[{extra}]'") from error


def _check_jxl(head: bytes, name: str) -> None:
    """Stop before a JPEG XL file is opened, which would decode it: if it is too large, or one frame of several."""
    found = jxl.header(head)
    if found is None:
        return
    if found.animated:
        raise ReadError(f"{name}: is an animated JPEG XL, which cannot be read; convert it to APNG first")
    if Image.MAX_IMAGE_PIXELS is not None and found.width * found.height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"({found.width * found.height} pixels)")


def need_jxl() -> None:
    """Nothing, if JPEG XL can be written; else raises UsageError that names the extra."""
    try:
        import_module("pillow_jxl")
    except ImportError as error:
        raise UsageError("writing JPEG XL needs an extra: pip install 'irestore[jxl]'") from error
