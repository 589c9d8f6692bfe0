"""Statistics of a map, gathered tile by tile and merged exactly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

STRIP_BYTES = 2**18  # of a tile that are reduced at once on a CPU, so that what is computed of them stays in its cache
SAMPLED = 16  # one row of so many tells about where the mean is


class Moments(NamedTuple):
    """Mean and standard deviation of a whole map, one of each per image: (B, 1, 1, 1)."""

    mean: Tensor
    std: Tensor


class Statistics:
    """Of some pixels, in float64: their number, the mean of each channel (B, C), and `m2` (B,): the sum, over all
    channels, of squared deviations from the mean of all."""

    def __init__(self, pixels: int, mean: Tensor, m2: Tensor) -> None:
        self.pixels, self.mean, self.m2 = pixels, mean, m2

    @classmethod
    def of(cls, tile: Tensor) -> Statistics:
        """Statistics of a tile (B, H, W, C), reduced in the tile's own precision, or float32 if that is more.

        In one pass: sums of deviations d from a value `near` the mean, and of their squares. `near` is the mean of m of
        the n values, so n (mean - near)^2 <= n / m * m2 (Cauchy and Schwarz), and sum(d^2) = m2 + n (mean - near)^2 is
        at most 1 + n / m, about 17, times m2: so much larger, at worst, is the relative rounding error of m2 than that
        of the sums. How `near` itself is rounded does not matter.
        """
        wide = torch.promote_types(tile.dtype, torch.float32)
        near = tile[:, ::SAMPLED].mean((1, 2, 3), dtype=wide, keepdim=True)
        row_bytes = tile.shape[2] * tile.shape[3] * wide.itemsize
        rows = max(1, STRIP_BYTES // row_bytes) if tile.device.type == "cpu" else tile.shape[1]
        sums, squares = [], []
        for strip in torch.split(tile, rows, 1):
            deviation = strip - near
            sums.append(deviation.sum((1, 2)))
            squares.append(deviation.square_().sum((1, 2, 3)))
        total, square = (widened(torch.stack(parts)).sum(0) for parts in (sums, squares))
        shift = widened(near)[:, :, 0, 0]
        pixels = tile.shape[1] * tile.shape[2]
        return cls(pixels, shift + total / pixels, square - total.sum(1).square() / (pixels * tile.shape[3]))

    def merge(self, other: Statistics) -> Statistics:
        """These, made the statistics of both sets of pixels (Chan, Golub, LeVeque 1983).

        In place, because small tensors that outlive the large ones of a tile would keep the heap from shrinking.
        """
        total = self.pixels + other.pixels
        delta = other.mean.to(self.mean.device) - self.mean  # of another device where several compute one picture
        apart = delta.mean(1).square() * delta.shape[1]
        self.mean += delta * (other.pixels / total)
        self.m2 += other.m2.to(self.m2.device) + apart * (self.pixels * other.pixels / total)
        self.pixels = total
        return self

    def moments(self, eps: float) -> Moments:
        """Mean and sqrt(variance + eps) over all pixels and channels, (B, 1, 1, 1); the variance is the biased one."""
        variance = self.m2.clamp_min(0) / (self.pixels * self.mean.shape[1])  # rounding can leave 0 just below it
        return Moments(*(value[:, None, None, None] for value in (self.mean.mean(1), (variance + eps).sqrt())))


class Products:
    """Products of the channels of each head, summed over some pixels: (B, heads, N, N), float64, N channels a head."""

    def __init__(self, total: Tensor) -> None:
        self.total = total

    @classmethod
    def of(cls, tile: Tensor, heads: int) -> Products:
        """Those of a tile (B, H, W, C), reduced in the tile's own precision."""
        batch, height, width, channels = tile.shape
        vectors = tile.reshape(batch, height * width, heads, channels // heads).permute(0, 2, 3, 1)
        return cls(widened(vectors @ vectors.mT))  # of (B, heads, N, pixels)

    def merge(self, other: Products) -> Products:
        """These, made the sums over both sets of pixels."""
        self.total += other.total.to(self.total.device)
        return self


def widened(sums: Tensor) -> Tensor:
    """In float64, on the CPU where the device does not know it (MPS)."""
    return (sums.cpu() if sums.device.type == "mps" else sums).double()
