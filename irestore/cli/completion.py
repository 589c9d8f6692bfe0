"""`irestore completion SHELL`: the script that a shell's start-up file evaluates."""

import click
from click.shell_completion import get_completion_class

HOW = """Print the completion script of a shell.

\b
bash  eval "$(irestore completion bash)"           in ~/.bashrc
zsh   eval "$(irestore completion zsh)"            in ~/.zshrc
fish  irestore completion fish | source            in ~/.config/fish/config.fish
"""


@click.command(help=HOW)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Write the script to stdout; the shell calls `irestore` again for every completion."""
    script = get_completion_class(shell)
    assert script is not None  # the three are Click's own
    click.echo(script(ctx.find_root().command, {}, "irestore", "_IRESTORE_COMPLETE").source())
