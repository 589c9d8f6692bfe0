"""`irestore doctor`: what this machine has, and whether tiles give the same picture as the whole on its device."""

import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import distributions
from statistics import median

import click

import irestore
from irestore import weights
from irestore.cli.options import Computing
from irestore.cli.values import device as device_name
from irestore.errors import IrestoreError, duration, one_line
from irestore.tasks import task_name
from irestore.weights import hub

PACKAGES = "torch numpy pillow click tqdm huggingface-hub safetensors pillow-heif pillow-jxl-plugin"
BENCH_SIDE = 128  # pixels of the square that --bench restores
ALLOWED = 2e-5  # largest difference between tiled and whole, of outputs in 0..1, in float32


@click.command(context_settings={"auto_envvar_prefix": "IRESTORE"})
@click.option("-d", "--device", type=device_name, default="auto", show_default=True, help="The device to check.")
@click.option("--offline", is_flag=True, help="Do not ask whether the Hub can be reached.")
@click.option(
    "--model-dir",
    type=click.Path(exists=True, file_okay=False),
    help="The folder of weights that you give to the tasks.",
)
@click.option("--bench", is_flag=True, help="Also measure the models that are here: some seconds each.")
@click.pass_context
def doctor(ctx: click.Context, device: str, offline: bool, model_dir: str | None, bench: bool) -> None:
    """Check this machine: versions, devices, memory, models, the Hub, and that tiles change nothing.

    Shows for each task the best and the fastest model here. Exit code 1 if the last check fails.
    """
    measured = speeds(device, model_dir) if bench else {}
    for lines in (versions(), devices(), models(model_dir, offline), choices(device, model_dir, measured)):
        for name, told in lines:
            click.echo(one_line(f"{name:14} {told}"))
    difference, checked = self_check(device)
    exact = difference <= ALLOWED
    verdict = "ok" if exact else "WRONG, please report it and use --device cpu"
    click.echo(f"self-check     {verdict}: tiled and whole differ by {difference:.1e} with {checked}")
    ctx.exit(0 if exact else 1)


def versions() -> Iterator[tuple[str, str]]:
    """Programs and packages."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "irestore", f"{irestore.__version__}, Python {platform.python_version()}, {system}"
    found = {each.name.lower().replace("_", "-"): each.version for each in distributions()}
    yield "packages", ", ".join(f"{package} {found.get(package, 'none')}" for package in PACKAGES.split())


def devices() -> Iterator[tuple[str, str]]:
    """What can compute, with its free memory."""
    import torch

    from irestore.devices import free_bytes, pick

    def free(device: torch.device) -> str:
        return f"{free_bytes(device) / 2**30:.1f} GiB free"

    threads = torch.get_num_threads()
    yield "cpu", f"{threads} thread{'s' if threads > 1 else ''}, {free(torch.device('cpu'))}"
    for number in range(torch.cuda.device_count()):
        cuda = torch.device("cuda", number)
        yield f"cuda:{number}", f"{torch.cuda.get_device_name(cuda)}, {free(cuda)}"
    if torch.backends.mps.is_available():
        yield "mps", free(torch.device("mps"))
    yield "chosen", str(pick("auto"))


def models(model_dir: str | None, offline: bool) -> Iterator[tuple[str, str]]:
    """Which models are here, and where others would come from."""
    entries = weights.entries()
    here = [entry.name for entry in entries if weights.present(entry, model_dir) is not None]
    yield "models", f"{len(here)} of {len(entries)} on this machine: {', '.join(here) or 'none'}"
    yield "cache", str(hub.cache())
    remote = next((entry for entry in entries if entry.repo is not None), None)
    reach = "not asked"
    if not offline and remote is not None:
        try:
            hub.pin(replace(remote, revision="main"))
            reach = "reached"
        except IrestoreError as error:
            reach = f"not usable: {error}"
    yield "Hub", f"{hub.endpoint()}: {reach}"


def choices(device: str, model_dir: str | None, measured: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """For each task and scale the models to choose from."""
    known = weights.entries()
    on_cpu = Computing(device=device).begin()[0].type == "cpu"
    for task, scale in dict.fromkeys((entry.task, entry.scale) for entry in known):
        wanted = weights.candidates(task, scale)
        used = (weights.bundled_first(wanted) if on_cpu else wanted)[0]
        roles: dict[str, list[str]] = {used.name: ["default"]}
        for choice in weights.CHOICES:
            roles.setdefault(weights.candidates(task, scale, choice)[0].name, []).append(choice)
        told = [
            f"{'='.join(names)} {name} ({weights.state(entry, model_dir)}{_speed(entry, measured)})"
            for name, names in roles.items()
            for entry in [weights.find(name, known)]
        ]
        yield task_name(task, scale), ", ".join(told)


def _speed(entry: weights.Entry, measured: Mapping[str, float]) -> str:
    """The time for a megapixel: measured, or by the ratio of the manifest's to one that was."""
    if entry.name in measured:
        return f", {duration(measured[entry.name])} a megapixel"
    others = [seconds / e.cpu_seconds for e in weights.entries() if e.cpu_seconds and (seconds := measured.get(e.name))]
    if not others or not entry.cpu_seconds:
        return ""
    return f", not measured, about {duration(entry.cpu_seconds * median(others))} a megapixel"


def speeds(device: str, model_dir: str | None) -> dict[str, float]:
    """Seconds that each model on this machine takes for a megapixel, from a small picture."""
    import torch

    from irestore.runner import restore

    chosen, found = Computing(device=device).begin()[0], {}
    for entry in weights.entries():
        if weights.present(entry, model_dir) is not None:
            model = weights.load(entry, offline=True, device=chosen, model_dir=model_dir)
            sample = torch.full((1, model.in_chans, BENCH_SIDE, BENCH_SIDE), 0.5)
            restore(model, sample[..., : model.window, : model.window])  # what is set up once is not counted
            began = time.monotonic()
            restore(model, sample)
            found[entry.name] = (time.monotonic() - began) / BENCH_SIDE**2 * 1e6
    return found


def self_check(device: str) -> tuple[float, str]:
    """The largest difference between a run in the smallest tiles and one without; the model's name and the device."""
    import torch

    from irestore.planning import Settings
    from irestore.runner import restore

    chosen = Computing(device=device).begin()[0]
    entry = next(entry for entry in weights.entries() if entry.bundled)
    model = weights.load(entry, device=chosen)
    height, width = 4 * model.window - 3, 3 * model.window + 5
    slope = torch.linspace(0, 0.8, width) + torch.linspace(0, 0.1, height)[:, None]
    noise = torch.rand(1, model.in_chans, height, width, generator=torch.Generator().manual_seed(0))
    whole = restore(model, slope + 0.1 * noise, Settings(tile="off", precision="fp32"))
    tiled = restore(model, slope + 0.1 * noise, Settings(tile=model.window, precision="fp32"))
    return float((whole - tiled).abs().max()), f"{entry.name} on {chosen}"
