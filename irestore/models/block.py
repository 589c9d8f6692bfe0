"""What HEART and HAT-iLN share beside the frame: attention next to gated convolutions, then an MLP, by i-LN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from irestore.field import Field
from irestore.models.layers import CAB, ILN, Mlp
from irestore.models.trunk import Trunk, TrunkConfig, at_least_one
from irestore.tiling import Box, Padding

EPS = 1e-4  # of i-LN, inside the square root; upstream's value in all published configurations


@dataclass(frozen=True)
class HybridConfig(TrunkConfig):
    """What the two have in common. Names are upstream's."""

    depths: tuple[int, ...] = (6, 6, 6, 6, 6, 6)
    window_size: int = 32
    compress_ratio: int = 3
    squeeze_factor: int = 30
    conv_scale: float = 0.01
    mlp_ratio: float = 2.0

    def __post_init__(self) -> None:
        """Raises ValueError for a value that no network can be built from."""
        super().__post_init__()
        at_least_one(self, ("window_size", "compress_ratio", "squeeze_factor"))
        if max(self.compress_ratio, self.squeeze_factor) > self.embed_dim:
            raise ValueError(f"embed_dim = {self.embed_dim} is below compress_ratio or squeeze_factor")
        if len(self.depths) != len(self.num_heads):
            raise ValueError(f"depths has {len(self.depths)} groups but num_heads has {len(self.num_heads)}")


class HybridBlock(nn.Module):
    """x + std (attention + conv_scale * gated convolutions), then x + std mlp; each std is that of its branch's input.

    `config` has embed_dim, compress_ratio, squeeze_factor, conv_scale and mlp_ratio. `attention` maps tiles
    (B, C, h, w) of the normalised map, with `padding` around the image; None: this block has no attention.
    """

    passes = 3  # walks over the whole map

    def __init__(self, config: Any, attention: nn.Module | None, eps: float = EPS) -> None:
        super().__init__()
        dim = config.embed_dim
        self.eps, self.conv_scale = eps, config.conv_scale
        self.norm1 = ILN(dim)
        self.attn = attention
        self.conv_block = CAB(dim, config.compress_ratio, config.squeeze_factor)
        self.norm2 = ILN(dim)
        self.mlp = Mlp(dim, config.mlp_ratio)

    def hybrid(self, x: Field, attend: Callable[[Tensor, Box], Tensor] | None, padding: Padding | None = None) -> Field:
        """The map after this block. `attend` is told a tile of the normalised map, and where it lies."""
        before = x.moments(self.eps)  # waits for the whole image
        c = x.map(lambda t: self.conv_block(self.norm1(t, before)), halo=CAB.halo)
        gain = before.std * self.conv_scale * self.conv_block.gate(c.mean())  # waits for the whole image
        if attend is None:
            x = x.map(lambda t, c: torch.addcmul(t, c, gain), c, into=c)
        else:
            x = x.map(
                lambda t, c, box: torch.addcmul(
                    torch.addcmul(t, c, gain), attend(self.norm1(t, before), box), before.std
                ),
                c,
                padding=padding,
                into=c,
                placed=True,
            )
        after = x.moments(self.eps)  # waits for the whole image
        return x.map(lambda t: torch.addcmul(t, self.mlp(self.norm2(t, after)), after.std), into=x)


class HybridTrunk(Trunk):
    """The frame around groups of hybrid blocks."""

    config: HybridConfig

    @property
    def window(self) -> int:
        """What the sides of the input and its tiles must be multiples of, in its pixels."""
        return self.config.window_size * self.config.unshuffle

    def body_bytes(self, height: int, width: int) -> int:
        """A block's, at the peak of its MLP or its attention."""
        config = self.config
        pixel = 4 * config.embed_dim * max(13.5, 3 + 2 * config.mlp_ratio)
        return int(height * width * pixel / config.unshuffle**2)
