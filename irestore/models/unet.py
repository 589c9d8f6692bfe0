"""A U-shaped Global-LN network: HEART's blocks at several resolutions, most of the width where there are few pixels.

The shape is that of U-Net (arXiv 1505.04597) as restoration networks have it (NAFNet, arXiv 2204.04676: strided
convolutions down, PixelShuffle up, skips added); i-LN: arXiv 2504.06629; RIB: arXiv 2603.06738.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from irestore.field import Field
from irestore.models.heart import HeartBlock, HeartConfig, heart_blocks
from irestore.models.layers import Conv
from irestore.models.network import Network


@dataclass(frozen=True)
class UNetConfig:
    """Level i works at 1/(unshuffle * 2^i) of the input's resolution with `dims[i]` channels.

    `depths[i]` blocks on the way down and as many on the way up; the last level has them once, and attention in every
    `attention_freq`-th of them, in windows of `window_size` pixels of that level. The other values are HEART's.
    """

    upscale: int = 1
    in_chans: int = 3
    unshuffle: int = 1
    dims: tuple[int, ...] = (48, 96)
    depths: tuple[int, ...] = (3, 4)
    num_heads: int = 6
    window_size: int = 8
    attention_freq: int = 2
    compress_ratio: int = 1
    squeeze_factor: int = 4
    mlp_ratio: float = 1.5
    rank: int = 8
    rib_hidden_dim: int = 32
    rib_n_freqs: int = 10

    def __post_init__(self) -> None:
        """Raises ValueError for a value that no network can be built from."""
        if self.upscale not in (1, 2, 3, 4, 8):
            raise ValueError(f"upscale = {self.upscale}: must be 1, 2, 3, 4 or 8")
        if min(self.in_chans, self.unshuffle, self.attention_freq, *self.depths) < 1:
            raise ValueError("in_chans, unshuffle, attention_freq and all depths must be at least 1")
        if len(self.dims) != len(self.depths) or len(self.dims) < 2:
            raise ValueError(f"dims has {len(self.dims)} levels, depths {len(self.depths)}: as many, and two or more")
        for level in range(len(self.dims)):
            self.at(level)

    @property
    def levels(self) -> int:
        """How many resolutions there are."""
        return len(self.dims)

    def at(self, level: int) -> HeartConfig:
        """HEART's configuration of the blocks of a level. Raises ValueError where there is none."""
        bottom = level == self.levels - 1
        return HeartConfig(
            embed_dim=self.dims[level],
            depths=(self.depths[level],),
            num_heads=(self.num_heads if bottom else 1,),
            window_size=self.window_size,
            compress_ratio=self.compress_ratio,
            squeeze_factor=self.squeeze_factor,
            conv_scale=1.0,
            mlp_ratio=self.mlp_ratio,
            rank=self.rank,
            rib_hidden_dim=self.rib_hidden_dim,
            rib_n_freqs=self.rib_n_freqs,
            attention_freq=self.attention_freq,
        )


class UNet(Network):
    """conv -> blocks and strided convolutions down -> blocks up, skips added -> conv, + the first conv's output -> conv
    and PixelShuffle, + the input enlarged to the nearest pixel."""

    Config = UNetConfig
    config: UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        n, dims, pairs = config.unshuffle, config.dims, list(zip(config.dims, config.dims[1:], strict=False))
        self.conv_first = nn.Conv2d(config.in_chans * n * n, dims[0], 3, padding=1)
        self.encoder = nn.ModuleList(blocks(config, level) for level in range(config.levels - 1))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.bottom = blocks(config, config.levels - 1)
        self.up = nn.ModuleList(nn.Sequential(Conv(coarse, 4 * fine, 1), nn.PixelShuffle(2)) for fine, coarse in pairs)
        self.decoder = nn.ModuleList(blocks(config, level) for level in range(config.levels - 1))
        self.conv_after_body = Conv(dims[0], dims[0], 3, padding=1)
        self.zoom = config.upscale * n
        self.conv_last = Conv(dims[0], config.in_chans * self.zoom**2, 3, padding=1)

    @property
    def window(self) -> int:
        """An attention window of the lowest resolution, in pixels of the input."""
        return self.config.window_size * self.config.unshuffle << (self.config.levels - 1)

    @property
    def passes(self) -> int:
        """The first and last convolution, those between levels, and what the blocks do."""
        count = sum(self.config.depths) + sum(self.config.depths[:-1])
        return 2 + 2 * (self.config.levels - 1) + HeartBlock.passes * count

    @property
    def map_bytes(self) -> int:
        """At some level three maps (a block's input, its convolutions, the result), and the skips of those above."""
        area = [1 / (self.config.unshuffle * 2**level) ** 2 for level in range(self.config.levels)]
        maps = [4 * dim * share for dim, share in zip(self.config.dims, area, strict=True)]
        return int(max(sum(maps[:level]) + 3 * maps[level] for level in range(len(maps)))) + 4

    def body_bytes(self, height: int, width: int) -> int:
        """A block's, at the level where it takes most."""
        config = self.config
        pixel = [4 * dim / (config.unshuffle * 2**level) ** 2 for level, dim in enumerate(config.dims)]
        return int(height * width * max(pixel) * max(13.5, 3 + 2 * config.mlp_ratio))

    def tail_bytes(self, height: int, width: int) -> int:
        """The last convolution's and its shuffle's."""
        n = self.config.unshuffle
        pixel = 4 * (self.config.dims[0] + 3 * self.config.in_chans * self.zoom**2)
        halo = 2 * TAIL_HALO * n
        return (height + halo) * (width + halo) * pixel // n**2

    def forward(self, image: Field) -> Field:
        """Field (B, in_chans, H, W) -> Field (B, in_chans, H * scale, W * scale)."""
        n = self.config.unshuffle
        x = image.map(self.shallow, halo=n, scale=Fraction(1, n))
        skips = []
        for level, down in zip(self.encoder, self.down, strict=True):
            skips.append(through(level, x))
            x = skips[-1].map(down, scale=Fraction(1, 2))
        x = through(self.bottom, x)
        for level, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
            skip = skips.pop()
            x = skip.map(lambda s, x, up=up: s + up(x), x, into=skip)
            x = through(level, x)
        return x.map(self.tail, image, halo=TAIL_HALO, scale=self.zoom)

    def shallow(self, image: Tensor) -> Tensor:
        """The first convolution's features. Cheap, so the tail computes them again instead of keeping a map."""
        features: Tensor = self.conv_first(F.pixel_unshuffle(image, self.config.unshuffle))
        return features

    def tail(self, x: Tensor, image: Tensor) -> Tensor:
        """From the last block's output, and the image at the same place, to the result."""
        x = self.conv_last(self.conv_after_body(x) + self.shallow(image))
        return F.pixel_shuffle(x, self.zoom) + F.interpolate(image, scale_factor=self.scale, mode="nearest")

    def last_layer(self) -> nn.Module:
        """The last convolution: zero, and the network gives its input."""
        return self.conv_last


TAIL_HALO = 2  # conv_after_body (beside conv_first), then conv_last


def blocks(config: UNetConfig, level: int) -> nn.ModuleList:
    """The blocks of a level; only those of the lowest resolution attend."""
    bottom = level == config.levels - 1
    return nn.ModuleList(heart_blocks(config.at(level), config.depths[level], config.num_heads, attends=bottom))


def through(level: Any, x: Field) -> Field:
    """The map after the blocks of a level."""
    for block in level:
        x = block(x)
    return x
