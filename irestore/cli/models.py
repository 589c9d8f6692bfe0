"""`irestore models`: what there is, what is here, fetching, checking, removing, and bringing one's own."""

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from irestore import weights
from irestore.cli.choice import size_of
from irestore.cli.options import complete_model
from irestore.errors import IncompleteError, UsageError, WeightsError, file_size, one_line
from irestore.tasks import TASKS, task_name

manifest_option = click.option(
    "--manifest", multiple=True, type=click.Path(dir_okay=False, path_type=Path), envvar="IRESTORE_MANIFEST",
    help="Add the models of this weights.toml. May be repeated.",
)  # fmt: skip
model_dir_option = click.option(
    "--model-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), envvar="IRESTORE_MODEL_DIR",
    help="Look for weights in this flat folder first: for machines without a connection.",
)  # fmt: skip


class _ListByDefault(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and (not args or args[0].startswith("-")) and args[:1] not in (["-h"], ["--help"]):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ListByDefault)
def models() -> None:
    """List, download, verify and remove models. Without a command: list."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Write JSON instead of a table.")
@click.option("-v", "--verbose", is_flag=True, help="Also show the licence and where the file comes from.")
@manifest_option
@model_dir_option
def list_(as_json: bool, verbose: bool, manifest: tuple[Path, ...], model_dir: Path | None) -> None:
    """List every model, the best for each task first: its size, whether it is on this machine, and what it is for."""
    known = weights.entries(manifest)
    if as_json:
        click.echo(json.dumps([_facts(entry, model_dir) for entry in known], indent=2, default=str))
        return
    more = ["LICENCE", "FROM"] if verbose else []
    rows = [["NAME", "TASK", "SIZE", "STATE", "FOR", "MEASURED", *more]]
    for entry in known:
        task = task_name(entry.task, entry.scale)
        row = [entry.name, task, size_of(entry), weights.state(entry, model_dir), entry.description, entry.quality]
        rows.append([*row, *([entry.licence, entry.origin] if verbose else [])])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        click.echo(one_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip())


@models.command()
@click.argument("names", nargs=-1, shell_complete=complete_model)
@click.option("--all", "all_", is_flag=True, help="Every model that comes from the Hub.")
@manifest_option
@model_dir_option
def download(names: tuple[str, ...], all_: bool, manifest: tuple[Path, ...], model_dir: Path | None) -> None:
    """Fetch models, so that later runs need no connection. Prints the path of each."""
    if bool(names) == all_:
        raise UsageError("name the models to download, or give --all")
    known = weights.entries(manifest)
    for entry in [e for e in known if e.repo] if all_ else [weights.find(name, known) for name in names]:
        if weights.present(entry, model_dir) is None:
            click.echo(f"{entry.name}: downloading {size_of(entry)} from {entry.origin}", err=True)
        click.echo(one_line(weights.locate(entry, model_dir=model_dir)))


@models.command()
@click.argument("name", shell_complete=complete_model)
@manifest_option
@model_dir_option
def path(name: str, manifest: tuple[Path, ...], model_dir: Path | None) -> None:
    """Print where a model's file is on this machine. Never downloads."""
    entry = weights.find(name, weights.entries(manifest))
    click.echo(one_line(weights.locate(entry, offline=True, model_dir=model_dir)))


@models.command()
@click.argument("names", nargs=-1, shell_complete=complete_model)
@manifest_option
@model_dir_option
def verify(names: tuple[str, ...], manifest: tuple[Path, ...], model_dir: Path | None) -> None:
    """Read the named models, or all that are on this machine, and compare their sha256 with the manifest's."""
    known = weights.entries(manifest)
    wrong: list[weights.Entry] = []
    for entry in [weights.find(name, known) for name in names] or known:
        file = weights.present(entry, model_dir)
        if file is None and not names:
            continue
        result = "missing" if file is None else "ok" if weights.intact(file, entry) else "WRONG"
        click.echo(one_line(f"{result:8}{entry.name}  {file or ''}").rstrip())
        wrong += [entry] if result != "ok" else []
    if wrong:
        all_wrong = ", ".join(entry.name for entry in wrong)
        raise WeightsError(f"{all_wrong}: missing or not as the manifest says; {_remedy(wrong[0])}")


