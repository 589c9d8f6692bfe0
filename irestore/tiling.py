"""Where tiles lie: Box, Padding (what a map shows beyond its edge), Tiling (how a run is cut, computed and kept)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from irestore.errors import OutOfMemoryError
from irestore.scratch import Store
from irestore.statistics import Products, Statistics

T = TypeVar("T")
Sums = TypeVar("Sums", Statistics, Products)


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: rows top..bottom-1, columns left..right-1. It may reach beyond the image."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def pixels(self) -> int:
        """Rows times columns."""
        return self.height * self.width

    def grow(self, by: int) -> Box:
        """The box with `by` more pixels on all four sides."""
        return Box(self.top - by, self.left - by, self.bottom + by, self.right + by)

    def clip(self, height: int, width: int) -> Box:
        """The part of the box inside an image of that size."""
        return Box(max(self.top, 0), max(self.left, 0), min(self.bottom, height), min(self.right, width))

    def within(self, outer: Box) -> tuple[slice, slice]:
        """Rows and columns of this box in a tensor that holds `outer`."""
        rows = slice(self.top - outer.top, self.bottom - outer.top)
        return rows, slice(self.left - outer.left, self.right - outer.left)

    def scaled(self, by: Fraction | int) -> Box:
        """The same rectangle in a map of `by` times the size; raises ValueError where a side is no whole pixel."""
        sides = [side * by for side in (self.top, self.left, self.bottom, self.right)]
        if any(Fraction(side).denominator != 1 for side in sides):
            raise ValueError(f"{self} times {by} does not fall on whole pixels")
        return Box(*(int(side) for side in sides))

    def cut(self, height: int, width: int) -> Iterator[Box]:
        """Boxes of that size, row by row, that cover this one; the last of a row or column may be smaller."""
        for top in range(self.top, self.bottom, height):
            for left in range(self.left, self.right, width):
                yield Box(top, left, min(top + height, self.bottom), min(left + width, self.right))


@dataclass(frozen=True)
class Padding:
    """An enlargement of the map by `before` pixels at the top and left, and up to a multiple at the bottom and right.

    `mode` says what stands outside the image: "reflect" (without the edge pixel itself), "circular" or "constant"
    (zero), as in torch.nn.functional.pad. Tiles are cut from the enlarged map's origin: so shifted windows
    stay whole.
    """

    before: int
    multiple: int
    mode: str

    def around(self, image: Box) -> Box:
        """The enlarged image."""
        bottom = round_up(image.bottom + self.before, self.multiple) - self.before
        right = round_up(image.right + self.before, self.multiple) - self.before
        return Box(image.top - self.before, image.left - self.before, bottom, right)

    def read(self, data: Tensor, box: Box) -> Tensor:
        """The pixels (B, h, w, C) of `data` (B, H, W, C) under a box that may reach beyond it."""
        height, width = data.shape[1], data.shape[2]
        if self.mode == "constant":
            inside = box.clip(height, width)
            outside = (
                inside.left - box.left,
                box.right - inside.right,
                inside.top - box.top,
                box.bottom - inside.bottom,
            )
            tile = data[:, inside.top : inside.bottom, inside.left : inside.right]
            return F.pad(tile, (0, 0, *outside))
        rows = _folded(torch.arange(box.top, box.bottom, device=data.device), height, self.mode)
        columns = _folded(torch.arange(box.left, box.right, device=data.device), width, self.mode)
        return data.index_select(1, rows).index_select(2, columns)


def _folded(index: Tensor, size: int, mode: str) -> Tensor:
    """Indices brought back into 0..size-1 by reflection or by going round."""
    if mode == "circular":
        return index % size
    if mode != "reflect":
        raise ValueError(f"mode {mode!r}: must be reflect, circular or constant")
    period = max(2 * (size - 1), 1)
    index = index.abs() % period
    return torch.minimum(index, period - index) if size > 1 else torch.zeros_like(index)


class Tiling:
    """How the Fields of one run are cut, where they are computed and where they are kept.

    `tile` is (height, width) in pixels of the input, or None for the whole map at once; it is rounded up to `multiple`
    (the attention window). `tail` is the same where the result is larger than the input, by default as much smaller
    than `tile` as the result is larger. Both get smaller when a tile does not fit into memory, and stay so for the next
    map and the next image. `storage` is where whole maps lie: "device", "host" or "scratch" (a memory-mapped file);
    when a map does not fit, it and the later ones lie one step down. `progress`, if given, is called after each tile
    with the share of its map that the tile is.
    A map's `resolution`, below, is its height over that of the input.
    """

    def __init__(
        self,
        tile: tuple[int, int] | None = None,
        *,
        tail: tuple[int, int] | None = None,
        multiple: int = 1,
        device: torch.device | str = "cpu",
        storage: str = "device",
        progress: Callable[[float], None] | None = None,
    ) -> None:
        if storage not in ("device", "host", "scratch"):
            raise ValueError(f"storage {storage!r}: must be device, host or scratch")
        self.multiple = multiple
        self.device = torch.device(device)
        self.storage = storage
        self.progress = progress
        self.tile, self.tail = (
            each and (round_up(max(each[0], 1), multiple), round_up(max(each[1], 1), multiple)) for each in (tile, tail)
        )

    def grid(self, resolution: Fraction, scale: Fraction | int = 1) -> int:
        """What tiles must be multiples of in a map of that resolution, if its pixels are to be scaled to whole ones."""
        return lcm(ceil(self.multiple * resolution), Fraction(scale).denominator)

    def over(
        self, canvas: Box, grid: int, resolution: Fraction, scale: Fraction | int, compute: Callable[[Box], T]
    ) -> Iterator[tuple[Box, T]]:
        """Each tile of a canvas, in pixels of a map of that resolution, with what `compute` gives for it.

        A tile that does not fit into memory is cut in four, and those after it alike; raises
        OutOfMemoryError where one window is all that is left.
        """
        result = resolution * scale
        of_tail = result > 1 and self.tail is not None
        share = resolution / result if result > 1 and not of_tail else resolution  # a side here over that in the input
        height, width = canvas.height, canvas.width
        if tile := self.tail if of_tail else self.tile:
            height, width = min(height, ceil(tile[0] * share)), min(width, ceil(tile[1] * share))
        boxes = list(canvas.cut(round_up(height, grid), round_up(width, grid)))[::-1]
        while boxes:
            box = boxes.pop()
            try:
                yield box, compute(box)
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            if box.height <= grid and box.width <= grid:
                raise OutOfMemoryError(
                    f"a tile of {box.height}x{box.width} pixels does not fit into the memory of {self.device}: "
                    "close other programs, or compute on another device (--device cpu)"
                )
            half = round_up(box.height // 2, grid), round_up(box.width // 2, grid)
            smaller = ceil(half[0] / share), ceil(half[1] / share)
            self.tile, self.tail = (self.tile, smaller) if of_tail else (smaller, self.tail)
            boxes = [part for rest in (*boxes, box) for part in reversed(list(rest.cut(*half)))]

    def agreed(self, store: Store | None, sums: Sums | None) -> tuple[Store | None, Sums | None]:
        """A map and sums over it when all tiles are computed: these, where no other device has computed some."""
        return store, sums

    def store(self, shape: tuple[int, ...], like: Tensor) -> Store:
        """Room for a map of that shape, where this run keeps its maps."""
        lower = {"device": "host", "host": "scratch"}
        while self.storage in lower:
            home = self.device if self.storage == "device" else torch.device("cpu")
            try:
                return Store.memory(shape, like.dtype, home)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            self.storage = lower[self.storage]
        return Store.file(shape, like.dtype)


def is_out_of_memory(error: BaseException) -> bool:
    """True for what torch raises when memory runs out, on CUDA, MPS or CPU, and for nothing else."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    told = (
        "MPS backend out of memory",
        "DefaultCPUAllocator: ",
        "CUDA error: out of memory",  # of what is no tensor: a context, pinned memory, a kernel that is loaded late
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUBLAS_STATUS_NOT_INITIALIZED",
        "CUDNN_STATUS_ALLOC_FAILED",
        "unable to find an engine to execute this computation",  # cuDNN, where no plan's workspace fits
    )
    return isinstance(error, RuntimeError) and any(part in text for part in told)
