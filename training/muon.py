"""Muon: momentum whose update of each weight matrix is brought near an orthogonal one, so that every direction learns.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). `torch.optim.Muon` takes matrices
only; most weights here are convolutions, which are taken as matrices (out, in * height * width).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # a quintic that brings singular values near 1 in five steps
SMALLEST = 16  # a matrix with a shorter side is left to Adam


def suits(parameter: Tensor) -> bool:
    """Whether a weight is a matrix, or a convolution that makes one, with both sides long enough."""
    return parameter.ndim in (2, 4) and min(len(parameter), parameter[0].numel()) >= SMALLEST


def orthogonalised(matrix: Tensor, precision: torch.dtype | None = None) -> Tensor:
    """U V^T of the singular value decomposition U S V^T, about; (rows, columns). Computed in that precision."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-7)).to(precision)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.T if tall else x
    return result


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with weights that `suits`; the step does not depend on the gradient's size."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, precision: torch.dtype | None = None) -> None:
        super().__init__(parameters, {"lr": lr})
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step down the gradients that the weights hold."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight not in self.state:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
                momentum = self.state[weight]["momentum"]
                momentum.lerp_(weight.grad, 1 - MOMENTUM)
                ahead = weight.grad.lerp(momentum, MOMENTUM).flatten(1)
                stretch = max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
                change = orthogonalised(ahead, self.precision).view_as(weight)
                weight.add_(change, alpha=-group["lr"] * stretch)
