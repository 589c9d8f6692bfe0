"""Muon: momentum whose update of each weight matrix is brought near an orthogonal one, so that every direction learns.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). `torch.optim.Muon` takes matrices
only; most weights here are convolutions, which are taken as matrices (out, in * height * width).
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # a quintic that brings singular values near 1 in five steps
SMALLEST = 16  # a matrix with a shorter side is left to Adam


def suits(parameter: Tensor) -> bool:
    """Whether a weight is a matrix, or a convolution that makes one, with both sides long enough."""
    return parameter.ndim in (2, 4) and min(len(parameter), parameter[0].numel()) >= SMALLEST


def orthogonalised(matrices: Tensor, precision: torch.dtype | None = None) -> Tensor:
    """U V^T of each singular value decomposition U S V^T, about; (count, rows, columns). Computed in that precision."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(precision)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with weights that `suits`; the step does not depend on the gradient's size.

    Weights that make matrices of one shape are taken together: most are small, and one call for many costs less.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, precision: torch.dtype | None = None) -> None:
        super().__init__(parameters, {"lr": lr})
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step down the gradients that the weights hold."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.flatten(1).shape].append(weight)
            for (rows, columns), weights in alike.items():
                ahead = torch.stack([self.ahead(weight).flatten(1) for weight in weights])
                changes = orthogonalised(ahead, self.precision).to(ahead.dtype)
                stretch = max(1.0, rows / columns) ** 0.5
                for weight, change in zip(weights, changes, strict=True):
                    weight.add_(change.view_as(weight), alpha=-group["lr"] * stretch)

    def ahead(self, weight: nn.Parameter) -> Tensor:
        """The weight's gradient, moved towards the momentum that it has just changed."""
        assert weight.grad is not None
        if weight not in self.state:
            self.state[weight]["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = self.state[weight]["momentum"]
        momentum.lerp_(weight.grad, 1 - MOMENTUM)
        return weight.grad.lerp(momentum, MOMENTUM)
