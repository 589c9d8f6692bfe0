"""The border to Pillow's decoders: files that strangers made go in, a picture or a ReadError comes out.

Pillow's pixel limit and Python's warning filters belong to the whole process, but pictures are read in several threads
at once. So nothing is set for one picture and put back: hooks, set once, look up what the thread at hand asked for.
"""

import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from PIL import Image, PngImagePlugin

from irestore.errors import IrestoreError, ReadError

# What the reader in this thread asked for.
_limit: ContextVar[float | None] = ContextVar("limit", default=None)
_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)


class _Warnings:
    """Stands for the module `warnings` in Pillow's modules: what they say of a picture goes to its reader's notes."""

    def warn(self, message: Any, category: type[Warning] | None = None, stacklevel: int = 1, **options: Any) -> None:
        notes = _notes.get()
        if notes is None or category not in (None, UserWarning):
            warnings.warn(message, category, stacklevel + 1, **options)
        elif (note := summary(message)) not in notes:
            notes.append(note)

    def __getattr__(self, name: str) -> Any:
        return getattr(warnings, name)


_warnings, _pillows_check = _Warnings(), Image._decompression_bomb_check


def check_pixels(size: tuple[int, int], *, frames: int = 1, **others: Any) -> None:
    """Check whether so many pixels may be decoded in this thread; raises ReadError if not, or as Pillow otherwise."""
    limit = _limit.get()
    if limit is None:
        _pillows_check(size, **others)
    elif size[0] * size[1] * frames > limit:
        times = f" x {frames} frames" if frames > 1 else ""
        raise ReadError(
            f"{size[0]} x {size[1]} pixels{times} are more than the {limit} allowed; --max-pixels raises the limit"
        )


def set_hooks() -> None:
    """Have Pillow's modules, and those that add formats to it, ask here. Again after the import of such a module."""
    Image._decompression_bomb_check = check_pixels
    PngImagePlugin.MAX_TEXT_CHUNK = 16 * 2**20  # bytes; Pillow's 1 MiB refuses PNG files with large colour profiles
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("PIL", "pillow_heif", "pillow_jxl") and hasattr(module, "warnings"):
            vars(module)["warnings"] = _warnings


Image.init()
set_hooks()


@contextmanager
def pillow_errors(name: str, max_pixels: int, notes: list[str]) -> Iterator[None]:
    """Inside, Pillow obeys `max_pixels`, its warnings become notes, and whatever it raises becomes a ReadError."""
    _limit.set(max_pixels)
    _notes.set(notes)
    try:
        yield
    except ReadError as error:
        raise ReadError(f"{name}: {error}") from error
    except IrestoreError:
        raise
    except MemoryError as error:
        raise ReadError(f"{name}: too large for the memory of this machine") from error
    except Exception as error:  # decoders meet hostile bytes and raise nearly anything: SyntaxError, KeyError, ...
        raise ReadError(f"{name}: cannot be decoded ({summary(error)}); the file is damaged or incomplete") from error
    finally:
        _limit.set(None)
        _notes.set(None)


@contextmanager
def any_size() -> Iterator[None]:
    """Inside, Pillow decodes any number of pixels. For a picture whose size was checked, within `pillow_errors`."""
    before = _limit.set(math.inf)
    try:
        yield
    finally:
        _limit.reset(before)


def summary(error: object) -> str:
    """The text of an exception or warning on one line of at most 200 characters; its class where it has no text."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
