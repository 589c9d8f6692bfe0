"""HEART: HAT-iLN with rank-factorised implicit position bias (RIB) and without overlapping attention.

Behaviour from the-database/traiNNer-redux@a4af1be5 traiNNer/archs/heart_arch.py; i-LN: arXiv 2504.06629; RIB: arXiv
2603.06738.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irestore.field import Field
from irestore.models.block import HybridBlock, HybridConfig, HybridTrunk
from irestore.models.layers import Conv, from_windows, linear, to_windows
from irestore.models.trunk import Blocks, Group, body_conv
from irestore.tiling import Padding, round_up


@dataclass(frozen=True)
class HeartConfig(HybridConfig):
    """The published networks have all the defaults, with `upscale` 4 or 2."""

    rank: int = 8
    rib_hidden_dim: int = 32
    rib_n_freqs: int = 10
    attention_freq: int = 2

    def __post_init__(self) -> None:
        """Raises ValueError for a value that no network can be built from."""
        super().__post_init__()
        if self.window_size % 2:
            raise ValueError(
                f"window_size = {self.window_size}: must be even, since shifted windows lie half a window apart"
            )


class RIBAttention(nn.Module):
    """Multi-head attention inside windows. The position bias is a product of low rank, so it joins q and k as channels:

    softmax(q k / sqrt(d) + q_pos k_pos / sqrt(rank)) v = softmax([q, q_pos sqrt(d / rank)] [k, k_pos] / sqrt(d)) v
    """

    def __init__(self, config: HeartConfig, heads: int, shifted: bool) -> None:
        super().__init__()
        dim, hidden, rank = config.embed_dim, config.rib_hidden_dim, config.rank
        self.window, self.heads, self.rank = config.window_size, heads, rank
        self.scale = (dim // heads) ** -0.5
        self.padding = Padding(config.window_size // 2, config.window_size, "reflect") if shifted else None
        self.to_qkv = Conv(dim, 3 * dim, 1)
        self.to_out = Conv(dim, dim, 1)
        self.to_hidden = nn.Parameter(torch.randn(2 + 4 * config.rib_n_freqs, hidden) * 0.05)
        self.hidden_b = nn.Parameter(torch.zeros(1, hidden))
        self.to_q = nn.Parameter(torch.randn(heads, hidden, rank) * 0.05)
        self.to_k = nn.Parameter(torch.randn(heads, hidden, rank) * 0.05)
        self.coords: Tensor
        self.register_buffer("coords", window_coordinates(self.window, config.rib_n_freqs), persistent=False)

    def folded_weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Fold scales and position features into the linear layers around the attention.

        The d channels of each head become `wide` ones: those added to q and k are the position features, then zeros,
        and those added to v are zeros. Gives weight (3 * heads * wide, C) and bias (window^2, 3 * heads * wide) of the
        layer before, and weight (C, heads * wide) of the layer after.
        """
        heads, rank, dim = self.heads, self.rank, self.to_out.in_channels
        d = dim // heads
        wide = round_up(d + rank, 8)  # the fast kernels of GPUs take multiples of 8 only
        hidden = F.relu(self.coords @ self.to_hidden + self.hidden_b)  # (window^2, rib_hidden_dim)
        positions = torch.stack(  # (3, window^2, heads, rank)
            [
                torch.einsum("nd,hdr->nhr", hidden, self.to_q) * (d / rank) ** 0.5,
                torch.einsum("nd,hdr->nhr", hidden, self.to_k),
                hidden.new_zeros(len(hidden), heads, rank),
            ]
        )
        positions = F.pad(positions, (0, wide - d - rank))
        kept = self.to_qkv.bias.view(3, 1, heads, d).expand(3, len(hidden), heads, d)  # type: ignore[union-attr]
        bias = torch.cat([kept.to(positions.dtype), positions], -1)  # (3, window^2, heads, wide)
        weight = F.pad(self.to_qkv.weight.view(3, heads, d, dim), (0, 0, 0, wide - d))  # (3, heads, wide, C)
        out = F.pad(self.to_out.weight.view(dim, heads, d), (0, wide - d))  # (C, heads, wide)
        bias = bias.transpose(0, 1).reshape(len(hidden), -1).to(weight.dtype)
        return weight.reshape(-1, dim), bias, out.reshape(dim, -1)

    def forward(self, t: Tensor, weights: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w); h and w are multiples of the window. `weights`: see `folded_weights`."""
        weight, bias, out = weights
        windows = to_windows(t.to(weight.dtype), self.window)  # (B, N, C), B the windows, N the pixels of one
        qkv = linear(windows, weight)
        qkv += bias.to(qkv.dtype)
        q, k, v = qkv.view(*qkv.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each (B, H, N, D)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)  # (B, H, N, D)
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, N, H * D)
        return from_windows(linear(mixed, out, self.to_out.bias), self.window, t.shape[2], t.shape[3])


class HeartBlock(HybridBlock):
    """A hybrid block with RIB attention, or without attention."""

    attn: RIBAttention | None

    def forward(self, x: Field) -> Field:
        """The map after this block."""
        if self.attn is None:
            return self.hybrid(x, None)
        attn, weights = self.attn, self.attn.folded_weights()
        return self.hybrid(x, lambda t, box: attn(t, weights), attn.padding)


def heart_blocks(config: HeartConfig, depth: int, heads: int, *, attends: bool = True) -> list[HeartBlock]:
    """So many blocks, of which every attention_freq-th attends, if any; every second of these is shifted."""
    blocks = []
    for i in range(depth):
        turn, rest = divmod(i, config.attention_freq)
        attention = RIBAttention(config, heads, shifted=turn % 2 == 1) if attends and rest == 0 else None
        blocks.append(HeartBlock(config, attention))
    return blocks


class Heart(HybridTrunk):
    """HEART (see the module's docstring), any of its configurations."""

    Config = HeartConfig

    def __init__(self, config: HeartConfig) -> None:
        each = zip(config.depths, config.num_heads, strict=True)
        groups = [Group(Blocks(heart_blocks(config, depth, heads)), body_conv(config)) for depth, heads in each]
        super().__init__(config, groups)


def window_coordinates(window: int, frequencies: int) -> Tensor:
    """(window^2, 2 + 4 * frequencies): x, y in +-(1 - 1/window), then sin and cos of each times 1, 2, 4, ..."""
    axis = (2 * torch.arange(window) + 1) / window - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    base = torch.stack([x, y], -1).reshape(-1, 2)
    angles = base[:, None] * 2.0 ** torch.arange(frequencies)[:, None]  # (window^2, frequencies, 2)
    return torch.cat([base, torch.stack([angles.sin(), angles.cos()], 2).flatten(1)], -1)
