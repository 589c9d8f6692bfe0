"""The options of the tasks: a dataclass for each section of `--help`, whose fields are declared as options.

A field is the option of its name (`dry_run` is --dry-run) and can be set in the environment (IRESTORE_DRY_RUN).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from irestore.batch.chain import Size
from irestore.batch.shards import Shard
from irestore.cli.values import Text, byte_size, device, shard, tile
from irestore.errors import IrestoreError
from irestore.images import FORMATS, MAX_PIXELS, LoadOptions, SaveOptions, check_target
from irestore.tasks import TASKS

if TYPE_CHECKING:
    import torch

    from irestore.batch.cluster import Workers
    from irestore.planning import Settings

Section = TypeVar("Section")
DEFAULT_SCALE = 4


def option(*short: str, long: str = "", help: str, default: Any = None, **attributes: Any) -> Any:
    """A field that is an option; its long name is the field's unless `long` says otherwise."""
    attributes |= {"help": help, "default": default, "show_default": default not in (None, False, ())}
    return field(default=default, metadata={"short": short, "long": long, "attributes": attributes})


def flag(*short: str, help: str) -> Any:
    """A field that is an option without a value."""
    return option(*short, help=help, default=False, is_flag=True)


def choice(*values: str, short: Sequence[str] = (), help: str) -> Any:
    """A field that is an option with one of these values; the first is the default."""
    return option(*short, help=help, default=values[0], type=click.Choice(values))


def declared(section: type, repeatable: Sequence[str] = ()) -> list[click.Option]:
    """The options of a section, of which those named may be given several times."""
    made = []
    for each in fields(section):
        if each.metadata:
            long = each.metadata["long"] or f"--{each.name.replace('_', '-')}"
            more: dict[str, Any] = {"multiple": True} if each.name in repeatable else {}
            made.append(click.Option([each.name, *each.metadata["short"], long], **each.metadata["attributes"], **more))
    return made


def build(section: type[Section], values: Mapping[str, Any]) -> Section:
    """The section filled from the values that click parsed."""
    return section(**{each.name: values[each.name] for each in fields(section)})  # type: ignore[arg-type]


