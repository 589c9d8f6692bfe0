"""The command of a task, as `irestore.tasks` has it: `irestore sr`, `irestore denoise`, ..."""

from typing import Any

import click

from irestore.cli.options import DEFAULT_SCALE, SECTIONS, Options, build, declared
from irestore.cli.values import share
from irestore.tasks import TASKS

SCALE = click.Option(
    ["-x", "--scale"],
    type=click.Choice(["2", "3", "4"]),
    help=f"How many times larger.  [default: {DEFAULT_SCALE}, or what the model named is made for]",
)
STRENGTH = click.Option(
    ["--strength"],
    type=share,
    default="1.0",
    show_default=True,
    metavar="0-1",
    help="How much of the restoration to take: 0 is the input, 1 all of it.",
)


class TaskCommand(click.Command):
    """A command whose `--help` shows its options in sections."""

    def __init__(self, task: str) -> None:
        self.sections = {section.__name__: declared(section) for section in SECTIONS}
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
def restore(ctx: click.Context, /, scale: str | None = None, strength: float = 1.0, **values: Any) -> None:
    """What each of the commands does."""
    from irestore.cli.job import restore_files

    sections: list[Any] = [build(section, values) for section in SECTIONS]
    ctx.exit(restore_files(Options(ctx.command.name or "", scale, strength, *sections)))
