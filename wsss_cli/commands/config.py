"""``wsss config``: the settings in force and their sources."""

from __future__ import annotations

import click

from wsss_cli import console
from wsss_cli.commands import _frame, _in_effect


@_frame.command()
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
@click.option("--changed", is_flag=True, help="Only settings that differ from the defaults.")
@click.pass_context
def command(context: click.Context, names: tuple[str, ...], changed: bool) -> None:
    """Print the settings in effect and the source of each.

    Reads no records. Prints one line an option: its table and name as in wsss.toml, its value, and
    its source: environment, file or default. The command line overrides all three.

    \b
    Example:
      WSSS_RANDOM_WALK_BETA=10 wsss config random-walk
    """
    top = context.find_root()
    group = top.command
    assert isinstance(group, click.Group)
    for name in names or group.list_commands(top):
        declared = group.get_command(top, name)
        if declared is None:
            raise click.UsageError(f"no command '{name}'; 'wsss --help' lists them")
        for line in _in_effect.lines(top, declared, name, changed=changed):
            click.echo(console.clean(line))
