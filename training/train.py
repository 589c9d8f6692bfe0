"""Trains one network from a config: python -m training.train training/configs/sr_x4.toml --data FOLDER --out runs/sr-x4

Run again with the same --out, it resumes from the last checkpoint. The log is JSON lines in OUT/log.jsonl; the averaged
weights are written to OUT/weights.safetensors at each validation and at the end.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from irestore import metrics, models
from irestore.field import Field
from irestore.models.trunk import Trunk
from irestore.tiling import Tiling
from training.data import Crops, Pair, as_batch, make_pairs, read_folder
from training.degrade import bicubic


def forward(model: Trunk, image: Tensor) -> Tensor:
    """The network on whole crops, with gradients: one tile. Sides are multiples of the window."""
    return model(Field.of(image, Tiling(multiple=model.window, device=image.device))).tensor


class Schedule:
    """How far training is, 0..1, by steps or by seconds spent in steps, whichever is further; and what follows from it."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.steps, self.seconds = config["steps"], config.get("minutes", math.inf) * 60
        self.rate, self.warmup, self.mse_from = config["rate"], config["warmup"], config.get("mse_from", 1.0)

    def progress(self, step: int, seconds: float) -> float:
        """0 at the start, 1 at the end."""
        return min(max(step / self.steps, seconds / self.seconds), 1.0)

    def learning_rate(self, step: int, progress: float) -> float:
        """Linear warm-up, then half a cosine down to a hundredth."""
        return self.rate * min(1.0, (step + 1) / self.warmup) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def loss_of(out: Tensor, clean: Tensor, progress: float, config: dict[str, Any]) -> Tensor:
    """L1; towards the end (from progress mse_from) mean squared error; plus L1 of the spectrum, weighted."""
    loss = F.mse_loss(out, clean) * 20 if progress >= config.get("mse_from", 1.0) else F.l1_loss(out, clean)
    weight = config.get("frequency", 0.0)
    if weight:
        spectrum = torch.fft.rfft2(out - clean, norm="ortho")
        loss = loss + weight * torch.view_as_real(spectrum).abs().mean()
    return loss


@torch.no_grad()
def validate(model: Trunk, pairs: list[Pair], border: int) -> float:
    """Mean PSNR in dB on Y of held-out pictures."""
    scores = []
    for pair in pairs:
        out = forward(model, as_batch([pair.damaged])).clamp(0, 1)[0].permute(1, 2, 0)
        restored = (out * 255).round().numpy().astype(np.uint8)
        scores.append(metrics.psnr(metrics.luma(restored), metrics.luma(pair.clean), border=border))
    return float(np.mean(scores))


def centre(image: np.ndarray, size: int) -> np.ndarray:
    """The middle of a picture, size x size."""
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def load_data(folder: Path, config: dict[str, Any], window: int) -> tuple[list[Pair], list[Pair]]:
    """(training pairs, validation pairs): every `hold_out`-th picture is kept for validation, its middle only."""
    scale = config["model"]["config"]["upscale"]
    damage: Callable[[Any], Any] = lambda image: bicubic(image, scale)  # noqa: E731
    skip = tuple(config["data"].get("skip", ()))
    images = [(name, pixels) for name, pixels in read_folder(folder) if not name.startswith(skip or ("\0",))]
    every, size = config["data"]["hold_out"], config["data"]["valid_size"] * scale
    held = [centre(pixels, size) for _, pixels in images[::every] if min(pixels.shape[:2]) >= size]
    kept = [pixels for i, (_, pixels) in enumerate(images) if i % every]
    if config["data"].get("halves", False):
        kept += [bicubic(pixels, 2) for pixels in kept if min(pixels.shape[:2]) >= 600]
    return make_pairs(kept, damage, scale), make_pairs(held, damage, scale)


class Run:
    """One training run in a folder: model, average, optimiser, log and checkpoint."""

    def __init__(self, config: dict[str, Any], out: Path, device: str) -> None:
        self.config, self.out, self.device = config, out, device
        torch.manual_seed(config["train"]["seed"])
        self.model = models.build(config["model"]["architecture"], config["model"]["config"]).to(device)
        self.average = copy.deepcopy(self.model)
        decay, plain = [], []
        for parameter in self.model.parameters():
            (decay if parameter.ndim > 1 else plain).append(parameter)
        groups = [
            {"params": decay, "weight_decay": config["train"].get("decay", 0.0)},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
        self.step, self.seconds = 0, 0.0
        out.mkdir(parents=True, exist_ok=True)
        if (out / "checkpoint.pt").exists():
            self.resume()

    def resume(self) -> None:
        """Goes on from the folder's checkpoint."""
        saved = torch.load(self.out / "checkpoint.pt", weights_only=True, map_location=self.device)
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.seconds = saved["step"], saved["seconds"]

    def save(self) -> None:
        """Writes checkpoint and averaged weights, each whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, self.out / "checkpoint.tmp")
        (self.out / "checkpoint.tmp").replace(self.out / "checkpoint.pt")
        config = self.config
        told = {**config["model"], "task": config["task"], "scale": config["model"]["config"]["upscale"]}
        weights = {name: value.contiguous().cpu() for name, value in self.average.state_dict().items()}
        save_file(weights, self.out / "weights.tmp", metadata={"irestore": json.dumps(told)})
        (self.out / "weights.tmp").replace(self.out / "weights.safetensors")

    def log(self, **values: object) -> None:
        """Appends a line to the log and prints it."""
        line = json.dumps({"step": self.step, "seconds": round(self.seconds, 1), **values})
        with (self.out / "log.jsonl").open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def train(self, crops: Crops, held: list[Pair]) -> None:
        """Trains to the end of the schedule."""
        settings, schedule = self.config["train"], Schedule(self.config["train"])
        border, total = self.config["model"]["config"]["upscale"], 0.0
        progress, saved = schedule.progress(self.step, self.seconds), self.step
        while progress < 1:
            start = time.monotonic()
            for group in self.optimiser.param_groups:
                group["lr"] = schedule.learning_rate(self.step, progress)
            damaged, clean = crops.draw()
            loss = loss_of(forward(self.model, damaged.to(self.device)), clean.to(self.device), progress, settings)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), settings["clip"])
            self.optimiser.step()
            self.update_average(min(settings["ema"], (self.step + 1) / (self.step + 10)))
            self.step += 1
            self.seconds += min(time.monotonic() - start, 5.0)  # a machine put to sleep does not use up the schedule
            progress, total = schedule.progress(self.step, self.seconds), total + loss.item()
            if self.step % settings["valid_every"] == 0 or progress >= 1:
                score = validate(self.average, held, border)
                self.log(
                    loss=round(total / (self.step - saved), 6), psnr_y=round(score, 3), progress=round(progress, 4)
                )
                self.save()
                total, saved = 0.0, self.step

    @torch.no_grad()
    def update_average(self, keep: float) -> None:
        """Moves the averaged weights towards the present ones."""
        for old, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
            old.lerp_(new, 1 - keep)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean pictures, searched recursively")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint, log, weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    config = tomllib.loads(options.config.read_text())
    run = Run(config, options.out, options.device)
    pairs, held = load_data(options.data, config, run.model.window)
    data = config["data"]
    crops = Crops(
        pairs, scale=run.model.scale, size=data["size"], batch=data["batch"], seed=config["train"]["seed"] + run.step
    )
    run.log(pictures=len(pairs), held_out=len(held), parameters=sum(p.numel() for p in run.model.parameters()))
    run.train(crops, held)


if __name__ == "__main__":
    main()
