"""HAT-iLN: window attention with a relative position bias, channel attention, and overlapping cross-attention.

Behaviour from 2minkyulee/i-LN@3266199c iLN/basicsr/archs/hat_iLN_arch.py and the-database/traiNNer-redux@68629319
traiNNer/archs/hat_iln_arch.py; i-LN: arXiv 2504.06629; HAT: arXiv 2205.04437.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irestore.field import Field
from irestore.models.block import EPS, HybridBlock, HybridConfig, HybridTrunk
from irestore.models.layers import (
    ILN,
    Linear,
    Mlp,
    attend,
    from_windows,
    fused_attention,
    linear,
    overlap_index,
    parts,
    self_index,
    to_windows,
)
from irestore.models.trunk import Blocks, Group, body_conv
from irestore.tiling import Box, Padding

RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K
RGB_STD = (0.2842, 0.2701, 0.2920)


@dataclass(frozen=True)
class HATConfig(HybridConfig):
    """Defaults are those of upstream's HAT-iLN class, but for `upscale`.

    `stdnorm` tells the dialects' inputs apart: None takes the image as it is (traiNNer-redux); False subtracts the mean
    of DIV2K and True divides by its deviation too (official). Where `img_size` is not above the window, windows are not
    shifted.
    """

    embed_dim: int = 96
    depths: tuple[int, ...] = (6, 6, 6, 6)
    num_heads: tuple[int, ...] = (6, 6, 6, 6)
    window_size: int = 7
    mlp_ratio: float = 4.0
    img_size: int = 64
    overlap_ratio: float = 0.5
    qkv_bias: bool = True
    qk_scale: float | None = None
    img_range: float = 1.0
    stdnorm: bool | None = None
    eps: float = EPS

    @property
    def overlap_window(self) -> int:
        """Side of the windows that overlapping attention takes its keys from."""
        return self.window_size + int(self.window_size * self.overlap_ratio)

    def __post_init__(self) -> None:
        """Raises ValueError for a value that no network can be built from."""
        super().__post_init__()
        if (self.overlap_window - self.window_size) % 2:
            raise ValueError(
                f"window_size = {self.window_size} with overlap_ratio = {self.overlap_ratio}: the overlap must be even"
            )


class Shared(NamedTuple):
    """What all blocks of a run need to know of positions."""

    inner: Tensor  # (window^2, window^2): place in the bias table, queries by keys
    outer: Tensor  # (window^2, outer^2): the same for overlapping attention


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with a table of position biases."""

    def __init__(self, config: HATConfig, heads: int) -> None:
        super().__init__()
        dim, self.window, self.heads = config.embed_dim, config.window_size, heads
        self.scale = config.qk_scale or (dim // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * self.window - 1) ** 2, heads))
        self.qkv = Linear(dim, 3 * dim, bias=config.qkv_bias)
        self.proj = Linear(dim, dim)

    def forward(self, t: Tensor, bias: Tensor, regions: Tensor | None) -> Tensor:
        """(B, C, h, w) -> the same; bias (1, heads, window^2, window^2). Pixels see those of their region (h, w)."""
        t = t.to(self.qkv.weight.dtype)
        qkv = self.qkv(to_windows(t, self.window))  # (B, N, 3 C), B the windows, N the pixels of one
        q, k, v = qkv.view(*qkv.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each (B, H, N, D)
        ids = None if regions is None else to_windows(regions.expand(len(t), 1, -1, -1), self.window)[..., 0]  # (B, N)
        mixed = attend(q, k, v, bias, self.scale, ids)
        return from_windows(self.proj(mixed.transpose(1, 2).flatten(2)), self.window, t.shape[2], t.shape[3])


class HAB(HybridBlock):
    """A hybrid block with window attention, shifted or not."""

    attn: WindowAttention

    def __init__(self, config: HATConfig, heads: int, shifted: bool) -> None:
        super().__init__(config, WindowAttention(config, heads), config.eps)
        window = config.window_size
        self.padding = Padding(window - window // 2, window, "circular") if shifted else None

    def forward(self, x: Field, shared: Shared) -> Field:
        """The map after this block."""
        bias = self.attn.relative_position_bias_table[shared.inner].permute(2, 0, 1)[None]  # 3-d masks take a slow path
        bias = bias.to(self.attn.qkv.weight.dtype).contiguous()

        def attend(t: Tensor, box: Box) -> Tensor:
            """Beyond an edge the tile shows pixels of the opposite one, which are not to be seen from this side."""
            out: Tensor = self.attn(t, bias, parts(box, x.height, x.width, t.device) if self.padding else None)
            return out

        return self.hybrid(x, attend, self.padding)


class OCAB(nn.Module):
    """Overlapping cross-attention: queries of a window attend to keys of a larger window around it."""

    passes = 2  # walks over the whole map

    def __init__(self, config: HATConfig, heads: int) -> None:
        super().__init__()
        dim, window, outer = config.embed_dim, config.window_size, config.overlap_window
        self.eps, self.heads, self.window, self.outer = config.eps, heads, window, outer
        self.scale = config.qk_scale or (dim // heads) ** -0.5
        self.norm1 = ILN(dim)
        self.qkv = Linear(dim, 3 * dim, bias=config.qkv_bias)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((window + outer - 1) ** 2, heads))
        self.proj = Linear(dim, dim)
        self.norm2 = ILN(dim)
        self.mlp = Mlp(dim, config.mlp_ratio)

    def forward(self, x: Field, shared: Shared) -> Field:
        """The map after this block."""
        before = x.moments(self.eps)  # waits for the whole image
        bias = self.relative_position_bias_table[shared.outer].permute(2, 0, 1)[None]
        bias = bias.to(self.qkv.weight.dtype).contiguous()
        reach = (self.outer - self.window) // 2
        size = x.height, x.width

        def fn(t: Tensor, box: Box) -> Tensor:
            inside = parts(box, *size, t.device) == 4
            return torch.addcmul(t, self.attend(self.norm1(t, before), inside, bias, reach), before.std)

        x = x.map(fn, halo=reach, padding=Padding(0, self.window, "constant"), placed=True)
        after = x.moments(self.eps)  # waits for the whole image
        return x.map(lambda t: torch.addcmul(t, self.mlp(self.norm2(t, after)), after.std), into=x)

    def attend(self, t: Tensor, inside: Tensor, bias: Tensor, reach: int) -> Tensor:
        """(B, C, h + 2 reach, w + 2 reach) -> the same, of which the outer `reach` pixels mean nothing.

        Keys and values outside the image are zero, after the linear layer: such keys still take their share of the
        softmax.
        """
        dim, height, width = t.shape[1:]
        core = t[:, :, reach : height - reach, reach : width - reach]
        weight, offset = self.qkv.weight, self.qkv.bias
        q = linear(to_windows(core, self.window), weight[:dim], None if offset is None else offset[:dim])
        kv = linear(t.permute(0, 2, 3, 1), weight[dim:], None if offset is None else offset[dim:])
        kv = kv * inside[..., None]  # (B, h + 2 reach, w + 2 reach, 2 C)
        kv = kv.unfold(1, self.outer, self.window).unfold(2, self.outer, self.window)
        kv = kv.permute(0, 1, 2, 4, 5, 3).reshape(len(q), self.outer**2, 2, self.heads, dim // self.heads)
        k, v = kv.permute(2, 0, 3, 1, 4)  # each (B, H, outer^2, D)
        q = q.view(len(q), -1, self.heads, dim // self.heads).transpose(1, 2)
        mixed = fused_attention(q, k, v, bias, self.scale)
        out = from_windows(self.proj(mixed.transpose(1, 2).flatten(2)), self.window, core.shape[2], core.shape[3])
        return F.pad(out, (reach, reach, reach, reach))


class HAT(HybridTrunk):
    """HAT-iLN (see the module's docstring), any of its configurations, in both dialects."""

    Config = HATConfig

    def __init__(self, config: HATConfig) -> None:
        shifting = config.img_size > config.window_size > 1
        groups = []
        for depth, heads in zip(config.depths, config.num_heads, strict=True):
            blocks = [HAB(config, heads, shifted=shifting and i % 2 == 1) for i in range(depth)]
            groups.append(Group(Blocks(blocks, OCAB(config, heads)), body_conv(config)))
        super().__init__(config, groups)
        self.stdnorm, self.img_range = config.stdnorm, config.img_range
        window, outer = config.window_size, config.overlap_window
        self.relative_position_index_SA: Tensor
        self.relative_position_index_OCA: Tensor
        self.register_buffer("relative_position_index_SA", self_index(window, window))
        self.register_buffer("relative_position_index_OCA", overlap_index(window, outer))

    @property
    def shared(self) -> tuple[Shared]:
        """What all blocks need to know of positions."""
        return (Shared(self.relative_position_index_SA, self.relative_position_index_OCA),)

    def normalised(self, image: Tensor) -> Tensor:
        """The image without the mean and deviation that the dialect takes for the input's."""
        if self.stdnorm is None:
            return image
        mean, std = self.input_statistics(image)
        return (image - mean) * self.img_range / std

    def tail(self, x: Tensor, image: Tensor) -> Tensor:
        """From the last group's output to the result, brought back to 0..1."""
        out = super().tail(x, image)
        if self.stdnorm is None:
            return out
        mean, std = self.input_statistics(image)
        return torch.addcmul(mean, out, std / self.img_range)

    def input_statistics(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (1, C, 1, 1) that the official dialect takes for the input's."""
        rgb = self.in_chans == 3
        mean = RGB_MEAN if rgb else (0.0,)
        std = (RGB_STD if rgb else RGB_STD[:1]) if self.stdnorm else (1.0,)
        return image.new_tensor(mean).view(1, -1, 1, 1), image.new_tensor(std).view(1, -1, 1, 1)
