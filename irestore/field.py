"""Field: a feature map of the whole image that is only ever computed one tile at a time.

The law: if `fn` reaches no further than its halo and does not know its absolute position, `field.map(fn)` equals `fn` of
the whole map, whatever the tiles. A value taken from a Field (`mean`, `moments`) is the value of the whole image.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from irestore.scratch import Store
from irestore.tiling import Box, Frame, Tiling


class Moments(NamedTuple):
    """Mean and standard deviation of a whole map, one of each per image: (B, 1, 1, 1)."""

    mean: Tensor
    std: Tensor


class Statistics:
    """Of some pixels: how many, and per image and channel their mean and sum of squared deviations, (B, C) in float64."""

    def __init__(self, pixels: int, mean: Tensor, m2: Tensor) -> None:
        self.pixels, self.mean, self.m2 = pixels, mean, m2

    @classmethod
    def of(cls, tile: Tensor) -> Statistics:
        """Statistics of a tile (B, H, W, C), reduced in the tile's own precision."""
        pixels = tile.shape[1] * tile.shape[2]
        mean = tile.sum((1, 2)) / pixels
        deviation = tile - mean[:, None, None]  # two passes are as exact as torch.var_mean and 8 times as fast on a CPU
        m2 = (deviation * deviation).sum((1, 2))
        if tile.device.type == "mps":  # knows no float64
            mean, m2 = mean.cpu(), m2.cpu()
        return cls(pixels, mean.double(), m2.double())

    def merge(self, other: Statistics) -> None:
        """Makes these the statistics of both sets of pixels (Chan, Golub, LeVeque 1983), in place.

        In place, because small tensors that outlive the large ones of a tile would keep the heap from shrinking.
        """
        total = self.pixels + other.pixels
        delta = other.mean - self.mean
        self.mean += delta * (other.pixels / total)
        self.m2 += other.m2 + delta * delta * (self.pixels * other.pixels / total)
        self.pixels = total


