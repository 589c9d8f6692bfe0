"""Field: a feature map of the whole image that is only ever computed one tile at a time.

The law: if `fn` reaches no further than its halo and knows of its position only what it is told, `field.map(fn)` equals
`fn` of the whole map, whatever the tiles. A value taken from a Field (`mean`, `moments`, `gram`) is the value of
the whole image.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial

import torch
from torch import Tensor

from irestore.scratch import Store
from irestore.statistics import Moments, Products, Statistics
from irestore.tiling import Box, Padding, Sums, Tiling


class Field:
    """A feature map (B, C, H, W) of the whole image. Kept channels last; read, computed and written by tiles.

    `resolution` is its height over that of the run's input: tiles are told in pixels of the input.
    """

    def __init__(
        self,
        store: Store,
        tiling: Tiling,
        *,
        resolution: Fraction = Fraction(1),
        statistics: Statistics | None = None,
    ) -> None:
        self._store = store
        self._tiling = tiling
        self._resolution = resolution
        self._statistics = statistics
        self.batch, self.height, self.width, self.channels = store.data.shape

    @classmethod
    def of(cls, image: Tensor, tiling: Tiling) -> Field:
        """The Field of an image (B, C, H, W); the tensor is not copied where it already lies channels last."""
        data = image.permute(0, 2, 3, 1)
        home = tiling.device if tiling.storage == "device" else torch.device("cpu")
        data = data.to(home, non_blocking=home.type == "cuda").contiguous()
        return cls(Store(data), tiling)

    def release(self) -> None:
        """Lets the system take what of the map lies in memory though it is kept in a file."""
        self._store.release()

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
        padding: Padding | None = None,
        into: Field | None = None,
        placed: bool = False,
    ) -> Field:
        """`fn(self, *others)` over tiles: exactly `fn` over the whole maps.

        fn: (B, C, h, w), ... -> (B, C', h * scale, w * scale). Each tile is read enlarged by `halo` pixels, clipped at
        the image's edge, so that a layer's own padding acts there as it does on the whole map; the halo is cut off the
        result. With `padding`, fn sees the map enlarged beyond the image's edge, and the enlargement is cut off again.
        `others` may be maps of another resolution (a whole multiple or fraction); they are read where this one is.
        `into`: write the result over this map, one of those that are read and of the result's shape (unless the result
        is of another type). The map must not be used afterwards, and `fn` may read of it only the pixel that it
        computes, since neighbours may be overwritten already.
        `placed`: fn is also told, as `box`, which pixels of the map it sees.
        """
        room, target = None if into is None else into._store, None
        tiling, image = self._tiling, Box(0, 0, self.height, self.width)
        canvas = padding.around(image) if padding else image
        compute = partial(self._compute, fn, others, halo=halo, scale=scale, padding=padding, placed=placed)
        statistics: Statistics | None = None
        for box, (tile, more) in tiling.over(
            canvas, tiling.grid(self._resolution, scale), self._resolution, scale, compute
        ):
            owned = box.clip(self.height, self.width)
            if target is None and room is not None and room.data.dtype == tile.dtype:
                target = room
            if more is None:  # one tile is the whole map
                target = self._whole(tile, target)
            else:
                statistics = statistics.merge(more) if statistics else more
                if target is None:
                    full = image.scaled(scale)
                    target = tiling.store((self.batch, full.height, full.width, tile.shape[3]), tile)
                target.write(tile, owned.scaled(scale).top, owned.scaled(scale).left)
            del tile  # before the next tile is computed
            for field in (self, *others):
                field.release()
            if tiling.progress:
                tiling.progress(owned.pixels / image.pixels)
        target, statistics = tiling.agreed(target, statistics)
        assert target is not None
        return Field(target, tiling, resolution=self._resolution * scale, statistics=statistics)

    def _compute(
        self,
        fn: Callable[..., Tensor],
        others: tuple[Field, ...],
        box: Box,
        *,
        halo: int,
        scale: Fraction | int,
        padding: Padding | None,
        placed: bool,
    ) -> tuple[Tensor, Statistics | None]:
        """The owned pixels of `fn` on one tile, (B, h, w, C), and their statistics unless the tile is the whole map."""
        seen = box.grow(halo) if halo else box
        if padding is None:
            seen = seen.clip(self.height, self.width)
        tiles = [self._read(seen, padding)]
        for other in others:
            tiles.append(other._read(seen.scaled(Fraction(other.height, self.height)), padding))
        result = (partial(fn, box=seen) if placed else fn)(*tiles).permute(0, 2, 3, 1)
        tiles.clear()  # before the statistics take room
        owned = box.clip(self.height, self.width)
        rows, columns = owned.scaled(scale).within(seen.scaled(scale))
        tile = result[:, rows, columns]
        return tile, None if owned.pixels == self.height * self.width else Statistics.of(tile)

    def _read(self, box: Box, padding: Padding | None) -> Tensor:
        """The tile under `box`, (B, C, h, w), on the compute device."""
        data, inside = self._store.data, box.clip(self.height, self.width)
        if inside == box:
            tile = data[:, box.top : box.bottom, box.left : box.right]
        else:
            assert padding is not None
            tile = padding.read(data, box)
        device = self._tiling.device
        return tile.to(device, non_blocking=device.type == "cuda").permute(0, 3, 1, 2)

    def _whole(self, result: Tensor, target: Store | None) -> Store:
        """A store that holds the result of a single tile; without a copy unless maps are kept elsewhere."""
        if self._tiling.storage == "device" or (self._tiling.storage == "host" and result.device.type == "cpu"):
            return Store(result.contiguous())
        target = target or self._tiling.store(tuple(result.shape), result)
        target.write(result, 0, 0)
        return target

    def _sum(self, sums_of: Callable[[Tensor], Sums], *, counted: bool) -> Sums:
        """What `sums_of` gives for the tiles (B, h, w, C), merged; `counted`: progress is told of it."""
        tiling, image = self._tiling, Box(0, 0, self.height, self.width)
        merged: Sums | None = None

        def compute(box: Box) -> Sums:
            return sums_of(self._read(box, None).permute(0, 2, 3, 1))

        for box, sums in tiling.over(image, 1, self._resolution, 1, compute):
            merged = merged.merge(sums) if merged else sums
            self.release()
            if counted and tiling.progress:
                tiling.progress(box.pixels / image.pixels)
        _, merged = tiling.agreed(None, merged)
        assert merged is not None
        return merged

    def _whole_statistics(self) -> Statistics:
        if self._statistics is None:
            self._statistics = self._sum(Statistics.of, counted=False)
        return self._statistics

    def mean(self) -> Tensor:
        """The mean of each channel over the whole map, (B, C, 1, 1)."""
        return self._value(self._whole_statistics().mean)[:, :, None, None]

    def moments(self, eps: float) -> Moments:
        """Mean and sqrt(variance + eps) over all pixels and channels of each image; the variance is the biased one."""
        return Moments(*(self._value(value) for value in self._whole_statistics().moments(eps)))

    def gram(self, fn: Callable[[Tensor], Tensor], heads: int) -> Tensor:
        """Products of the channels of `fn(self)`, those of each head with each other, summed over the whole map.

        fn: (B, C, h, w) -> (B, heads * N, h, w), pixel by pixel. Gives (B, heads, N, N).
        """

        def products(tile: Tensor) -> Products:
            return Products.of(fn(tile.permute(0, 3, 1, 2)).permute(0, 2, 3, 1), heads)

        return self._value(self._sum(products, counted=True).total)

    def _value(self, value: Tensor) -> Tensor:
        dtype = self._store.data.dtype
        wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
        return value.to(wide).to(self._tiling.device)