# fmt: off
@dataclass(frozen=True)
class Files:
    """Which pictures, and where results go."""

    inputs: tuple[str, ...] = ()  # the arguments
    output: str | None = option("-o", metavar="DIR|FILE|-",
        help="Where results go: a folder, for one input a file with a picture's suffix, or - for standard output.  "
        "[default: beside each input]")
    name: str | None = option(metavar="TEMPLATE",
        help="File name of results, from {stem} {ext} {task} {model} {scale}, and {inext} {parent}, the input's "
        "suffix and folder.  [default: {stem}_x{scale}{ext}, {stem}_{task}{ext} where the size stays]")
    recursive: bool = flag("-r", help="Take folders too, with all below them; with -o their tree is kept.")
    files_from: str | None = option(metavar="LIST",
        help="Read more inputs from this file (- for standard input), one a line or separated by NUL.")
    overwrite: bool = flag(help="Replace existing results.  [default: keep them and skip their inputs]")
    redo: bool = flag(help="Replace existing results that another model made.")
    include_restored: bool = flag(help="Also take pictures that irestore made with the same task.")
    dry_run: bool = flag("-n", help="Only print what would be done, with sizes, memory and time.")
    fail_fast: bool = flag(help="Stop at the first picture that fails.")
    shard: Shard = option(type=shard, default="1/1", metavar="I/N",  # noqa: RUF009
        help="Only part I of N, by the paths of pictures, for many machines at once; or slurm, k8s, aws, auto.")
    ray: str | None = option(metavar="ADDRESS|local",
        help="Compute on the machines of a Ray cluster, by HOST:PORT of its head, or on this one as a cluster.")


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The models whose names begin so; where there is a task only those for it, and best and fast."""
    from irestore import weights

    task = ctx.params.get("task") or ctx.info_name  # `eval` takes the task as an argument
    try:
        known = weights.entries(ctx.params.get("manifest") or ())
    except IrestoreError:  # which the command itself will say
        return []
    names = {entry.name: entry.description for entry in known if task == entry.task or task not in TASKS}
    if task in TASKS:
        names = dict.fromkeys(weights.CHOICES, "whichever it is for the task") | names
    return [CompletionItem(name, help=told) for name, told in names.items() if name.startswith(incomplete)]


@dataclass(frozen=True)
class Model:
    """Which network restores, and where its weights come from."""

    model: str | None = option("-m", metavar="NAME", type=Text(), shell_complete=complete_model,
        help="best, fast (the smallest), a model of `irestore models`, your own FILE.safetensors, or "
        "hf:OWNER/REPO/FILE@REVISION.  [default: best; on a CPU, or without a connection, the bundled one]")
    weights: str | None = option(metavar="FILE", help="The same as -m for a file of any name.")
    architecture: str | None = option(metavar="NAME", help="Architecture of --weights, if the file does not say it.")
    config: tuple[str, ...] = option(metavar="KEY=VALUE|FILE", multiple=True, default=(),
        help="Config of --weights, if the file does not say it: one value, or a JSON or TOML file. Repeatable.")
    manifest: tuple[str, ...] = option(metavar="FILE", multiple=True, default=(), type=click.Path(),
        help="One more manifest of models. Repeatable.")
    model_dir: str | None = option(metavar="DIR", type=click.Path(exists=True, file_okay=False),
        help="Look for weights in this folder first.")
    offline: bool = flag(help="Make no request to the network.")

    @property
    def named(self) -> str | None:
        """The model or file that the options name; none where one is to be chosen, as by best and fast."""
        from irestore.weights import CHOICES

        name = self.weights or self.model
        return None if name in CHOICES else name


@dataclass(frozen=True)
class Computing:
    """Where and how the network runs."""

    device: str = option("-d", type=device, default="auto", metavar="NAME",
        help="auto, cpu, mps, cuda or cuda:N; several at once: cuda:0,cuda:1, or cuda:all for every GPU.")
    tile: int | Literal["auto", "off"] = option("-t", type=tile, default="auto",
        metavar="auto|N|off", help="Side of a tile in pixels. The result does not depend on it.")
    max_memory: int | None = option(type=byte_size, metavar="SIZE",
        help="Memory for computing, as in 6G.  [default: 70% of what the device has]")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = choice("auto", "fp32", "bf16", "fp16",
        help="Precision of the arithmetic; auto: fp32. bf16 is faster on new CPUs, and within 1 of 255.")
    ensemble: bool = flag(help="Take the mean over 8 turns and mirrors: a little better, 8 times as slow.")
    threads: int | None = option(type=click.IntRange(1, 1024), metavar="N", help="CPU threads for computing.")

    def settings(self) -> "Settings":
        """What the runner has to know."""
        from irestore.planning import Settings

        return Settings(self.tile, self.precision, self.max_memory, self.ensemble)

    def on_cpu(self) -> bool:
        """Whether a CPU computes. Imports torch where the device is to be found."""
        if self.device == "auto":
            from irestore.devices import pick

            return pick().type == "cpu"
        return self.device.split(",")[0] == "cpu"

    def begin(self) -> "list[torch.device]":
        """Set the number of threads and how memory is kept, and give the devices. Raises UsageError."""
        import torch

        from irestore.devices import check_precision, keep_freed_memory, pick_all
        from irestore.processors import processors

        keep_freed_memory()
        threads = self.threads or min(torch.get_num_threads(), processors())
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        devices = pick_all(self.device)
        check_precision(self.precision, devices[0])
        return devices


@dataclass(frozen=True)
class Pictures:
    """How pictures are read and written."""

    format: str = choice("auto", *FORMATS, short=["-f"],
        help="Format of results; auto keeps the input's where it can be written.")
    quality: int | None = option(type=click.IntRange(1, 100), metavar="1-100",
        help="Quality in lossy formats.  [default: a JPEG's own, else the format's]")
    lossless: bool | None = option(long="--lossless/--lossy",
        help="Compress without or with loss, in formats that can do both.  [default: the input's]")
    depth: str = choice("auto", "8", "16", help="Bits per sample of results; auto keeps the input's.")
    metadata: Literal["keep", "strip"] = choice("keep", "strip",
        help="Keep or remove EXIF, XMP, IPTC and comments. The colour profile always stays.")
    alpha: Literal["resize", "restore", "drop"] = choice("resize", "restore", "drop",
        help="Transparency: resize it, restore it with the network too, or drop it.")
    background: str | None = option(metavar="COLOUR", help="Put this colour behind transparency: white, #204060.")
    frames: Literal["error", "first", "all"] = choice("error", "first", "all",
        help="Animations and files of several pages: refuse them, take the first frame, or all.")
    max_pixels: int = option(type=click.IntRange(min=1), default=MAX_PIXELS, metavar="N",
        help="Refuse to decode larger inputs.")

    def load(self) -> LoadOptions:
        """How pictures are read."""
        return LoadOptions(max_pixels=self.max_pixels, frames=self.frames)

    def save(self) -> SaveOptions:
        """How pictures are written. Raises UsageError for what the chosen format cannot do."""
        save = SaveOptions(
            format=self.format,
            depth="auto" if self.depth == "auto" else cast(Literal[8, 16], int(self.depth)),
            quality=self.quality,
            lossless=self.lossless,
            background=self.background,
            metadata=self.metadata,
        )
        # A size that every format can hold: what is left to refuse is the options themselves.
        check_target("tiff" if save.format == "auto" else save.format, 1, 1, False, save)
        return save


@dataclass(frozen=True)
class Messages:
    """What is said about a run."""

    quiet: bool = flag("-q", help="Print only errors.")
    verbose: bool = flag("-v", help="Print device, model, precision and tile, and a line for every picture.")
    no_progress: bool = flag(help="Do not print how far it is.")
    json: bool = flag(help="Print one JSON object per picture on standard output.")

    @property
    def verbosity(self) -> int:
        """As of `Report`."""
        return -1 if self.quiet else int(self.verbose)
# fmt: on


SECTIONS = (Files, Model, Computing, Pictures, Messages)


@dataclass(frozen=True)
class Options:
    """All options of a task."""

    task: str
    first: tuple[str, ...]  # tasks, or models for them, that come before
    size: Size | None  # None: as the model has it
    strength: float
    files: Files
    model: Model
    computing: Computing
    pictures: Pictures
    messages: Messages
    workers: "Workers | None" = None  # of the cluster, once it is connected
