"""`irestore doctor`: what this machine has, and whether tiles give the same picture as the whole on its device."""

import platform
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import click

import irestore
from irestore import weights
from irestore.cli.values import device as device_name
from irestore.errors import IrestoreError

if TYPE_CHECKING:
    import torch

    from irestore.models.network import Network

PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "click",
    "tqdm",
    "huggingface-hub",
    "safetensors",
    "pillow-heif",
    "pillow-jxl-plugin",
)
ALLOWED = 2e-5  # largest difference between tiled and whole, of outputs in 0..1, in float32
# Where no model is bundled, the arithmetic is checked on a small network with fresh weights.
SMALL: dict[str, object] = {"upscale": 2, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 2], "window_size": 16}
SMALL |= {"squeeze_factor": 6, "num_feat": 16}


@click.command(context_settings={"auto_envvar_prefix": "IRESTORE"})
@click.option("-d", "--device", type=device_name, default="auto", show_default=True, help="The device to check.")
@click.option("--offline", is_flag=True, help="Do not ask whether the Hub can be reached.")
@click.option("--model-dir", type=click.Path(), help="The folder of weights that you give to the tasks.")
@click.pass_context
def doctor(ctx: click.Context, device: str, offline: bool, model_dir: str | None) -> None:
    """Check this machine: versions, devices, memory, models, the Hub, and that tiles change nothing.

    Exit code 1 if the last check fails.
    """
    for lines in (versions(), devices(), models(model_dir, offline)):
        for line in lines:
            click.echo(line)
    difference, name, where = self_check("cuda" if device == "cuda:all" else device)
    exact = difference <= ALLOWED
    verdict = "ok" if exact else "WRONG, please report it and use --device cpu"
    click.echo(f"self-check     {verdict}: tiled and whole differ by {difference:.1e} with {name} on {where}")
    ctx.exit(0 if exact else 1)


def versions() -> Iterator[str]:
    """Programs and packages."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield f"irestore       {irestore.__version__}, Python {platform.python_version()}, {system}"
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} none")
    yield f"packages       {', '.join(found)}"


def devices() -> Iterator[str]:
    """What can compute, with its free memory."""
    import torch

    from irestore.devices import free_bytes, pick

    cpu = torch.device("cpu")
    yield f"cpu            {torch.get_num_threads()} threads, {free_bytes(cpu) / 2**30:.1f} GiB free"
    for number in range(torch.cuda.device_count()):
        cuda = torch.device("cuda", number)
        yield f"cuda:{number}         {torch.cuda.get_device_name(cuda)}, {free_bytes(cuda) / 2**30:.1f} GiB free"
    if torch.backends.mps.is_available():
        yield f"mps            {free_bytes(torch.device('mps')) / 2**30:.1f} GiB free"
    yield f"chosen         {pick('auto')}"


def models(model_dir: str | None, offline: bool) -> Iterator[str]:
    """Which models are here, and where others would come from."""
    from irestore.weights import hub

    entries = weights.entries()
    here = [entry.name for entry in entries if weights.present(entry, model_dir) is not None]
    yield f"models         {len(here)} of {len(entries)} on this machine: {', '.join(here) or 'none'}"
    yield f"cache          {hub.cache()}"
    yield f"Hub            {hub.endpoint()}: {_reach(entries, offline)}"


def _reach(entries: tuple[weights.Entry, ...], offline: bool) -> str:
    from irestore.weights import hub

    remote = next((entry for entry in entries if entry.repo is not None), None)
    if offline or remote is None:
        return "not asked"
    try:
        hub.pin(replace(remote, revision="main"))
    except IrestoreError as error:
        return f"not usable: {error}"
    return "reached"


def self_check(device: str) -> tuple[float, str, "torch.device"]:
    """The largest difference between a run in the smallest tiles and one without, the model's name, and the device."""
    import torch

    from irestore.devices import pick
    from irestore.runner import Settings, restore

    chosen = pick(device)
    name, model = _model(chosen)
    height, width = 4 * model.window - 3, 3 * model.window + 5
    generator = torch.Generator().manual_seed(0)
    slope = torch.linspace(0, 0.8, width) + torch.linspace(0, 0.1, height)[:, None]
    image = (slope + 0.1 * torch.rand(1, model.in_chans, height, width, generator=generator)).float()
    whole, tiled = (restore(model, image, Settings(tile=tile, precision="fp32")) for tile in ("off", model.window))
    return float((whole - tiled).abs().max()), name, chosen


def _model(device: "torch.device") -> "tuple[str, Network]":
    import torch

    from irestore import models as networks

    bundled = next((entry for entry in weights.entries() if entry.bundled), None)
    if bundled is not None:
        return bundled.name, weights.load(bundled, device=device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = networks.build("heart", SMALL)
    return "small network", model.eval().requires_grad_(False).to(device)
