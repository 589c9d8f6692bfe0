"""The command of a task, as `irestore.tasks` has it: `irestore sr`, `irestore denoise`, ..."""

from pathlib import Path
from typing import Any

import click

from irestore.cli.options import DEFAULT_SCALE, SECTIONS, Options, build, declared
from irestore.cli.values import share
from irestore.errors import UsageError
from irestore.tasks import TASKS

SCALE = click.Option(
    ["-x", "--scale"],
    type=click.Choice(["2", "3", "4"]),
    help=f"How many times larger.  [default: {DEFAULT_SCALE}, or what the model named is made for]",
)
STRENGTH = click.Option(
    ["--strength"],
    type=share,
    default=["1.0"],
    multiple=True,
    show_default=True,
    metavar="0-1",
    help="How much of the restoration to take: 0 is the input, 1 all of it.",
)
PREVIEW = click.Option(
    ["--preview"],
    type=click.Path(path_type=Path),
    metavar="PAGE.html",
    help="Write no results but a page that shows those of the first 4 pictures; repeat -m or --strength to compare.",
)


class TaskCommand(click.Command):
    """A command whose `--help` shows its options in sections."""

    def __init__(self, task: str) -> None:
        self.sections = {section.__name__: declared(section, ["model"]) for section in SECTIONS}
        self.sections["Files"].append(PREVIEW)
        self.sections["Computing"].insert(0, SCALE if TASKS[task].enlarges else STRENGTH)
        inputs = click.Argument(["inputs"], nargs=-1, metavar="INPUT...", type=click.Path(), required=False)
        params = [inputs, *(option for options in self.sections.values() for option in options)]
        settings = {"auto_envvar_prefix": "IRESTORE"}
        super().__init__(task, settings, callback=restore, params=params, help=TASKS[task].summary)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One definition list a section; `--help` itself is in the last one."""
        for title, options in self.sections.items():
            shown = [*options, self.get_help_option(ctx)] if title == "Messages" else options
            records = [record for each in shown if each and (record := each.get_help_record(ctx))]
            with formatter.section(title):
                formatter.write_dl(records)


@click.pass_context
def restore(
    ctx: click.Context,
    /,
    model: tuple[str, ...],
    scale: str | None = None,
    strength: tuple[float, ...] = (1.0,),
    preview: Path | None = None,
    **values: Any,
) -> None:
    """What each of the commands does."""
    if preview is None and max(len(model), len(strength)) > 1:
        raise UsageError("-m and --strength are given once; several are compared by --preview page.html")
    values["model"] = model[0] if model else None
    sections: list[Any] = [build(section, values) for section in SECTIONS]
    options = Options(ctx.command.name or "", scale, strength[0], *sections)
    if preview is not None:
        from irestore.cli.preview import show_on_page

        ctx.exit(show_on_page(options, model, strength, preview))
    from irestore.cli.job import restore_files

    ctx.exit(restore_files(options))
