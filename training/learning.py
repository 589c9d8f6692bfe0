"""How a network learns: its forward pass, the loss, the optimisers and their rate."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from irestore.models.network import Network
from training import muon
from training.whole import WholeField


def forward(model: Network, image: Tensor, precision: torch.dtype | None = None) -> Tensor:
    """The network on whole crops, with gradients; sides are multiples of the window. Gives float32."""
    # The fused attention of a CPU takes five times as long as matrix products to go back through small windows.
    attention = sdpa_kernel(SDPBackend.MATH) if image.device.type == "cpu" else nullcontext()
    with attention, torch.autocast(image.device.type, precision, enabled=precision is not None):
        result: Tensor = model(WholeField(image)).tensor
    return result.float()


class Schedule:
    """How far training is, 0..1, by steps or by seconds in steps, whichever is further; and what follows from it."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.steps: int = config["steps"]
        self.seconds: float = config.get("minutes", math.inf) * 60
        self.rate: float = config["rate"]
        self.warmup: int = config["warmup"]
        self.decay_from: float | None = config.get("decay_from")

    def progress(self, step: int, seconds: float) -> float:
        """0 at the start, 1 at the end."""
        return min(max(step / self.steps, seconds / self.seconds), 1.0)

    def learning_rate(self, step: int, progress: float) -> float:
        """Linear warm-up, then half a cosine down to a hundredth; or constant, and linear down from `decay_from`."""
        if self.decay_from is None:
            left = 0.5 * (1 + math.cos(math.pi * progress))
        else:
            left = min(1.0, (1 - progress) / (1 - self.decay_from))
        return self.rate * min(1.0, (step + 1) / self.warmup) * (0.01 + 0.99 * left)


def optimisers(
    model: Network, config: dict[str, Any], precision: torch.dtype | None = None
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between the first and the last convolution, at `muon` times the rate; AdamW for the rest.

    Without `muon`, AdamW for all. `decay` is AdamW's, on what has more than one dimension. `precision` is Muon's.
    """
    parameters = list(model.parameters())
    outer = {
        id(parameter)
        for layer in (model.get_submodule("conv_first"), model.last_layer())
        for parameter in layer.parameters()
    }
    inner = [p for p in parameters if "muon" in config and muon.suits(p) and id(p) not in outer]
    taken = {id(parameter) for parameter in inner}
    rest = [parameter for parameter in parameters if id(parameter) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": config.get("decay", 0.0)},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))]
    if inner:
        made.append(muon.Muon(inner, lr=1e-3, precision=precision))
    return made


def loss_of(out: Tensor, clean: Tensor, progress: float, config: dict[str, Any]) -> Tensor:
    """The config's `loss`; plus L1 of the spectrum, weighted by `frequency`.

    l1 (the default): L1, and from progress `mse_from` on mean squared error. psnr: the logarithm of each crop's mean
    squared error (Chen et al., HINet, arXiv 2105.06086), so that crops to be left alone count too, beside bad ones.
    They pull ever harder the better they are, down to an error of `floor`: a network that finds its task hard then
    learns to do nothing. So before progress `psnr_from` it learns by L1.
    """
    if config.get("loss", "l1") == "psnr" and progress >= config.get("psnr_from", 0.0):
        errors = F.mse_loss(out, clean, reduction="none").mean((1, 2, 3))
        loss = 0.02 * torch.log(errors + config["floor"]).mean()
    else:
        loss = F.mse_loss(out, clean) * 20 if progress >= config.get("mse_from", 1.0) else F.l1_loss(out, clean)
    weight = config.get("frequency", 0.0)
    if weight:
        spectrum = torch.fft.rfft2(out - clean, norm="ortho")
        loss = loss + weight * torch.view_as_real(spectrum).abs().mean()
    return loss
