"""Statistics of a map, gathered tile by tile and merged exactly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """Mean and standard deviation of a whole map, one of each per image: (B, 1, 1, 1)."""

    mean: Tensor
    std: Tensor


class Statistics:
    """Of some pixels: their number; per image and channel their mean and sum of squared deviations, (B, C), float64."""

    def __init__(self, pixels: int, mean: Tensor, m2: Tensor) -> None:
        self.pixels, self.mean, self.m2 = pixels, mean, m2

    @classmethod
    def of(cls, tile: Tensor) -> Statistics:
        """Statistics of a tile (B, H, W, C), reduced in the tile's own precision."""
        pixels = tile.shape[1] * tile.shape[2]
        near = tile.sum((1, 2)) / pixels
        deviation = tile - near[:, None, None]  # two passes are as exact as torch.var_mean and faster on a CPU
        sums = torch.stack([near, deviation.sum((1, 2)), (deviation * deviation).sum((1, 2))])
        near, rest, m2 = widened(sums)
        return cls(pixels, near + rest / pixels, m2 - rest * rest / pixels)  # as if about a mean that is not rounded

    def merge(self, other: Statistics) -> Statistics:
        """These, made the statistics of both sets of pixels (Chan, Golub, LeVeque 1983).

        In place, because small tensors that outlive the large ones of a tile would keep the heap from shrinking.
        """
        total = self.pixels + other.pixels
        delta = other.mean - self.mean
        self.mean += delta * (other.pixels / total)
        self.m2 += other.m2 + delta * delta * (self.pixels * other.pixels / total)
        self.pixels = total
        return self


def gram(tile: Tensor, heads: int) -> Tensor:
    """Products of the channels of each head, summed over the pixels of a tile (B, H, W, C): (B, heads, N, N), float64,
    N = C / heads. Reduced in the tile's own precision."""
    batch, height, width, channels = tile.shape
    vectors = tile.reshape(batch, height * width, heads, channels // heads).permute(0, 2, 3, 1)  # (B, heads, N, pixels)
    return widened(vectors @ vectors.mT)


def widened(sums: Tensor) -> Tensor:
    """In float64, on the CPU where the device does not know it (MPS)."""
    return (sums.cpu() if sums.device.type == "mps" else sums).double()
