"""DAT's two kinds of attention, as `irestore.models.dat` takes them. They see tiles (B, C, h, w) of the normalised map.

Behaviour from the-database/traiNNer-redux@68629319 traiNNer/archs/dat_iln_arch.py; DAT: arXiv 2308.03364.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irestore.models.layers import Affine, attend, grid, parts, self_index
from irestore.tiling import Box, round_up


class BatchNorm(Affine):
    """Normalises each channel by the mean and variance that training has found."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, t: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return F.batch_norm(t, self.running_mean, self.running_var, self.weight, self.bias, self.training)


class AdaptiveAttention(nn.Module):
    """Attention and a convolution of the same values, each gated by the other ("adaptive interaction")."""

    def __init__(self, dim: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.dwconv = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1, groups=dim), BatchNorm(dim), nn.GELU())
        pooling = nn.Identity()  # in place of upstream's: the mean comes from the Field
        self.channel_interaction = nn.Sequential(pooling, *narrowed(dim, dim // 8, dim))
        self.spatial_interaction = nn.Sequential(*narrowed(dim, dim // 16, 1))

    def values(self, t: Tensor) -> Tensor:
        """v of qkv: (B, C, h, w) -> (B, C, h, w)."""
        dim, bias = t.shape[1], self.qkv.bias
        return pointwise(t, self.qkv.weight[2 * dim :], bias if bias is None else bias[2 * dim :])

    def gate(self, mean: Tensor) -> Tensor:
        """A gate for each channel of one part from the other's mean over the whole image: (B, C, 1, 1) -> the same."""
        return torch.sigmoid(self.channel_interaction(mean))

    def interact(self, x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
        """x by the gate that y's mean gives, y by one that x gives for each pixel: (B, C, h, w) -> the same."""
        return pointwise(x * gate + y * torch.sigmoid(self.spatial_interaction(x)), self.proj.weight, self.proj.bias)


class OblongAttention(nn.Module):
    """Attention inside windows of height x width pixels, which are shifted by half of both or not.

    A small network, `pos`, gives each head's bias for every offset between two pixels.
    """

    def __init__(self, heads: int, window: tuple[int, int], shifted: bool, width: int) -> None:
        """`width`: channels inside `pos`."""
        super().__init__()
        self.heads, self.window = heads, window
        self.lag = [side // 2 if shifted else 0 for side in window]
        self.lead = [-(-side // 2) if shifted else 0 for side in window]
        self.pos = nn.ModuleDict({"pos_proj": nn.Linear(2, width)})
        for name, out in {"pos1": width, "pos2": width, "pos3": heads}.items():
            self.pos[name] = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, out))

    def bias(self) -> Tensor:
        """(1, heads, N, N), N the pixels of a window."""
        height, width = self.window
        like = next(self.parameters())
        table = (grid(2 * height - 1, 2 * width - 1) - torch.tensor([height - 1, width - 1])).to(like)  # (offsets, 2)
        for layer in self.pos.values():
            table = layer(table)  # in the end (offsets, heads)
        return table[self_index(height, width).to(like.device)].permute(2, 0, 1)[None].contiguous()

    def forward(self, qkv: Tensor, bias: Tensor, scale: float, regions: Tensor | None, reach: int) -> Tensor:
        """(B, 3, C, h + 2 reach, w + 2 reach) -> (B, C, h, w). Pixels of different `regions` do not see each other."""
        (a, b), (top, left), (bottom, right) = self.window, self.lead, self.lag
        rows = slice(reach - top, qkv.shape[3] - reach + bottom)  # the whole windows that h x w pixels touch
        columns = slice(reach - left, qkv.shape[4] - reach + right)
        qkv = qkv[..., rows, columns]
        batch, _, dim, height, width = qkv.shape
        down, across, d = height // a, width // b, dim // self.heads
        windows = qkv.reshape(batch, 3, self.heads, d, down, a, across, b).permute(1, 0, 4, 6, 2, 5, 7, 3)
        q, k, v = windows.reshape(3, -1, self.heads, a * b, d)  # each (B, H, N, D), B the windows
        if regions is not None:
            regions = regions[rows, columns].reshape(down, a, across, b).transpose(1, 2)
            regions = regions.reshape(-1, a * b).repeat(batch, 1)  # (B, N)
        mixed = attend(q, k, v, bias, scale, regions).view(batch, down, across, self.heads, a, b, d)
        mixed = mixed.permute(0, 3, 6, 1, 4, 2, 5).reshape(batch, dim, height, width)
        return mixed[:, :, top : height - bottom, left : width - right]


class SpatialAttention(AdaptiveAttention):
    """Attention inside oblong windows, upright on half of the channels and lying on the others."""

    def __init__(self, dim: int, heads: int, qkv_bias: bool, sides: tuple[int, int], shifted: bool) -> None:
        super().__init__(dim, heads, qkv_bias)
        windows = (sides, sides[::-1])
        self.attns = nn.ModuleList(OblongAttention(heads // 2, each, shifted, dim // 32) for each in windows)
        self.window, self.shifted = max(sides), shifted
        self.reach = -(-self.window // 2) if shifted else 0

    def biases(self) -> list[Tensor]:
        """The position biases of the upright and of the lying windows."""
        return [each.bias() for each in self.attns if isinstance(each, OblongAttention)]

    def forward(self, t: Tensor, biases: list[Tensor], scale: float, size: tuple[int, int], box: Box) -> Tensor:
        """(B, C, h + 2 reach, w + 2 reach) -> (B, C, h, w). `box` is what t is of the map of that `size`.

        Up to a multiple of the window the map goes on with zeros, after the linear layer, which are seen; what lies
        beyond is not.
        """
        height, width = size
        inside, regions = parts(box, height, width, t.device) == 4, None
        if self.shifted:
            regions = parts(box, round_up(height, self.window), round_up(width, self.window), t.device)
        qkv = pointwise(t, self.qkv.weight, self.qkv.bias).mul_(inside)  # (B, 3 C, ...)
        halves = qkv.view(len(t), 3, 2, -1, *t.shape[2:]).unbind(2)  # two of (B, 3, C / 2, ...)
        pairs = zip(self.attns, halves, biases, strict=True)
        return torch.cat([each(half, bias, scale, regions, self.reach) for each, half, bias in pairs], 1)


class CrossChannelAttention(AdaptiveAttention):
    """Attention of each channel to those of its head, by the cosine between them over the whole image."""

    def __init__(self, dim: int, heads: int, qkv_bias: bool) -> None:
        super().__init__(dim, heads, qkv_bias)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def pairs(self, t: Tensor) -> Tensor:
        """q and k, head by head: (B, C, h, w) -> (B, 2 C, h, w)."""
        dim, bias = t.shape[1], self.qkv.bias
        order = torch.arange(2 * dim, device=t.device).view(2, self.heads, -1).transpose(0, 1).flatten()
        return pointwise(t, self.qkv.weight[order], bias if bias is None else bias[order])

    def shares(self, gram: Tensor) -> Tensor:
        """softmax(temperature cos(q, k)): products of all `pairs` (B, heads, 2 D, 2 D) -> (B, heads, D, D)."""
        d = gram.shape[-1] // 2
        norms = gram.diagonal(dim1=-2, dim2=-1).sqrt().clamp_min(1e-12)  # (B, heads, 2 D)
        cosines = gram[..., :d, d:] / norms[..., :d, None] / norms[..., None, d:]
        return (self.temperature * cosines).softmax(-1)

    def forward(self, v: Tensor, shares: Tensor) -> Tensor:
        """(B, C, h, w) -> the same: each channel becomes a mean of those of its head."""
        mixed: Tensor = shares @ v.reshape(*shares.shape[:3], -1)  # (B, heads, D, h * w)
        return mixed.view(v.shape)


def narrowed(dim: int, narrow: int, out: int) -> tuple[nn.Module, ...]:
    """Two linear layers, pixel by pixel, with few channels between."""
    return nn.Conv2d(dim, narrow, 1), BatchNorm(narrow), nn.GELU(), nn.Conv2d(narrow, out, 1)


def pointwise(t: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(B, C, h, w) -> (B, rows of `weight`, h, w)."""
    return F.linear(t.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
