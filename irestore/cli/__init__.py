"""The `irestore` command: the root group, and `main`, which turns every outcome into an exit code.

    0    every picture is done, or was done before
    1    a picture failed (the others are done)
    2    an option or argument makes no sense
    3    the model cannot be had
    130  stopped by Ctrl-C
    143  stopped by SIGTERM, 129 by SIGHUP

Commands are imported when they are called, so that `--help` and `--version` cost no more than Click.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from irestore import __version__
from irestore.cli.signals import Interrupted, stop_signals
from irestore.errors import IrestoreError

# name: (module, attribute, what it does)
COMMANDS = {
    "sr": ("irestore.cli.tasks", "sr", "Enlarge pictures 2, 3 or 4 times."),
    "denoise": ("irestore.cli.tasks", "denoise", "Remove noise."),
    "dejpeg": ("irestore.cli.tasks", "dejpeg", "Remove JPEG artefacts."),
    "deblur": ("irestore.cli.tasks", "deblur", "Remove motion blur and defocus."),
    "derain": ("irestore.cli.tasks", "derain", "Remove rain."),
    "models": ("irestore.cli.models", "models", "List, download, verify and remove models."),
    "eval": ("irestore.cli.eval", "eval_command", "Measure a model: PSNR and SSIM on a folder of clean pictures."),
    "doctor": ("irestore.cli.doctor", "doctor", "Check this machine: versions, devices, memory, Hub, exactness."),
    "completion": ("irestore.cli.completion", "completion", "Print the completion script of a shell."),
}

EPILOG = """\b
irestore sr -x4 photos/*.png         writes photos/NAME_x4.png beside each
irestore sr -x2 -r photos -o large/  the whole tree below photos, kept
irestore denoise - -o - <a.png >b.png

Every option of a task can be set in the environment: IRESTORE_DEVICE=cpu, IRESTORE_MAX_MEMORY=6G, ...

Exit codes: 0 done or skipped, 1 a picture failed, 2 usage, 3 model unavailable, 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM.
"""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    name="irestore",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "IRESTORE"},
)
@click.version_option(__version__, "-V", "--version", prog_name="irestore")
def root() -> None:
    """Restore photographs with Global-LN transformers: exact by tiles, in bounded memory."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error is one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        # Left before any message: a signal that comes later than the work ends the process as it would any other.
        with stop_signals():
            code = root.main(arguments, "irestore", standalone_mode=False, obj=arguments)
            sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except IrestoreError as error:
        print(f"irestore: {error}", file=sys.stderr)
        return error.exit_code
    except click.Abort as abort:
        return _stopped_by(abort.__cause__ or abort.__context__)
    except Interrupted as interrupted:
        return interrupted.exit_code
    except BrokenPipeError:  # the reader of our stdout has gone, as in `irestore models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _stopped_by(cause: BaseException | None) -> int:
    return cause.exit_code if isinstance(cause, Interrupted) else 130
