"""`irestore eval`: PSNR and SSIM of a model on a set of pictures, beside those of doing nothing."""

import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from irestore import weights
from irestore.cli.chosen import candidates, check_fits
from irestore.cli.options import DEFAULT_SCALE, Options, shared
from irestore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from irestore.batch.restorer import Restorer
    from irestore.evaluate import Row, Trial

HELP = """Measure a model: PSNR and SSIM on a folder of clean pictures, as the papers on the task do.

The table has a line for each picture and their mean, for the restored picture and for the baseline: bicubic enlargement
for sr, the damaged picture itself for the other tasks. sr, derain and colour dejpeg are measured on Y of BT.601 (sr
without a border of SCALE pixels), denoise and deblur on RGB, grey pictures as they are.
"""


def _own() -> list[click.Parameter]:
    folder = click.Path(file_okay=False, path_type=Path)
    return [
        click.Argument(["task"], type=click.Choice(weights.TASKS)),
        _option("--hr", type=folder, metavar="DIR", required=True, help="The clean pictures."),
        _option("--lr", type=folder, metavar="DIR",
                help="The damaged pictures, paired by name.  [default: made from the clean ones: for sr by MATLAB's "
                "bicubic, for denoise with --sigma, for dejpeg with --quality]"),
        _option("-x", "--scale", type=click.Choice(["2", "3", "4"]),
                help=f"For sr: how many times larger.  [default: {DEFAULT_SCALE}, or what --weights is made for]"),
        _option("--sigma", type=click.FloatRange(0, 255), metavar="N",
                help="For denoise: add Gaussian noise of N 8-bit levels, not rounded, not clipped, always the same."),
        _option("--quality", type=click.IntRange(1, 100), metavar="N", help="For dejpeg: compress to JPEG quality N."),
        _option("--grey", is_flag=True, help="Turn colour pictures into their Y first, as papers on grey pictures do."),
        _option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N pictures."),
        _option("--json", is_flag=True, help="One JSON object instead of the table."),
        _option("--csv", is_flag=True, help="CSV instead of the table."),
    ]  # fmt: skip


def _option(*names: str, help: str, **attributes: Any) -> click.Option:
    # Not from the environment: IRESTORE_QUALITY and IRESTORE_JSON are set for restoring.
    return click.Option(names, help=help, allow_from_autoenv=False, **attributes)


@click.pass_context
def _evaluate(ctx: click.Context, /, *, task: str, hr: Path, lr: Path | None, limit: int | None, **values: Any) -> None:
    """Options -> trial and model -> rows as they come."""
    if values["json"] and values["csv"]:
        raise UsageError("--json and --csv both want standard output; choose one")
    if task != "sr" and values["scale"]:
        raise UsageError(f"--scale is for sr; {task} keeps the size")
    damage = {name: values.pop(name) for name in ("sigma", "quality", "grey")}
    as_csv = values.pop("csv")
    defaults = {option.name: option.get_default(ctx) for options in shared().values() for option in options}
    options = Options(**(cast(dict[str, Any], defaults) | values | {"inputs": ()}))
    wanted = candidates(task, options)

    from irestore.evaluate import Trial, couples, measure, read

    trial = Trial(task=task, **damage)
    found = couples(trial, hr, lr)[:limit]  # before anything is downloaded
    entry, path = _obtain(wanted, options)
    check_fits(entry, task, options)
    trial = replace(trial, scale=entry.scale)
    restorer = _restorer(entry, path, options)
    rows = (measure(trial, read(trial, *couple), restorer) for couple in found)
    print(f"irestore: {entry.name}: PSNR in dB and SSIM, on {trial.compares}", file=sys.stderr)
    if options.json:
        print(json.dumps(as_json(trial, entry.name, rows), indent=1))
    elif as_csv:
        write_csv(rows)
    else:
        write_table(trial, entry.name, rows)


def _obtain(wanted: tuple[weights.Entry, ...], options: Options) -> tuple[weights.Entry, Path]:
    """The model and its verified file; a warning where it is not the first choice."""
    entry, path, warning = weights.obtain(wanted, offline=options.offline, model_dir=options.model_dir)
    if warning is not None:
        print(f"irestore: warning: {warning}", file=sys.stderr)
    return entry, path


def _restorer(entry: weights.Entry, path: Path, options: Options) -> "Restorer":
    import torch

    from irestore import devices
    from irestore.batch.restorer import Restorer
    from irestore.runner import Settings

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model = weights.read(entry, path, devices.pick(options.device))
    settings = Settings(tile=options.tile, precision=options.precision, max_memory=options.max_memory)
    return Restorer(model, entry.name, settings)


def write_table(trial: "Trial", model: str, rows: "Iterator[Row]") -> None:
    """A line for each picture as soon as it is measured, and the mean."""
    from irestore.evaluate import mean

    click.echo(f"{'NAME':24} {trial.baseline.upper():>8} {'SSIM':>7}  {model.upper():>12} {'SSIM':>7}")
    done = []
    for row in rows:
        done.append(row)
        click.echo(_line(row, len(model)))
    click.echo(_line(mean(done), len(model)))


def _line(row: "Row", width: int) -> str:
    (psnr, ssim), (restored, restored_ssim) = row.baseline, row.restored
    return f"{row.name:24} {psnr:8.3f} {ssim:7.4f}  {restored:{max(width, 12)}.3f} {restored_ssim:7.4f}"


def write_csv(rows: "Iterator[Row]") -> None:
    """As the table, with a header line; the mean is the last line."""
    from irestore.evaluate import mean

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["name", "baseline_psnr", "baseline_ssim", "psnr", "ssim"])
    done = []
    for row in rows:
        done.append(row)
        writer.writerow([row.name, *row.baseline, *row.restored])
    writer.writerow(["mean", *mean(done).baseline, *mean(done).restored])


def as_json(trial: "Trial", model: str, rows: "Iterator[Row]") -> dict[str, Any]:
    """All figures as one object; null stands for the infinite PSNR of equal pictures."""
    from irestore.evaluate import Score, mean

    def figures(score: Score) -> dict[str, float | None]:
        return {"psnr": score.psnr if math.isfinite(score.psnr) else None, "ssim": score.ssim}

    def both(row: "Row") -> dict[str, Any]:
        return {"name": row.name, "baseline": figures(row.baseline), "restored": figures(row.restored)}

    done = list(rows)
    head = {"task": trial.task, "scale": trial.scale, "model": model, "baseline": trial.baseline}
    return head | {"measure": trial.compares, "pictures": [both(row) for row in done], "mean": both(mean(done))}


eval_command = click.Command(
    "eval",
    params=[*_own(), *(option for name in ("Model", "Computing") for option in shared()[name])],
    callback=_evaluate,
    help=HELP,
    context_settings={"auto_envvar_prefix": "IRESTORE"},
)
