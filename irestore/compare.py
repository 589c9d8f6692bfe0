"""Pictures beside each other, at the same place: one page for a browser that needs no other file and no network."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irestore import images
from irestore.errors import UsageError, file_size, one_line
from irestore.images.screen import for_browser, to_screen
from irestore.images.write import whole_file

MOST = 9  # pictures at a time: each has a number key


@dataclass(frozen=True)
class Shown:
    """One of the pictures that are compared."""

    name: str
    samples: NDArray[np.uint8]  # (H, W, 3), as a screen shows them
    facts: str = ""  # said beside its size
    option: str = ""  # what to type to get it

    @property
    def size(self) -> str:
        """Width and height, for people."""
        return f"{self.samples.shape[1]} × {self.samples.shape[0]}"


def read(paths: Sequence[Path], max_pixels: int = images.MAX_PIXELS) -> list[Shown]:
    """The pictures of these files: upright, in sRGB, the first frame of several.

    Raises ReadError; UsageError for fewer than two or more than nine, and where the proportions differ.
    """
    if not 2 <= len(paths) <= MOST:
        raise UsageError(f"compare takes 2 to {MOST} pictures, not {len(paths)}: irestore compare before.png after.png")
    alike = len({path.name for path in paths}) < len(paths)
    shown: list[Shown] = []
    for path in paths:
        picture = images.load(path, images.LoadOptions(frames="first", max_pixels=max_pixels))
        size = file_size(path.stat().st_size)
        name = str(path) if alike else path.name
        shown.append(Shown(name, to_screen(picture), f"{picture.format.upper()}, {size}"))
        check_alike(shown[0], shown[-1])
    return shown


def check_alike(first: Shown, other: Shown) -> None:
    """Check that both have the same proportions, to a pixel of the smaller. Raises UsageError."""
    (height, width), (h, w) = (each.samples.shape[:2] for each in (first, other))
    if abs(w * height - width * h) > max(height, h):
        raise UsageError(
            f"{other.name} ({other.size}) does not have the proportions of {first.name} ({first.size}); "
            "compare pictures of the same view, of any size"
        )


def check_page(path: Path) -> None:
    """Check that the name is one of a page. Raises UsageError."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path}: a page ends in .html; write {path.with_suffix('.html')}")


def save_page(path: Path, heading: str, scenes: Iterable[tuple[str, Sequence[Shown]]], *, overwrite: bool) -> None:
    """Write a page that shows, for each scene (its name, its pictures), any two under a slider or all side by side.

    Scenes are taken one by one, so that no more than one need be in memory. Pictures of more than 8 megapixels are
    embedded as JPEG of quality 95, and the page says so; others without loss.
    Raises WriteError, also where the file exists and `overwrite` is false.
    """
    template = files("irestore").joinpath("page.html").read_text("utf-8")
    head, tail = template.split("{scenes}\n")
    with whole_file(path, overwrite) as stream:
        stream.write(head.replace("{heading}", escape(one_line(heading))).encode())
        for name, shown in scenes:
            stream.write(f'<section class="scene" aria-label="{escape(one_line(name))}" hidden>\n'.encode())
            for each in shown:
                stream.writelines(_figure(each))
            stream.write(b"</section>\n")
        stream.write(tail.encode())


def _figure(shown: Shown) -> Iterator[bytes]:
    name, option = escape(one_line(shown.name)), escape(one_line(shown.option))
    kind, content = for_browser(shown.samples)
    facts = ", ".join(filter(None, [shown.size, shown.facts, "shown as JPEG 95" if kind == "jpeg" else ""]))
    height, width = shown.samples.shape[:2]
    yield f'<figure data-width="{width}" data-height="{height}"><img alt="{name}" decoding="async" '.encode()
    yield f'draggable="false" src="data:image/{kind};base64,'.encode()
    yield base64.b64encode(content)
    yield f'"><figcaption><b>{name}</b><span class="facts">{escape(one_line(facts))}</span>'.encode()
    yield (f"<code>{option}</code>" if option else "").encode()
    yield b"</figcaption></figure>\n"