def _remedy(entry: weights.Entry) -> str:
    """What to do about a model whose file is missing or wrong. No other copy of one that was imported is known of."""
    if entry.repo is not None:
        return f"get it again: irestore models rm {entry.name} && irestore models download {entry.name}"
    if entry.bundled:
        return "install irestore again"
    if weights.is_imported(entry):
        return f"import it again: irestore models import FILE --name {entry.name} --overwrite"
    return "put the file back or correct the manifest"


@models.command()
@click.argument("names", nargs=-1, required=True, shell_complete=complete_model)
@manifest_option
def rm(names: tuple[str, ...], manifest: tuple[Path, ...]) -> None:
    """Delete downloaded and imported models. Bundled ones, and files in your own folders, stay."""
    known = weights.entries(manifest)
    for entry in [weights.find(name, known) for name in names]:
        freed = weights.remove(entry)
        click.echo(f"{entry.name}: " + (f"{file_size(freed)} freed" if freed else "was not in the cache"), err=True)


@models.command()
@click.argument("name", shell_complete=complete_model)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@manifest_option
@model_dir_option
def info(name: str, as_json: bool, manifest: tuple[Path, ...], model_dir: Path | None) -> None:
    """Show everything that is known about a model: source, training data, licence, citation, config."""
    facts = _facts(weights.find(name, weights.entries(manifest)), model_dir)
    if as_json:
        click.echo(json.dumps(facts, indent=2, default=str))
        return
    config = facts.pop("config")
    for key, value in facts.items():
        if value not in (None, ""):
            click.echo(f"{key.replace('_', ' ') + ':':16}{value}")
    click.echo("config:")
    for key, value in config.items():
        click.echo(f"  {key} = {json.dumps(value, default=str)}")


@models.command("import")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="What the model is called from now on.  [default: the name of FILE]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Only write this file, and give it no name.")
@click.option("--config", "items", multiple=True, metavar="KEY=VALUE|FILE", help="What the file itself does not tell.")
@click.option("--task", type=click.Choice(list(TASKS)), help="Default: sr, where the picture grows.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@manifest_option
@click.pass_context
def import_(ctx: click.Context, /, source: Path, output: Path | None, name: str | None, items: tuple[str, ...],
            task: str | None, overwrite: bool, manifest: tuple[Path, ...]) -> None:  # fmt: skip
    """Add a checkpoint (.pth or .safetensors) of traiNNer-redux, BasicSR or the official i-LN code to the models.

    It is converted into a file that says what network it holds. A .pth is read without running what may hide in it.
    """
    config = weights.parse_config(items)
    try:
        if output is None:
            name = name or re.sub(r"[^a-z0-9._-]", "_", source.stem.lower()).strip("._-")
            weights.check_name(name, weights.entries(manifest), overwrite=overwrite)
            entry = weights.install(source, name, config=config, task=task)
        else:
            if output.suffix != ".safetensors":
                raise UsageError(f"{output}: the output must end in .safetensors")
            if output.exists() and (output.samefile(source) or not overwrite):
                raise UsageError(f"{output}: exists already; give another --output, or --overwrite if it is not FILE")
            entry = weights.convert(source, output, config=config, task=task)
    except IncompleteError as error:
        command = shlex.join(["irestore", *(ctx.obj or ()), *error.options])
        raise UsageError(f"{error}: {command}") from error
    if entry.description:
        click.echo(one_line(f"{source}: {entry.description}; --config says otherwise"), err=True)
    does, full = task_name(entry.task, entry.scale), json.dumps(dict(entry.config))
    click.echo(f"{entry.architecture}, {does}: {full}", err=True)
    click.echo(one_line(output or weights.locate(entry)))
    click.echo(f"next: irestore {entry.task} -m {shlex.quote(str(output or entry.name))} photo.png", err=True)


def _facts(entry: weights.Entry, model_dir: Path | None) -> dict[str, Any]:
    """Everything about a model that JSON can hold: what the manifest says, and where its file is here."""
    facts = {f.name: getattr(entry, f.name) for f in fields(entry) if f.name not in ("bundled", "folder")}
    file = weights.present(entry, model_dir)
    here = {"state": weights.state(entry, model_dir), "path": None if file is None else str(file)}
    return {key: facts[key] for key in ("name", "description", "task", "scale")} | here | facts
