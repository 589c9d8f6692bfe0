"""The options that all tasks share, in the sections in which `--help` shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import click
from click.shell_completion import CompletionItem

from irestore.cli.values import byte_size, device, tile

DEFAULT_SCALE = 4


@dataclass(frozen=True, kw_only=True)
class Options:
    """The values of the options, named as they are; every one can be given as IRESTORE_<NAME> too."""

    inputs: tuple[str, ...]
    output: str | None
    name: str | None
    recursive: bool
    files_from: str | None
    overwrite: bool
    include_restored: bool
    dry_run: bool
    fail_fast: bool
    model: str | None
    weights: str | None
    architecture: str | None
    config: tuple[str, ...]
    manifest: tuple[str, ...]
    model_dir: str | None
    offline: bool
    device: str
    tile: int | Literal["auto", "off"]
    max_memory: int | None
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    threads: int | None
    format: str
    quality: int | None
    lossless: bool | None
    depth: str
    metadata: Literal["keep", "strip"]
    alpha: Literal["resize", "restore", "drop"]
    background: str | None
    frames: Literal["error", "first", "all"]
    max_pixels: int
    quiet: bool
    verbose: bool
    no_progress: bool
    json: bool
    scale: str | None = None  # of `sr`
    strength: float = 1.0  # of the other tasks


class SectionedCommand(click.Command):
    """A command whose `--help` shows its options in sections."""

    def __init__(self, name: str, sections: Mapping[str, Sequence[click.Option]], **attributes: Any) -> None:
        self.sections = sections
        inputs = click.Argument(["inputs"], nargs=-1, metavar="INPUT...", type=click.Path(), required=False)
        params = [inputs, *(option for options in sections.values() for option in options)]
        super().__init__(name, params=params, **attributes)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One definition list a section; `--help` itself is in the last one."""
        sections = {title: list(options) for title, options in self.sections.items()}
        if (own := self.get_help_option(ctx)) is not None:
            sections[next(reversed(sections))].append(own)
        for title, options in sections.items():
            records = [record for option in options if (record := option.get_help_record(ctx)) is not None]
            with formatter.section(title):
                formatter.write_dl(records)


def shared() -> dict[str, list[click.Option]]:
    """The sections of options that every task has."""
    return {
        "Files": _files(),
        "Model": _model(),
        "Computing": _computing(),
        "Pictures": _pictures(),
        "Messages": _messages(),
    }


def _option(*names: str, help: str, **attributes: Any) -> click.Option:
    return click.Option(names, help=help, **attributes)


def _flag(*names: str, help: str) -> click.Option:
    return click.Option(names, help=help, is_flag=True)


def _files() -> list[click.Option]:
    return [
        _option("-o", "--output", metavar="DIR|FILE|-",
                help="Where results go: a folder (it ends in /, exists, or there are several inputs), a file, or - for "
                "standard output.  [default: beside each input]"),
        _option("--name", metavar="TEMPLATE",
                help="File name of results, from {stem} {ext} {task} {model} {scale}, and {inext} {parent}, "
                "the input's suffix and folder.  [default: {stem}_x{scale}{ext}, "
                "{stem}_{task}{ext} where the size stays]"),
        _flag("-r", "--recursive", help="Take folders too, with all below them; with -o their tree is kept."),
        _option("--files-from", metavar="LIST", help="Read more inputs from this file (- for standard input), one a "
                "line or separated by NUL."),
        _flag("--overwrite", help="Replace existing results.  [default: keep them and skip their inputs]"),
        _flag("--include-restored", help="Take pictures that irestore made with the same task, too."),
        _flag("-n", "--dry-run", help="Only print what would be done, with sizes, memory and time."),
        _flag("--fail-fast", help="Stop at the first picture that fails."),
    ]  # fmt: skip


def _model() -> list[click.Option]:
    return [
        _option("-m", "--model", metavar="NAME", shell_complete=_complete_model,
                help="A model of `irestore models`, or hf:OWNER/REPO/FILE@REVISION.  [default: its first for the "
                "task, or the bundled one where there is no connection]"),
        _option("--weights", metavar="FILE", help="Your own safetensors file, or an hf: reference."),
        _option("--architecture", metavar="NAME", help="Of --weights, if the file does not say."),
        _option("--config", metavar="KEY=VALUE|FILE", multiple=True,
                help="Of --weights, if the file does not say: a value, or a JSON or TOML file of them. Repeatable."),
        _option("--manifest", metavar="FILE", multiple=True, type=click.Path(),
                help="One more manifest of models. Repeatable."),
        _option("--model-dir", metavar="DIR", help="Look for weights in this folder first."),
        _flag("--offline", help="Make no request to the network."),
    ]  # fmt: skip


def _computing() -> list[click.Option]:
    return [
        _option("-d", "--device", type=device, default="auto", show_default=True, metavar="NAME",
                help="auto, cpu, mps, cuda, cuda:N, or cuda:all for every GPU at once."),
        _option("-t", "--tile", type=tile, default="auto", show_default=True, metavar="auto|N|off",
                help="Side of a tile in pixels. The result does not depend on it."),
        _option("--max-memory", type=byte_size, metavar="SIZE",
                help="Memory for computing, as in 6G.  [default: 70% of what is free]"),
        _option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True,
                help="Of the arithmetic; fp32 on a CPU."),
        _option("--threads", type=click.IntRange(1, 1024), metavar="N", help="CPU threads for computing."),
    ]  # fmt: skip


def _pictures() -> list[click.Option]:
    from irestore.images import FORMATS, MAX_PIXELS

    return [
        _option("-f", "--format", type=click.Choice(["auto", *FORMATS]), default="auto", show_default=True,
                help="Of results; auto is the input's where it can be written."),
        _option("--quality", type=click.IntRange(1, 100), metavar="1-100",
                help="Of lossy formats.  [default: a JPEG's own, else the format's]"),
        _option("--lossless/--lossy", default=None, help="For formats that can do both.  [default: the input's]"),
        _option("--depth", type=click.Choice(["auto", "8", "16"]), default="auto", show_default=True,
                help="Bits a sample."),
        _option("--metadata", type=click.Choice(["keep", "strip"]), default="keep", show_default=True,
                help="EXIF, XMP, IPTC, comments. The colour profile always stays."),
        _option("--alpha", type=click.Choice(["resize", "restore", "drop"]), default="resize", show_default=True,
                help="How transparency is brought to size."),
        _option("--background", metavar="COLOUR", help="Put this colour behind transparency: white, #204060."),
        _option("--frames", type=click.Choice(["error", "first", "all"]), default="error", show_default=True,
                help="Of animations and files of several pages."),
        _option("--max-pixels", type=click.IntRange(min=1), default=MAX_PIXELS, show_default=True, metavar="N",
                help="Refuse to decode larger inputs."),
    ]  # fmt: skip


def _messages() -> list[click.Option]:
    return [
        _flag("-q", "--quiet", help="Only errors."),
        _flag("-v", "--verbose", help="A line for every picture."),
        _flag("--no-progress", help="No progress bar."),
        _flag("--json", help="One JSON object a picture on standard output."),
    ]


def _complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from irestore import weights

    task = ctx.params.get("task") or ctx.info_name  # `eval` takes the task as an argument
    return [
        CompletionItem(entry.name, help=entry.description)
        for entry in weights.entries(ctx.params.get("manifest") or ())
        if entry.task == task and entry.name.startswith(incomplete)
    ]