class Field:
    """A feature map (B, C, H, W) of the whole image. Kept channels last; read, computed and written by tiles."""

    def __init__(self, store: Store, tiling: Tiling, statistics: Statistics | None = None) -> None:
        self._store = store
        self._tiling = tiling
        self._statistics = statistics
        self.batch, self.height, self.width, self.channels = store.data.shape

    @classmethod
    def of(cls, image: Tensor, tiling: Tiling) -> Field:
        """The Field of an image (B, C, H, W); the tensor is not copied where it already lies channels last."""
        data = image.permute(0, 2, 3, 1)
        home = tiling.device if tiling.storage == "device" else torch.device("cpu")
        return cls(Store(data.to(home).contiguous()), tiling)

    def sibling(self, image: Tensor) -> Field:
        """The Field of another image (B, C, H, W) in the same run."""
        return Field.of(image, self._tiling)

    @property
    def tensor(self) -> Tensor:
        """The whole map as one tensor (B, C, H, W)."""
        return self._store.data.permute(0, 3, 1, 2)

    def map(
        self,
        fn: Callable[..., Tensor],
        *others: Field,
        halo: int = 0,
        scale: Fraction | int = 1,
        frame: Frame | None = None,
    ) -> Field:
        """`fn(self, *others)` over tiles: exactly `fn` over the whole maps.

        fn: (B, C, h, w), ... -> (B, C', h * scale, w * scale). Each tile is read enlarged by `halo` pixels, clipped at the
        image's edge, so that a layer's own padding acts there as it does on the whole map; the halo is cut off the result.
        With a `frame`, fn sees the map enlarged beyond the image's edge, and the enlargement is cut off again.
        `others` may be maps of another resolution (a whole multiple or fraction); they are read where this one is.
        """
        return self._map(fn, others, None, halo=halo, scale=scale, frame=frame)

    def map_(self, fn: Callable[..., Tensor], *others: Field, frame: Frame | None = None) -> Field:
        """As `map`, pixel by pixel in this map, and the result takes this map's room: do not use this Field again.

        `fn` may look around within `others` (inside a tile or frame), but at each pixel use only this map's own value.
        """
        return self._map(fn, others, self._store, halo=0, scale=1, frame=frame)

    def _map(
        self,
        fn: Callable[..., Tensor],
        others: tuple[Field, ...],
        target: Store | None,
        *,
        halo: int,
        scale: Fraction | int,
        frame: Frame | None,
    ) -> Field:
        tiling, image = self._tiling, Box(0, 0, self.height, self.width)
        multiple = max(tiling.multiple, Fraction(scale).denominator)
        canvas = frame.around(image) if frame else image
        size = tiling.size_for(canvas, multiple)
        boxes = list(canvas.cut(*size))
        if len(boxes) == 1:
            whole = self._compute(fn, others, boxes[0], halo, scale, frame)
            if whole is not None:
                self._tell(boxes[0])
                return Field(self._whole(whole, target), tiling)
        statistics: Statistics | None = None
        boxes.reverse()
        while boxes:
            box = boxes.pop()
            result = self._compute(fn, others, box, halo, scale, frame)
            if result is None:
                tiling.shrink(box, multiple)
                assert tiling.tile is not None
                boxes.extend(reversed(list(box.cut(*tiling.tile))))
                continue
            owned = box.clip(self.height, self.width).scaled(scale)
            if target is None:
                full = image.scaled(scale)
                target = tiling.store((self.batch, full.height, full.width, result.shape[3]), result)
            statistics = self._gather(statistics, result)
            target.write(result, owned.top, owned.left)
            del result  # before the next tile is computed
            self._release(others)
            self._tell(box)
        assert target is not None
        return Field(target, tiling, statistics)

    def _compute(
        self,
        fn: Callable[..., Tensor],
        others: tuple[Field, ...],
        box: Box,
        halo: int,
        scale: Fraction | int,
        frame: Frame | None,
    ) -> Tensor | None:
        """The owned pixels of `fn` on one tile, (B, h, w, C); None where it did not fit into memory."""
        seen = box.grow(halo) if halo else box
        if frame is None:
            seen = seen.clip(self.height, self.width)
        owned = box.clip(self.height, self.width)
        try:
            tiles = [self._read(seen, frame)]
            for other in others:
                tiles.append(other._read(seen.scaled(Fraction(other.height, self.height)), frame))
            result = self._run(fn, tiles)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None
        rows, columns = owned.scaled(scale).within(seen.scaled(scale))
        return result[:, rows, columns]

    def _run(self, fn: Callable[..., Tensor], tiles: list[Tensor]) -> Tensor:
        """`fn` in the run's precision; in float32 where that gives infinity or NaN. (B, h, w, C) in the map's own type."""
        half, device = self._tiling.precision, self._tiling.device.type
        if half is not None:
            with torch.autocast(device, half):
                result = fn(*tiles)
            if torch.isfinite(result).all():
                return result.to(self._store.data.dtype).permute(0, 2, 3, 1)
        full: Tensor = fn(*tiles)
        return full.permute(0, 2, 3, 1)

    def _read(self, box: Box, frame: Frame | None) -> Tensor:
        """The tile under `box`, (B, C, h, w), on the compute device."""
        data, inside = self._store.data, box.clip(self.height, self.width)
        if inside == box:
            tile = data[:, box.top : box.bottom, box.left : box.right]
        else:
            assert frame is not None
            tile = frame.read(data, box)
        return tile.to(self._tiling.device, non_blocking=True).permute(0, 3, 1, 2)

    def _whole(self, result: Tensor, target: Store | None) -> Store:
        """A store that holds the result of a single tile; without a copy unless maps are kept elsewhere."""
        if self._tiling.storage == "device" or (self._tiling.storage == "host" and result.device.type == "cpu"):
            return Store(result.contiguous())
        target = target or self._tiling.store(tuple(result.shape), result)
        target.write(result, 0, 0)
        return target

    def _tell(self, box: Box) -> None:
        if self._tiling.progress:
            self._tiling.progress(box.clip(self.height, self.width).pixels / (self.height * self.width))

    def _release(self, others: tuple[Field, ...]) -> None:
        for field in (self, *others):
            field._store.release()

    @staticmethod
    def _gather(statistics: Statistics | None, tile: Tensor) -> Statistics:
        """The statistics with those of one more tile (B, h, w, C)."""
        if statistics is None:
            return Statistics.of(tile)
        statistics.merge(Statistics.of(tile))
        return statistics

    def _whole_statistics(self) -> Statistics:
        if self._statistics is None:
            image = Box(0, 0, self.height, self.width)
            for box in image.cut(*self._tiling.size_for(image, 1)):
                self._statistics = self._gather(self._statistics, self._read(box, None).permute(0, 2, 3, 1))
        assert self._statistics is not None
        return self._statistics

    def mean(self) -> Tensor:
        """The mean of each channel over the whole map, (B, C, 1, 1)."""
        return self._value(self._whole_statistics().mean)[:, :, None, None]

    def moments(self, eps: float) -> Moments:
        """Mean and sqrt(variance + eps) over all pixels and channels of each image; the variance is the biased one."""
        statistics = self._whole_statistics()
        pixels, mean, m2 = statistics.pixels, statistics.mean, statistics.m2
        centre = mean.mean(1, keepdim=True)
        variance = (m2.sum(1, keepdim=True) / pixels + (mean - centre).square().sum(1, keepdim=True)) / self.channels
        std = (variance + eps).sqrt()
        return Moments(self._value(centre)[:, :, None, None], self._value(std)[:, :, None, None])

    def _value(self, value: Tensor) -> Tensor:
        dtype = self._store.data.dtype
        wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
        return value.to(wide).to(self._tiling.device)


def is_out_of_memory(error: BaseException) -> bool:
    """True for what torch raises when memory runs out, on CUDA, MPS or CPU, and for nothing else."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "MPS backend out of memory" in text or "DefaultCPUAllocator: can't allocate" in text
    )
