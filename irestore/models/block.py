"""The block that all networks share: attention beside gated convolutions, then an MLP, in the way of i-LN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from irestore.field import Field
from irestore.models.layers import CAB, ILN, Mlp
from irestore.tiling import Padding

EPS = 1e-4  # of i-LN, inside the square root; upstream's value in all published configurations


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

    def hybrid(
        self, x: Field, attend: Callable[..., Tensor] | None, *others: Field, padding: Padding | None = None
    ) -> Field:
        """The map after this block. `attend` is told a tile of the normalised map and, at the same place, of others."""
        before = x.moments(self.eps)  # waits for the whole image
        c = x.map(lambda t: self.conv_block(self.norm1(t, before)), halo=CAB.halo)
        gain = before.std * self.conv_scale * self.conv_block.gate(c.mean())  # waits for the whole image
        if attend is None:
            x = x.map(lambda t, c: torch.addcmul(t, c, gain), c, into=c)
        else:
            x = x.map(
                lambda t, c, *more: torch.addcmul(
                    torch.addcmul(t, c, gain), attend(self.norm1(t, before), *more), before.std
                ),
                *(c, *others),
                padding=padding,
                into=c,
            )
        after = x.moments(self.eps)  # waits for the whole image
        return x.map(lambda t: torch.addcmul(t, self.mlp(self.norm2(t, after)), after.std), into=x)
