"""`irestore inspect`: what a network's features are like on a picture, block by block."""

import json
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irestore import images, weights
from irestore.cli.choice import candidates, obtain
from irestore.cli.options import Computing, Model, build, declared
from irestore.errors import UsageError

if TYPE_CHECKING:
    from irestore.field import Field
    from irestore.inspect import Features

HELP = """Look into a network: how large and how varied its features are after each block, on one picture.

\b
irestore inspect photo.jpg -m compact-denoise
irestore inspect photo.jpg -m compact-x4 -o features.svg

Magnitude is |x| of the features x, its mean and its greatest; std their deviation, over all pixels and channels.
Entropy, in nats, is that of the shares x^2 / sum x^2 of a pixel's channels, the mean over the pixels: log C where all C
channels are as strong, 0 where one is alone. All are of the whole picture, exactly, whatever the tiles.
"""
FILE = click.Path(path_type=Path)


def _inspect(picture: Path, output: Path | None, overwrite: bool, **values: Any) -> None:
    """Options -> the picture through the network -> a line for each block."""
    model, computing = build(Model, values), build(Computing, values | {"ensemble": False})
    if output is not None and output.suffix.lower() != ".svg":
        raise UsageError(f"{output}: a drawing ends in .svg; write {output.with_suffix('.svg')}")
    if output is not None and output.exists() and not overwrite:
        raise UsageError(f"{output}: exists already; give another name, or --overwrite")
    wanted = candidates(model, computing, _task(model), None)
    pixels = images.load(picture, images.LoadOptions(frames="first", max_pixels=values["max_pixels"]))

    from irestore.batch.chain import Step
    from irestore.batch.progress import Progress
    from irestore.batch.restorer import Restorer
    from irestore.images.write import whole_file
    from irestore.inspect import Features, blocks, panels, watched
    from irestore.plot import svg

    entry, path, _ = obtain(model, wanted)
    network = weights.read(entry, path, computing.begin()[0])
    area, count = pixels.height * pixels.width, len(blocks(network))
    progress, seen = Progress(area, 1, shown=not values["no_progress"]), {}

    def see(name: str, x: "Field") -> None:
        seen[name] = Features.of(x)
        progress.advance(area / count)
        progress.tick()

    progress.present(picture)
    try:
        with watched(network, see):  # around the Restorer too, which may copy the network
            restorer = Restorer({Step(network.task, network.scale): network}, computing.settings(), alpha="drop")
            restorer([pixels], lambda share: progress.tick())
    finally:
        progress.close()
    if output is not None:
        with whole_file(output, overwrite) as stream:
            stream.write(svg(panels(seen)).encode())
    if values["json"]:
        told = [{"block": name} | each._asdict() for name, each in seen.items()]
        click.echo(json.dumps({"picture": str(picture), "model": entry.name, "blocks": told}, indent=1))
    else:
        _table(seen)


def _table(seen: "dict[str, Features]") -> None:
    width = max(map(len, seen))
    click.echo(
        f"{'BLOCK':{width}} {'CHANNELS':>8} {'MAGNITUDE':>9} {'LARGEST':>9} {'STD':>9} {'ENTROPY':>7}  {'MOST':>5}"
    )
    for name, each in seen.items():
        sizes = f"{each.magnitude:9.4g} {each.largest:9.4g} {each.std:9.4g}"
        click.echo(f"{name:{width}} {each.channels:8} {sizes} {each.entropy:7.3f}  {log(each.channels):5.2f}")


def _task(model: Model) -> str:
    """The task of the model that is named; sr where none is."""
    known = weights.entries(model.manifest)
    if model.named is None or model.weights or weights.is_own(model.named, known):
        return "sr"
    return weights.find(model.named, known).task


inspect = click.Command(
    "inspect",
    {"auto_envvar_prefix": "IRESTORE"},
    callback=_inspect,
    params=[
        click.Argument(["picture"], type=FILE),
        click.Option(["-o", "--output"], metavar="FILE.svg", type=FILE, help="Also draw it.", allow_from_autoenv=False),
        click.Option(["--overwrite"], is_flag=True, help="Replace the drawing if it exists.", allow_from_autoenv=False),
        click.Option(["--json"], is_flag=True, help="JSON instead of the table.", allow_from_autoenv=False),
        click.Option(["--no-progress"], is_flag=True, help="Do not print how far it is."),
        click.Option(["--max-pixels"], type=click.IntRange(min=1), default=images.MAX_PIXELS, show_default=True,
            metavar="N", help="Refuse to decode larger pictures."),
        *declared(Model),
        *(each for each in declared(Computing) if each.name != "ensemble"),
    ],
    help=HELP,
)  # fmt: skip
