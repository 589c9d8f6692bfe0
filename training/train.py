"""Trains one network from a config: python -m training.train training/configs/sr_x4.toml --data FOLDER --out runs/sr-x4

Run again with the same --out, it resumes from the last checkpoint. The log is JSON lines in OUT/log.jsonl; the averaged
weights are written to OUT/weights.safetensors at each validation and at the end.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from irestore import models
from irestore.models.network import Network
from irestore.weights.files import unpacked
from training import data, degrade, muon, normalisation
from training.crops import Crops, Drawing, Pair
from training.learning import Schedule, forward, loss_of, optimisers
from training.validation import features, validate

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}
BUNDLED = Path(models.__file__ or "").parents[1] / "bundled"
LONGEST_STEP = 5.0  # seconds that a step counts for at most: a machine put to sleep does not use up the schedule


@torch.no_grad()
def start_at_skip(model: Network) -> None:
    """Makes the network give its input, enlarged to the nearest pixel: what it learns is the difference."""
    for parameter in model.last_layer().parameters():
        parameter.zero_()


@dataclass(frozen=True)
class Options:
    """Where and how a run computes; its result is the same to rounding."""

    device: str = "cpu"
    precision: str = "fp32"
    compile: bool = False


class Run:
    """One training run in a folder: model, average, optimiser, log and checkpoint."""

    def __init__(self, config: dict[str, Any], out: Path, options: Options | None = None) -> None:
        options = options or Options()
        self.config, self.out, self.device, self.precision = config, out, options.device, PRECISIONS[options.precision]
        self.forward = torch.compile(forward, dynamic=False) if options.compile else forward
        torch.manual_seed(config["train"]["seed"])
        self.model = models.build(config["model"]["architecture"], config["model"]["config"])
        self.norm = config["model"].get("norm")
        if self.norm:
            normalisation.use(self.model, self.norm)
        self.model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on a CPU
        start_at_skip(self.model)
        self.average = copy.deepcopy(self.model)
        self.optimisers = optimisers(self.model, config["train"], self.precision)
        self.step, self.seconds = 0, 0.0
        out.mkdir(parents=True, exist_ok=True)
        if (out / "checkpoint.pt").exists():
            self.resume()

    def start_from(self, path: Path) -> list[str]:
        """Takes the tensors of a weights file that fit by name and shape; the names of those that do not.

        Does nothing in a run that has begun already.
        """
        if self.step:
            return []
        given, own = unpacked(load_file(path), path.name), self.model.state_dict()
        fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
        for network in (self.model, self.average):
            network.load_state_dict(own | {name: value.to(own[name]) for name, value in fitting.items()})
        return sorted(own.keys() - fitting.keys())

    def resume(self) -> None:
        """Goes on from the folder's checkpoint."""
        saved = torch.load(self.out / "checkpoint.pt", weights_only=True, map_location=self.device)
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.step, self.seconds = saved["step"], saved["seconds"]

    def save(self) -> None:
        """Writes checkpoint and averaged weights, each whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, self.out / "checkpoint.tmp")
        (self.out / "checkpoint.tmp").replace(self.out / "checkpoint.pt")
        told = {**self.config["model"], "task": self.config["task"], "scale": self.model.scale}
        if self.norm not in (None, "i-ln"):
            told["architecture"] += f" with {self.norm}"  # which irestore does not take for one that it knows
        weights = {name: value.contiguous().cpu() for name, value in self.average.state_dict().items()}
        save_file(weights, self.out / "weights.tmp", metadata={"irestore": json.dumps(told)})
        (self.out / "weights.tmp").replace(self.out / "weights.safetensors")

    def log(self, **values: object) -> None:
        """Appends a line to the log and prints it."""
        line = json.dumps({"step": self.step, "seconds": round(self.seconds, 1), **values})
        with (self.out / "log.jsonl").open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def train(self, batches: Iterable[tuple[Tensor, Tensor]], held: list[Pair]) -> None:
        """Trains to the end of the schedule; `batches` begins with that of the present step."""
        settings, schedule = self.config["train"], Schedule(self.config["train"])
        alone = self.device == "cpu" and torch.get_num_threads() == 1
        clock = time.process_time if alone else time.monotonic  # on one thread, what others do does not count
        label = "psnr_y" if self.model.scale > 1 else "psnr"
        total, saved, start = 0.0, self.step, clock()
        for damaged, clean in batches:
            progress = schedule.progress(self.step, self.seconds)
            if progress >= 1:
                return
            total += self.learn(damaged, clean, schedule.learning_rate(self.step, progress), progress)
            self.step += 1
            self.seconds += min(clock() - start, LONGEST_STEP)
            progress = schedule.progress(self.step, self.seconds)
            if self.step % settings["valid_every"] == 0 or progress >= 1:
                score = validate(self.average, held, self.device)
                mean_loss = total / (self.step - saved)
                told = {label: score}
                if self.model.scale == 1:
                    told["kept"] = validate(self.average, [Pair(pair.clean, pair.clean) for pair in held], self.device)
                rounded = {name: round(value, 3) for name, value in told.items()}
                seen = features(self.average, held, self.device) if self.norm else {}
                self.log(loss=round(mean_loss, 6), **rounded, **seen, progress=round(progress, 4))
                self.save()
                total, saved = 0.0, self.step
            start = clock()

    def learn(self, damaged: Tensor, clean: Tensor, rate: float, progress: float) -> float:
        """One step of the optimiser; the loss before it."""
        damaged = damaged.to(self.device).contiguous(memory_format=torch.channels_last)
        out = self.forward(self.model, damaged, self.precision)
        loss = loss_of(out, clean.to(self.device), progress, self.config["train"])
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config["train"]["clip"])
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * (self.config["train"]["muon"] if isinstance(optimiser, muon.Muon) else 1.0)
            optimiser.step()
        self.update_average(min(self.config["train"]["ema"], (self.step + 1) / (self.step + 10)))
        return loss.item()

    @torch.no_grad()
    def update_average(self, keep: float) -> None:
        """Moves the averaged weights towards the present ones."""
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)


def pictures(
    config: dict[str, Any], folder: Path, model: Network, cache: Path | None = None
) -> tuple[Crops, list[Pair]]:
    """What the config trains and validates with. Raises ValueError where crops are no whole windows."""
    settings = config["data"]
    for key in ("size", "valid_size"):
        if settings[key] % model.window:
            raise ValueError(f"[data] {key} = {settings[key]}: must be a multiple of the window, {model.window}")
    damage = degrade.build(config["degradation"]) if "degradation" in config else None
    train, held = data.load(folder, settings, model.scale, damage, data.Cache(cache))
    optional = {key: settings[key] for key in ("grey", "paired", "places") if key in settings}
    drawing = Drawing(
        scale=model.scale, size=settings["size"], batch=settings["batch"], seed=config["train"]["seed"], **optional
    )
    return Crops(train, drawing, damage), held


def beginning(config: dict[str, Any], runs: Path) -> Path | None:
    """The weights that a run's `init`, a config's name, stands for: its run in the folder, else its bundled model."""
    if "init" not in config:
        return None
    run: Path = runs / config["init"] / "weights.safetensors"
    if run.exists():
        return run
    recipe = Path(__file__).with_name("configs") / f"{config['init']}.toml"
    said = tomllib.loads(recipe.read_text(encoding="utf-8")) if recipe.exists() else {}
    if "release" not in said:
        raise ValueError(f"init = {config['init']!r}: there is no {run}; train that config first, or give --init FILE")
    return BUNDLED / f"{said['release']['name']}.safetensors"


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean pictures, searched recursively")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint, log, weights")
    parser.add_argument(
        "--init", type=Path, help="weights to start from, where names and shapes agree, for [train] init"
    )
    parser.add_argument(
        "--norm",
        choices=normalisation.NORMS,
        help="the normalisation, for [model] norm; logs what the features are like",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the arithmetic in training")
    parser.add_argument(
        "--compile", action="store_true", help="compile the network: a minute, then steps a third faster"
    )
    parser.add_argument("--cache", type=Path, help="folder for decoded pictures, so that the next start is quick")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw crops ahead of a fast device")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    text = options.config.read_text(encoding="utf-8")
    config = tomllib.loads(text)
    if options.norm:
        config["model"]["norm"] = options.norm
    run = Run(config, options.out, Options(options.device, options.precision, options.compile))
    (options.out / "config.toml").write_text(text, encoding="utf-8")
    init = options.init or beginning(config["train"], options.out.parent)
    fresh = run.start_from(init) if init else []
    crops, held = pictures(config, options.data, run.model, options.cache)
    parameters = sum(p.numel() for p in run.model.parameters())
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    told = {"pictures": len(crops.pairs), "held_out": len(held), "parameters": parameters, "device": name}
    told |= {"norm": run.norm} if run.norm else {}
    run.log(
        **told, **({"init": init.parent.name if init.stem == "weights" else init.stem, "fresh": fresh} if init else {})
    )
    numbers = range(run.step, config["train"]["steps"])
    run.train(DataLoader(crops, batch_size=None, sampler=numbers, num_workers=options.workers), held)


if __name__ == "__main__":
    main()
