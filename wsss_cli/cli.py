"""The ``wsss`` command: a group that loads a tool only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
from difflib import get_close_matches
from keyword import iskeyword
from pathlib import Path
from typing import Any

import click

from wsss_cli import __version__, console
from wsss_cli.commands._help import Context
from wsss_cli.commands._settings import Settings, origin
from wsss_cli.interrupt import exit_code
from wsss_cli.texts import read_text

# Stage of each tool and the first line of its help; the module is the name with underscores,
# and one more at its end if Python means something else by it.
# Kept here so that `wsss --help` imports no tool; a test compares the lines with the tools' own.
COMMANDS: dict[str, tuple[str, str]] = {
    "masks": ("Recipe", "Make masks of labelled photographs, by a chain of the tools below."),
    "index": ("Data", "Print the records of a data set on disk."),
    "relabel": ("Data", "Make label maps of those of other tools."),
    "saliency": ("Data", "Write saliency maps of photographs."),
    "toy": ("Data", "Make a small synthetic data set in VOC's layout."),
    "train-cam": ("Classifiers", "Train a classifier on image-level labels."),
    "eps-train": ("Classifiers", "Train a classifier on labels and saliency (EPS, EPS++)."),
    "sipe-train": ("Classifiers", "Train a classifier with image-specific prototypes (SIPE)."),
    "import": ("Classifiers", "Make a checkpoint from one that a public repository published."),
    "make-cam": ("Maps", "Write class activation maps."),
    "erase": ("Maps", "Mine the most activated regions and erase them (AE-PSL)."),
    "make-aff-labels": ("Refinement", "Write the confident regions of CAMs as label maps."),
    "train-aff": ("Refinement", "Train AffinityNet on confident regions."),
    "irn-train": ("Refinement", "Train IRNet on confident regions."),
    "random-walk": ("Refinement", "Propagate CAMs along semantic affinities to pseudo-masks."),
    "crf": ("Refinement", "Refine CAMs, scores or label maps with a dense CRF or PAMR."),
    "train-seg": ("Segmentation", "Train a DeepLab segmentation network."),
    "predict": ("Segmentation", "Write label maps predicted by a segmentation network."),
    "eval": ("Measuring", "Measure label maps or CAMs against true masks."),
    "view": ("Measuring", "Draw images, maps and masks side by side, or on a page."),
    "export": ("Output", "Write label maps and networks as files of other tools."),
    "config": ("Settings", "Print the settings in effect and the source of each."),
    "examples": (
        "Settings",
        "Print the folder of the recipes: makefiles, scripts, and the settings of the papers.",
    ),
}

SETTINGS_FILE = "wsss.toml"
# Of its bytes and of the dots in a line: a key of very many parts takes the parser for ever.
_MOST, _MOST_DOTS = 1 << 18, 200


class LazyGroup(click.Group):
    """Imports a tool only when it is called, and ends the process with the right exit code."""

    context_class = Context

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        file = name.replace("-", "_") + ("_" if iskeyword(name) else "")
        module = importlib.import_module(f"wsss_cli.commands.{file}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "'wsss --help' lists the commands"
            raise click.UsageError(f"no command '{args[0]}'; {hint}")
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))  # one column under all headings
        stages: dict[str, list[tuple[str, str]]] = {}
        for name, (stage, line) in COMMANDS.items():
            stages.setdefault(stage, []).append((name.ljust(width), line))
        for stage, rows in stages.items():
            with formatter.section(stage):
                formatter.write_dl(rows)

    def invoke(self, context: click.Context) -> Any:
        """Run the tool; a closed pipe ends it quietly."""
        try:
            result = super().invoke(context)
            sys.stdout.flush()
        except BrokenPipeError:
            _hush()
            return 0
        return result

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse; the help goes to pipes too."""
        try:
            return super().make_context(*args, **kwargs)
        except BrokenPipeError:
            _hush()
            raise click.exceptions.Exit(0) from None

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run and exit: 0 success, 1 failures, 2 usage or configuration, 130 interrupted."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            path = context.command_path if context else "wsss"
            hint = f" ('{path} --help' lists the options)" if error.exit_code == 2 else ""
            param = getattr(error, "param", None)
            place = origin(context, param.name) if context and param else ""
            console.relay(f"{path}: {place}{' '.join(error.format_message().split())}{hint}")
            code = error.exit_code
        except OSError as error:  # the help, to a full disk
            console.relay(f"wsss: cannot write: {error.strerror}")
            code = 1
        except (KeyboardInterrupt, click.Abort) as error:
            console.relay("wsss: interrupted")
            code = exit_code(error.__cause__ or error)
        sys.exit(code if isinstance(code, int) else 0)


def _hush() -> None:
    """Discard stdout: its reader has gone, and the rest of the buffer must not raise at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.option(
    "--config",
    "settings",
    metavar="FILE",
    envvar="WSSS_CONFIG",
    type=click.Path(dir_okay=False),
    show_default=f"{SETTINGS_FILE}, if it exists",
    help="Settings file.",
)
@click.version_option(__version__, prog_name="wsss", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, settings: str | None) -> None:
    """Make pixel masks from image-level labels, and train a segmentation network on them.

    Tools read records (one JSON object per line and image) from files or stdin, write their files
    to --out, and print the records with the paths of these files added:

    \b
      wsss index voc VOC2012 --split train |
        wsss make-cam -c cam.pt -o out/cam |
        wsss random-walk -c aff.pt -o out/pseudo |
        wsss eval --key pseudo

    An option can also be set in the environment (WSSS_MAKE_CAM_OUT=...) or in wsss.toml, one table
    per command.
    """
    context.obj, context.default_map = load_settings(settings)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def load_settings(name: str | None) -> tuple[Settings, dict[str, Any]]:
    """The settings file, and options by command from it, names as click's parameters.

    Args:
        name: the file, or None for ``wsss.toml`` in the working directory if there is one.
    """
    path = Path(name or SETTINGS_FILE)
    if name is None and not path.exists():
        return Settings(str(path)), {}
    try:
        text = read_text(path, most=_MOST)
        if any(line.count(".") > _MOST_DOTS for line in text.splitlines()):
            raise ValueError(f"a line has more than {_MOST_DOTS} dots")
        tables = tomllib.loads(text)
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or numbers without end
        raise click.UsageError(f"{path}: {error}") from error
    file = Settings(str(path), text)
    for table, options in tables.items():
        if table not in COMMANDS:
            near = get_close_matches(table, COMMANDS, n=1)
            hint = f"; did you mean [{near[0]}]?" if near else ""
            raise click.UsageError(f"{file.at(table)}: no command '{table}'{hint}")
        if not isinstance(options, dict):
            raise click.UsageError(f"{file.at(table)}: '{table}' is not a table; write [{table}]")
    return file, {table: _names(options, table, file) for table, options in tables.items()}


def _names(options: dict[str, Any], table: str, file: Settings) -> dict[str, Any]:
    """Keys as parameter names; a table within is that of a subcommand."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        name = key.replace("-", "_")
        if name in found:
            raise click.UsageError(f"{file.at(table)}: [{table}] sets {name} twice")
        found[name] = _names(value, f"{table}.{key}", file) if isinstance(value, dict) else value
    return found


def main() -> None:
    """Entry point of the ``wsss`` script."""
    cli(prog_name="wsss", auto_envvar_prefix="WSSS")  # also for python -m wsss_cli
