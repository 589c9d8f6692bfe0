"""Networks with another normalisation than i-LN, to compare with it; of no use but in training."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from irestore.models.layers import ILN, Affine
from irestore.models.network import Network
from irestore.statistics import Moments
from training.whole import WholeField


class Unscaled(NamedTuple):
    """Moments that a block rescales nothing by, beside the true ones."""

    mean: Tensor
    std: Tensor
    true: Moments


class UnscaledField(WholeField):
    """A WholeField whose moments are 0 and 1."""

    def moments(self, eps: float) -> Any:
        """Mean 0 and deviation 1, and the true ones."""
        true = super().moments(eps)
        return Unscaled(torch.zeros_like(true.mean), torch.ones_like(true.std), true)


class WithoutRescaling(ILN):
    """i-LN; its block does not multiply by the deviation again."""

    def forward(self, t: Tensor, moments: Any) -> Tensor:  # type: ignore[override]
        """(B, C, h, w) -> (B, C, h, w)."""
        return super().forward(t, moments.true)


class LayerNorm(ILN):
    """Normalises each pixel by the mean and deviation of its channels (Ba et al. 2016): per token, as usual."""

    def forward(self, t: Tensor, moments: Any) -> Tensor:  # type: ignore[override]
        """(B, C, h, w) -> (B, C, h, w)."""
        pixels = F.layer_norm(t.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-5)
        return pixels.permute(0, 3, 1, 2)


class NoNorm(ILN):
    """Scales and shifts each channel only."""

    def forward(self, t: Tensor, moments: Any) -> Tensor:  # type: ignore[override]
        """(B, C, h, w) -> (B, C, h, w)."""
        return Affine.forward(self, t)


NORMS = {"i-ln": ILN, "i-ln without rescaling": WithoutRescaling, "layernorm": LayerNorm, "none": NoNorm}


def use(model: Network, norm: str) -> None:
    """Puts that normalisation, of NORMS, in the place of a new network's i-LN."""
    if norm == "i-ln":
        return
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is ILN:
                setattr(parent, name, NORMS[norm](len(child.weight)))
    model.register_forward_pre_hook(lambda _model, given: (UnscaledField(given[0].tensor),))
