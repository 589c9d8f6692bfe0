"""Parts that two or more models use. They see tiles (B, C, h, w), and take what is global as an argument."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irestore.devices import KNOWS_BF16
from irestore.statistics import Moments
from irestore.tiling import Box

# oneDNN's linear layer adds the bias and does the GELU while it writes; MKL's, which F.linear takes, in further passes.
ONE_PASS = torch.backends.cpu.get_cpu_capability().startswith("AVX") and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(t: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """The linear layer (..., C) -> (..., C') in the type of its weight, whatever that of `t`, then GELU if asked."""
    t = t.to(weight.dtype)
    suits = t.dtype == torch.float32 or (t.dtype == torch.bfloat16 and KNOWS_BF16)
    if ONE_PASS and suits and t.device.type == "cpu" and not torch.is_grad_enabled():
        kind, algorithm = ("gelu", "none") if gelu else ("none", "")
        out: Tensor = torch.ops.mkldnn._linear_pointwise(t, weight, bias, kind, [], algorithm)
        return out
    out = F.linear(t, weight, bias)
    return F.gelu(out) if gelu else out


class Linear(nn.Linear):
    """A linear layer that computes in the type of its weight, whatever that of the tile: see `Network.halved`."""

    def forward(self, t: Tensor, *, gelu: bool = False) -> Tensor:
        """(..., C) -> (..., C')."""
        return linear(t, self.weight, self.bias, gelu=gelu)


class Conv(nn.Conv2d):
    """A convolution that computes in the type of its weight, whatever that of the tile."""

    def forward(self, t: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w')."""
        return super().forward(t.to(self.weight.dtype))


class Affine(nn.Module):
    """Scales and shifts each channel; knows no statistics."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, t: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return torch.addcmul(self.bias[:, None, None], t, self.weight[:, None, None])


class ILN(Affine):
    """i-LN: normalises by the mean and deviation of the whole image, then scales and shifts.

    arXiv 2504.06629, section 4. The residual branch is multiplied by `moments.std` again; that is left to the block.
    """

    def forward(self, t: Tensor, moments: Moments) -> Tensor:  # type: ignore[override]
        """(B, C, h, w) -> (B, C, h, w)."""
        gain = self.weight[:, None, None] / moments.std
        return torch.addcmul(self.bias[:, None, None] - moments.mean * gain, t, gain)


class ChannelAttention(nn.Module):
    """Squeeze and excitation: a gate for each channel from the channel's mean over the whole image."""

    def __init__(self, dim: int, squeeze_factor: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.Identity(),  # upstream's pooling: here the mean comes from the Field
            nn.Conv2d(dim, dim // squeeze_factor, 1),
            nn.ReLU(),
            nn.Conv2d(dim // squeeze_factor, dim, 1),
            nn.Sigmoid(),
        )

    def forward(self, mean: Tensor) -> Tensor:
        """(B, C, 1, 1) -> (B, C, 1, 1) in 0..1."""
        gate: Tensor = self.attention(mean)
        return gate


class CAB(nn.Module):
    """HAT's convolution branch: conv 3x3, GELU, conv 3x3 (`forward`, halo 2), and the gate of its output (`gate`)."""

    halo = 2

    def __init__(self, dim: int, compress_ratio: int, squeeze_factor: int) -> None:
        super().__init__()
        self.cab = nn.Sequential(
            Conv(dim, dim // compress_ratio, 3, padding=1),
            nn.GELU(),
            Conv(dim // compress_ratio, dim, 3, padding=1),
            ChannelAttention(dim, squeeze_factor),
        )

    def forward(self, t: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w), before the gate."""
        out: Tensor = self.cab[2](self.cab[1](self.cab[0](t)))
        return out

    def gate(self, mean: Tensor) -> Tensor:
        """Mean of the output over the whole image (B, C, 1, 1) -> gate (B, C, 1, 1)."""
        out: Tensor = self.cab[3](mean)
        return out


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between, pixel by pixel."""

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        self.fc1 = Linear(dim, int(dim * ratio))
        self.fc2 = Linear(int(dim * ratio), dim)

    def forward(self, t: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        out: Tensor = self.fc2(self.fc1(t.permute(0, 2, 3, 1), gelu=True))
        return out.permute(0, 3, 1, 2)


def to_windows(t: Tensor, window: int) -> Tensor:
    """(B, C, h, w) -> (B * windows, window * window, C), windows row by row; h and w are multiples of the window."""
    b, c, h, w = t.shape
    t = t.permute(0, 2, 3, 1).reshape(b, h // window, window, w // window, window, c)
    return t.transpose(2, 3).reshape(-1, window * window, c)


def from_windows(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of `to_windows`: (B * windows, window * window, C) -> (B, C, height, width)."""
    c = windows.shape[-1]
    t = windows.reshape(-1, height // window, width // window, window, window, c)
    return t.transpose(2, 3).reshape(-1, height, width, c).permute(0, 3, 1, 2)


def parts(box: Box, height: int, width: int, device: torch.device) -> Tensor:
    """Where each pixel of a box (h, w) lies, 0..8: 4 inside of a map of that size, else beyond which of its edges."""
    rows, columns = (torch.arange(*ends, device=device) for ends in ((box.top, box.bottom), (box.left, box.right)))
    down, across = ((line >= 0).long() + (line >= side) for line, side in ((rows, height), (columns, width)))
    return 3 * down[:, None] + across


def fused_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
    """softmax(scale q k + bias) v, each (B, H, N, D), so that GPUs take a kernel that keeps no N x N matrix.

    These take only multiples of 8 channels a head, and a bias whose last dimension lies together.
    """
    short = -q.shape[-1] % 8 if q.is_cuda else 0
    if not short:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    q, k, v = (F.pad(each, (0, short)) for each in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)[..., :-short]


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float, regions: Tensor | None = None) -> Tensor:
    """softmax(scale q k + bias) v in each window: q, k, v (B, H, N, D), bias (1, H, N, N) -> (B, H, N, D).

    Pixels of different `regions` (B, N) do not see each other.
    """
    mixed = fused_attention(q, k, v, bias, scale)
    if regions is not None:
        torn = (regions != regions[:, :1]).any(1).nonzero()[:, 0]
        if len(torn):  # few windows, and only these need a mask of their own, which takes much room
            again = []
            for few in (torn[i : i + 16] for i in range(0, len(torn), 16)):
                apart = (regions[few][:, :, None] != regions[few][:, None])[:, None].to(bias.dtype)  # (few, 1, N, N)
                mask = bias - 100.0 * apart
                again.append(fused_attention(q[few], k[few], v[few], mask, scale))
            mixed = mixed.index_copy(0, torn, torch.cat(again))
    return mixed


def grid(height: int, width: int) -> Tensor:
    """Row and column of each pixel of a rectangle, (height * width, 2)."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns], -1).reshape(-1, 2)


def self_index(height: int, width: int) -> Tensor:
    """Places in the bias table of query minus key, (N, N), N the pixels of a window of height x width."""
    places = grid(height, width)
    rows, columns = (places[:, None] - places[None]).unbind(-1)
    return (rows + height - 1) * (2 * width - 1) + columns + width - 1


def overlap_index(window: int, outer: int) -> Tensor:
    """Places in the bias table of key minus query, (window^2, outer^2); as upstream, negative ones count backwards."""
    offset = grid(outer, outer)[None] - grid(window, window)[:, None] + window - outer + 1
    return offset[..., 0] * (window + outer - 1) + offset[..., 1]
