"""What `benchmarks.gpu` measures: each section is a function that gives its rows one by one."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import batch
from irestore import models, weights
from irestore.devices import exact_convolutions
from irestore.models.network import Network
from irestore.planning import PRECISIONS, Settings, cost
from irestore.runner import restore

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import goldens as golden_files
import networks
import reference

Row = dict[str, Any]
EXACT, NEAR = 2e-5, 1 / 255  # largest differences that are allowed, in float32 and in the halves


@dataclass(frozen=True)
class Run:
    """What is measured, and how thoroughly."""

    device: torch.device
    goldens: Path | None = None
    quick: bool = False

    @property
    def precisions(self) -> list[str]:
        """Those that are tried on the device."""
        return [name for name in PRECISIONS if name != "fp16" or self.device.type != "cpu"]

    def networks(self) -> Iterator[tuple[str, Network, dict[str, Any]]]:
        """Of each architecture the bundled one, then the published one with random weights; and their configs."""
        for architecture in models.ARCHITECTURES:
            if self.quick:
                if architecture in networks.BASES:
                    small = networks.network(architecture, dtype=torch.float32)
                    yield architecture, small.to(self.device), networks.BASES[architecture]
                continue
            entries = [entry for entry in weights.entries() if entry.architecture == architecture]
            for entry in [entry for entry in entries if entry.bundled][-1:]:
                yield entry.name, weights.load(entry, device=self.device), dict(entry.config)
            config = next((dict(entry.config) for entry in entries if not entry.bundled), None)
            if config or not entries:
                config = config or asdict(models.ARCHITECTURES[architecture].Config(upscale=4))
                torch.manual_seed(0)
                yield f"{architecture} (random)", models.build(architecture, config).eval().to(self.device), config

    def image(self, side: int, network: Network) -> torch.Tensor:
        """A slope with noise; its sides, for lack of a multiple, need padding."""
        slope = torch.linspace(0.1, 0.8, side - 5) + torch.linspace(0, 0.1, side)[:, None]
        return slope + 0.1 * torch.rand(1, network.in_chans, side, side - 5, generator=torch.Generator().manual_seed(0))


def goldens(run: Run) -> Iterator[Row]:
    """Every golden, whole and in tiles, in float32."""
    for place in [golden_files.OWN, *([run.goldens] if run.goldens else [])]:
        for name, paths in golden_files.names(place).items():
            if golden_files.metadata(paths[0])["arch"] not in golden_files.ARCHITECTURE:
                continue
            golden, worst = golden_files.read(paths), 0.0
            model = golden.model().to(run.device)
            for case, image in golden.inputs.items():
                for tile in (None, *networks.tiles(model.window).values()):
                    with exact_convolutions(run.device):
                        result = networks.run(model, image, tile, device=run.device).cpu()
                    worst = max(worst, float((result - golden.outputs[case]).abs().max()))
            yield {"golden": f"{place.name}/{name}", "cases": len(golden.inputs), "worst": worst, "ok": worst <= EXACT}


def exactness(run: Run) -> Iterator[Row]:
    """Tiles against the whole in each precision, before values are clipped; relative where values are above 1."""
    for name, network, _ in run.networks():
        image, exact = run.image(4 * network.window - 3, network), torch.zeros(())
        for precision in run.precisions:
            half = PRECISIONS[precision]
            used = network.halved(half) if half else network
            with exact_convolutions(run.device):
                whole = networks.run(used, image, device=run.device).cpu()
                tiled = [networks.run(used, image, t, device=run.device) for t in networks.tiles(used.window).values()]
            exact = whole if precision == "fp32" else exact
            unit = max(1.0, float(exact.abs().max()))
            worst = max(float((each.cpu() - whole).abs().max()) for each in tiled) / unit
            ok = worst <= (EXACT if precision == "fp32" else NEAR)
            from_exact = float((whole - exact).abs().max()) / unit
            yield {"network": name, "precision": precision, "tiled": worst, "from_fp32": from_exact, "ok": ok}


def synchronisation(run: Run) -> Iterator[Row]:
    """Where the host waits for the device during a restoration; the copies of the result are to be the only ones."""
    if run.device.type != "cuda":
        yield {"note": f"nothing to ask of the device {run.device}"}
        return
    for name, network, _ in run.networks():
        image = run.image(4 * network.window - 3, network)
        restore(network, image)
        places = waits(lambda n=network, i=image: restore(n, i))
        yield from ({"network": name, "place": place, "times": count} for place, count in places.most_common(12))
        needless = sum(count for place, count in places.items() if not place.endswith(" finished"))
        yield {"network": name, "place": "all but the result", "times": needless, "ok": needless == 0}


def waits(call: Callable[[], object]) -> Counter[str]:
    """The places in irestore at which a call makes the host wait for a CUDA device, and how often."""
    places: Counter[str] = Counter()

    def note(*told: object, **more: object) -> None:
        if "called a synchronizing" not in str(told[0]):  # such as the word that this mode is a prototype
            return
        frame = sys._getframe(1)
        while frame.f_back and "irestore" not in Path(frame.f_code.co_filename).parts[-3:-1]:
            frame = frame.f_back
        places[f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return places


@contextmanager
def plain_float32(device: torch.device) -> Iterator[None]:
    """Inside, tests/reference.py computes in float32 on the device, which it does in float64 on the CPU."""
    double = torch.Tensor.double
    torch.Tensor.double = torch.Tensor.float  # type: ignore[method-assign]
    try:
        with torch.device(device), torch.no_grad(), exact_convolutions(device):
            yield
    finally:
        torch.Tensor.double = double  # type: ignore[method-assign]


def measured(run: Run, call: Any) -> Row:
    """Median seconds of some runs after a first one, and the peak of what lies on a CUDA device."""
    cuda, times = run.device.type == "cuda", []
    call()
    if cuda:
        torch.cuda.reset_peak_memory_stats(run.device)
    while len(times) < (1 if run.quick else 5) and sum(times) < 2:
        began = time.monotonic()
        call()
        if cuda:
            torch.cuda.synchronize(run.device)
        times.append(time.monotonic() - began)
    peak = torch.cuda.max_memory_allocated(run.device) / 2**20 if cuda else None
    return {"seconds": statistics.median(times), "peak_mib": peak}


def speed(run: Run) -> Iterator[Row]:
    """Times and memory in each precision and tile beside the plain whole-image reference in float32."""
    for name, network, config in run.networks():
        for side in (2 * network.window,) if run.quick else (128, 256, 512):
            image = run.image(side, network)
            kind: Row = {"network": name, "side": side}
            for precision in run.precisions:
                for tile in ("auto", "off"):
                    settings: Any = Settings(tile=tile, precision=precision)  # type: ignore[arg-type]
                    row = measured(run, lambda n=network, i=image, s=settings: restore(n, i, s))
                    planned = cost(network, *image.shape[2:], settings).bytes / 2**20
                    yield {**kind, "precision": precision, "tile": tile, **row, "planned_mib": planned}
            if side > 256 or config.get("stdnorm") is not None:
                continue
            state, architecture = network.state_dict(), _architecture(network)
            with plain_float32(run.device):
                plain = lambda a=architecture, s=state, c=config, i=image: reference.restore(a, s, c, i.to(run.device))  # noqa: E731
                yield {**kind, "precision": "fp32", "tile": "plain reference", **measured(run, plain)}


def _architecture(network: Network) -> str:
    return next(name for name, kind in models.ARCHITECTURES.items() if type(network) is kind)


def whole_batch(run: Run) -> Iterator[Row]:
    """A batch of small pictures by the command: its own word on the network's share, and nvidia-smi's on the GPU's."""
    with tempfile.TemporaryDirectory() as name:
        source = batch.pictures(Path(name) / "in", 3 if run.quick else 200)
        smi = "nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits --loop-ms=100"
        sampling = (
            subprocess.Popen(smi.split(), stdout=subprocess.PIPE, text=True) if run.device.type == "cuda" else None
        )
        began = time.monotonic()
        options = ("-m", "compact-x4", "-d", run.device, "-v")
        took, computing = batch.summary(batch.run("sr", "-x4", *options, "-r", source, "-o", Path(name) / "out"))
        row: Row = {"pictures": len(list(source.iterdir())), "seconds": time.monotonic() - began}
        row |= {"without_start": took, "computing_percent": computing}
        if sampling:
            sampling.terminate()
            samples = [int(line) for line in sampling.communicate()[0].split() if line.isdecimal()]
            busy = samples[-max(1, round(10 * took)) :]  # the start before it is not counted
            row["gpu_busy_percent"] = statistics.mean(busy) if busy else None
        yield row


def profile(run: Run) -> Iterator[Row]:
    """The operators that take most of the time, of a network's second run."""
    for name, network, _ in run.networks():
        image = run.image(2 * network.window if run.quick else 256, network)
        restore(network, image)
        with torch.profiler.profile() as profiler:
            restore(network, image)
        on_device = run.device.type == "cuda"
        key = "self_device_time_total" if on_device else "self_cpu_time_total"
        found = sorted(profiler.key_averages(), key=lambda each: -float(getattr(each, key)))
        total = sum(float(getattr(each, key)) for each in found) or 1.0
        for each in found[:12]:
            took = float(getattr(each, key))
            yield {
                "network": name,
                "operator": each.key[:60],
                "calls": each.count,
                "ms": took / 1e3,
                "share": took / total,
            }
