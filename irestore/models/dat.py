"""DAT-iLN: attention inside windows and attention between channels by turns, each beside a convolution.

Behaviour from the-database/traiNNer-redux@68629319 traiNNer/archs/dat_iln_arch.py; i-LN: arXiv 2504.06629; DAT: arXiv
2308.03364.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from irestore.field import Field
from irestore.models.block import EPS
from irestore.models.dat_attention import AdaptiveAttention, CrossChannelAttention, SpatialAttention
from irestore.models.layers import ILN
from irestore.models.trunk import Blocks, Group, Trunk, TrunkConfig, body_conv
from irestore.statistics import Moments
from irestore.tiling import Box, Padding


@dataclass(frozen=True)
class DATConfig(TrunkConfig):
    """Defaults are those of upstream's DAT-iLN class, but for `upscale`. `split_size`: the sides of the windows."""

    num_heads: tuple[int, ...] = (2, 2, 2, 2)
    depth: tuple[int, ...] = (2, 2, 2, 2)
    split_size: tuple[int, ...] = (2, 4)
    expansion_factor: float = 4.0
    qkv_bias: bool = True
    qk_scale: float | None = None
    img_size: int = 64  # of masks that upstream stores; without effect

    def __post_init__(self) -> None:
        """Raises ValueError for a value that no network can be built from."""
        super().__post_init__()
        sides = sorted(self.split_size)
        if len(sides) != 2 or sides[0] < 1 or sides[1] % sides[0]:
            raise ValueError(f"split_size = {list(self.split_size)}: must be two sides, one a multiple of the other")
        if len(self.depth) != len(self.num_heads):
            raise ValueError(f"depth has {len(self.depth)} groups but num_heads has {len(self.num_heads)}")
        if any(heads % 2 for heads in self.num_heads):
            raise ValueError(f"num_heads = {list(self.num_heads)}: must be even, half of them for each kind of window")
        if self.embed_dim < 32 or self.hidden < 2 or self.hidden % 2:
            raise ValueError(f"embed_dim = {self.embed_dim}: must be at least 32, and even times expansion_factor")

    @property
    def window(self) -> int:
        """The longer side of the windows."""
        return max(self.split_size)

    @property
    def hidden(self) -> int:
        """Channels inside the feed-forward part."""
        return int(self.embed_dim * self.expansion_factor)


class FeedForward(nn.Module):
    """Two linear layers; between them half of the channels, after a 3x3 convolution, multiply the others."""

    def __init__(self, config: DATConfig) -> None:
        super().__init__()
        dim, half = config.embed_dim, config.hidden // 2
        self.fc1 = nn.Linear(dim, 2 * half)
        self.sg = nn.ModuleDict({"norm": nn.LayerNorm(half), "conv": nn.Conv2d(half, half, 3, padding=1, groups=half)})
        self.fc2 = nn.Linear(half, dim)

    def forward(self, t: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        x, gate = F.gelu(self.fc1(t.permute(0, 2, 3, 1))).chunk(2, -1)  # each (B, h, w, hidden / 2)
        gate = self.sg["conv"](self.sg["norm"](gate).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = self.fc2(x * gate)
        return out.permute(0, 3, 1, 2)


class Block(nn.Module):
    """x + std attention, then x + std feed-forward; each std is that of its branch's input."""

    passes = 3  # walks over the whole map

    def __init__(self, config: DATConfig, attention: AdaptiveAttention) -> None:
        super().__init__()
        self.norm1 = ILN(config.embed_dim)
        self.attn = attention
        self.norm2 = ILN(config.embed_dim)
        self.ffn = FeedForward(config)

    def forward(self, x: Field) -> Field:
        """The map after this block."""
        x = self.attended(x, x.moments(EPS))  # waits for the whole image
        after = x.moments(EPS)  # waits for the whole image
        return x.map(lambda t: t + after.std * self.ffn(self.norm2(t, after)), halo=1)

    @abstractmethod
    def attended(self, x: Field, before: Moments) -> Field:
        """x + std attention, where `before` are x's moments."""


class SpatialBlock(Block):
    """A block with attention inside windows."""

    attn: SpatialAttention

    def __init__(self, config: DATConfig, heads: int, shifted: bool) -> None:
        sides = (config.split_size[0], config.split_size[1])
        super().__init__(config, SpatialAttention(config.embed_dim, heads, config.qkv_bias, sides, shifted))
        self.scale = config.qk_scale or (config.embed_dim // heads) ** -0.5

    def attended(self, x: Field, before: Moments) -> Field:
        """x + std (attention * gate of the convolution's mean + convolution * gate of the attention)."""
        attn, biases, size, reach = self.attn, self.attn.biases(), (x.height, x.width), self.attn.reach
        c = x.map(lambda t: attn.dwconv(attn.values(self.norm1(t, before))), halo=1)
        gate = attn.gate(c.mean())  # waits for the whole image

        def fn(t: Tensor, c: Tensor, box: Box) -> Tensor:
            a = attn(self.norm1(t, before), biases, self.scale, size, box)
            t, c = (F.pad(each, [-reach] * 4) for each in (t, c))
            return F.pad(t + before.std * attn.interact(a, c, gate), [reach] * 4)

        return x.map(fn, c, halo=reach, padding=Padding(0, attn.window, "constant"), into=c, placed=True)


class ChannelBlock(Block):
    """A block with attention between channels."""

    attn: CrossChannelAttention

    def __init__(self, config: DATConfig, heads: int) -> None:
        super().__init__(config, CrossChannelAttention(config.embed_dim, heads, config.qkv_bias))

    def attended(self, x: Field, before: Moments) -> Field:
        """x + std (convolution * gate of the attention's mean + attention * gate of the convolution)."""
        attn = self.attn
        gram = x.gram(lambda t: attn.pairs(self.norm1(t, before)), attn.heads)  # waits for the whole image
        shares = attn.shares(gram)
        mean = attn(attn.values(self.norm1(x.mean(), before)), shares)  # all this is linear, so the mean goes through
        gate = attn.gate(mean)

        def fn(t: Tensor) -> Tensor:
            v = attn.values(self.norm1(t, before))
            return t + before.std * attn.interact(attn.dwconv(v), attn(v, shares), gate)

        return x.map(fn, halo=1)


class DAT(Trunk):
    """DAT-iLN (see the module's docstring), any of its configurations."""

    Config = DATConfig
    config: DATConfig

    def __init__(self, config: DATConfig) -> None:
        groups = []
        for i, (depth, heads) in enumerate(zip(config.depth, config.num_heads, strict=True)):
            blocks: list[Block] = []
            for j in range(depth):  # every second block is spatial, every second of these shifted
                spatial, shifted = j % 2 == 0, j % 4 == (0 if i % 2 else 2)
                blocks.append(SpatialBlock(config, heads, shifted) if spatial else ChannelBlock(config, heads))
            groups.append(Group(Blocks(blocks), body_conv(config)))
        super().__init__(config, groups)

    @property
    def window(self) -> int:
        """What the sides of tiles must be multiples of, in pixels of the input."""
        return self.config.window * self.config.unshuffle

    @property
    def multiple(self) -> int:
        """What the sides of the input must be multiples of: the padding to whole windows enters no statistic."""
        return self.config.unshuffle

    def body_bytes(self, height: int, width: int) -> int:
        """A block's, at the peak of its attention between channels, its feed-forward part or its shifted attention."""
        config, seen = self.config, (height + self.window) * (width + self.window)
        pixels = max(height * width * max(13, 5 + 3 * config.expansion_factor), 17 * seen)
        return int(4 * config.embed_dim * pixels / config.unshuffle**2)
