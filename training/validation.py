"""What a run's network is worth, and what its features are like, on held-out pictures."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import numpy as np
import torch

from irestore import metrics
from irestore.inspect import Features, watched
from irestore.models.network import Network
from training.crops import Pair, as_batch
from training.learning import forward
from training.whole import WholeField


@torch.no_grad()
def validate(model: Network, pairs: list[Pair], device: str) -> float:
    """Mean PSNR in dB of held-out pictures: on Y, less the border, of a network that enlarges, else on RGB."""
    scores = []
    for pair in pairs:
        assert pair.damaged is not None
        out = forward(model, as_batch([pair.damaged]).to(device)).clamp(0, 1)[0].permute(1, 2, 0)
        restored = (out * 255).round().cpu().numpy().astype(np.uint8)
        planes = (metrics.luma(restored), metrics.luma(pair.clean)) if model.scale > 1 else (restored, pair.clean)
        scores.append(metrics.psnr(*planes, border=model.scale if model.scale > 1 else 0))
    return float(np.mean(scores))


@torch.no_grad()
def features(model: Network, pairs: list[Pair], device: str) -> dict[str, list[float]]:
    """`magnitude`, `largest` and `entropy` of each block in order (see Features), the mean over the pictures."""
    seen: dict[str, list[Features]] = {}

    def see(name: str, x: Any) -> None:
        whole: Any = WholeField(x.tensor)  # its own moments may be others, see normalisation
        seen.setdefault(name, []).append(Features.of(whole))

    with watched(model, see):
        for pair in pairs:
            assert pair.damaged is not None
            forward(model, as_batch([pair.damaged]).to(device))

    def mean(kind: str, rows: list[Features]) -> float:
        return float(f"{fmean(getattr(each, kind) for each in rows):.4g}")

    return {kind: [mean(kind, rows) for rows in seen.values()] for kind in ("magnitude", "largest", "entropy")}
