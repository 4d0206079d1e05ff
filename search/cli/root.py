"""The root command, where an error becomes a message and an exit code, and what all commands have in common."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from search.cli import streams
from search.files import interrupts
from search.files.messages import emit, failed, say
from search.store.catalogue import DEFAULT_STORAGE, STORAGE_VARIABLE
from trainables import __version__
from trainables.core import credentials, plugins
from trainables.core.errors import ExitCode, RobustsearchError, SpecError

if TYPE_CHECKING:
    from search.results.study import Study

F = TypeVar("F", bound=Callable[..., Any])

ARGUMENTS = {
    "study": "a study file (YAML), a built-in study (`robustsearch studies`), or the name of a stored study",
    "name": "a study in the storage; `robustsearch status` lists them",
    "names": "studies in the storage; LABEL=NAME,NAME,... for repeats of one search, `*` for any text in a name",
    "builtin": "a built-in study; `robustsearch studies` lists them",
    "point": "a measured network, tTRIAL.MEASUREMENT as in t17.2; `robustsearch front NAME` lists those of the front",
    "paper": "a paper whose tables are there; without one, they are listed",
    "files": "study files, cluster files, or built-in studies",
    "directory": "where the files are written",
}
"""What the positional arguments of the commands stand for."""


EXIT_SECONDS = 10.0
"""How long threads and exit handlers may run after a command's last line."""


class Command(click.Command):
    """A command whose help explains its arguments and is not cut to fit a line."""

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first sentence, whole."""
        return super().get_short_help_str(limit=1000)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the arguments, then the options."""
        write_arguments(self, formatter)
        super().format_options(ctx, formatter)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first sentence, whole."""
        return super().get_short_help_str(limit=1000)


Group.group_class = Group


def write_arguments(command: click.Command, formatter: click.HelpFormatter) -> None:
    """Write what the positional arguments of a command stand for."""
    known = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    rows = [(str(a.metavar or a.name).upper().removesuffix("..."), ARGUMENTS[str(a.name)]) for a in known]
    if rows:
        with formatter.section("Arguments"):
            formatter.write_dl(rows)


def examples(*lines: str) -> str:
    """Return the end of a command's help: command lines to copy."""
    return "\n".join(["\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  robustsearch {x}" for x in lines)])


class Root(Group):
    """The one place where an error becomes a message and an exit code; commands return theirs, None for 0."""

    def main(self, args: Any = None, prog_name: str | None = None, *rest: Any, **extra: Any) -> Any:
        """Run a command and exit with its code."""
        streams.prepare()
        arguments = [str(arg) for arg in (sys.argv[1:] if args is None else args)]
        extra["standalone_mode"] = False
        try:
            code = self._code(arguments, *rest, **extra)
            streams.flush()
            if args is None:
                streams.complete()
        except (OSError, streams.Refused) as error:
            message, code = streams.lost(error.error if isinstance(error, streams.Refused) else error)
            if message:
                _report(message, code, arguments)
        interrupts.over()
        if args is None:
            _end_soon(int(code or 0))
        sys.exit(int(code or 0))

    def _code(self, arguments: list[str], *rest: Any, **extra: Any) -> Any:
        """Run a command, report what goes wrong, and return the exit code.

        Raises:
            OSError: of stdout, or of a file whose error no command expects.
        """
        try:
            _refuse_credentials(arguments)
            return super().main(arguments, "robustsearch", *rest, **extra)
        except (click.exceptions.Abort, KeyboardInterrupt):
            return _interrupted(arguments)
        except click.ClickException as error:
            return _report(_usage(error), ExitCode.BAD_INPUT, arguments)
        except RobustsearchError as error:
            return _report(f"{error}{plugins.source(error)}", error.exit_code, arguments)
        except (Exception, SystemExit, GeneratorExit) as error:
            if failure := plugins.blamed(error.error if isinstance(error, streams.Refused) else error):
                return _report(failure, ExitCode.BAD_INPUT, arguments)
            if isinstance(error, (OSError, streams.Refused)):
                raise
            return _unexpected(error, arguments)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the arguments, and print the help where they ask for it."""
        try:
            return super().make_context(*args, **extra)
        except OSError as error:
            raise streams.Refused(error) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            raise streams.Refused(error) from error


def _interrupted(arguments: list[str]) -> ExitCode:
    """Say that a signal has ended the command; a launch that has begun says it itself."""
    begun = " before the launch began; the same command starts it" if arguments[:1] == ["launch"] else ""
    code = ExitCode.of_signal(interrupts.noted() or signal.SIGINT)
    return _report(f"interrupted{begun}", code, arguments)


def _unexpected(error: BaseException, arguments: list[str]) -> ExitCode:
    """Report a bug, or what became of a signal in code that turns every exception into its own."""
    if interrupts.noted():
        return _interrupted(arguments)
    traceback.print_exc()
    summary = f"{type(error).__name__}: {error}"
    return _report(f"this is a bug in robustsearch, please report it: {summary}", ExitCode.BUG, arguments)


def _refuse_credentials(arguments: list[str]) -> None:
    """Refuse arguments that hold a key or a password before any message repeats them.

    Raises:
        SpecError: without the argument.
    """
    for position, argument in enumerate(arguments):
        if credentials.in_uri(argument):
            option = next((a for a in (argument, *arguments[:position][-1:]) if a.startswith("--")), "an argument")
            raise SpecError(f"{option.partition('=')[0]}: {credentials.ADVICE}")


def _end_soon(code: int) -> None:
    """End this process, whose work is done, although a thread or an exit handler of a plug-in never ends."""
    timer = threading.Timer(EXIT_SECONDS, os._exit, (code,))  # What was printed has been flushed.
    timer.daemon = True
    timer.start()


def _usage(error: click.ClickException) -> str:
    hint = ""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.UsageError) and context is not None:
        hint = f" (see `{context.command_path} --help`)"
    return error.format_message() + hint


def _report(message: str, exit_code: ExitCode, arguments: list[str]) -> ExitCode:
    """Print what went wrong: for a person on stderr, and with `--json` for a program on stdout too."""
    say(f"error: {message}")
    if "--json" in arguments:
        emit(failed(message, exit_code))
    return exit_code


def json_option(command: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")(command)


def storage_options(command: F) -> F:
    """Add `--storage` and `--json`."""
    text = f"The storage root, a directory or a URI [default: ${STORAGE_VARIABLE}, else ./{DEFAULT_STORAGE}]."
    option = click.option("--storage", metavar="ROOT", envvar=STORAGE_VARIABLE, help=text)
    return option(json_option(command))


def name_argument(command: F) -> F:
    """Add the argument NAME, a stored study."""
    return click.argument("name")(command)


def opened(storage: str | None, name: str, *, complete: bool = True) -> Study:
    """Open a stored study; with `complete`, say which trials are left out because their records are damaged."""
    from search.results.study import open_study
    from search.store.catalogue import arguments
    from trainables.store.storage import Storage

    study = open_study(Storage(storage or DEFAULT_STORAGE), name)
    if complete and (damaged := study.records.damaged()):
        listed = ", ".join(str(record.number) for record in damaged[:10]) + (", ..." if len(damaged) > 10 else "")
        more = f"`robustsearch doctor {arguments(study.records.storage)}` says why"
        say(f"note: without trial{'' if len(damaged) == 1 else 's'} {listed}, whose records cannot be read; {more}")
    return study


def answer(as_json: bool, facts: Mapping[str, Any], show: Callable[[], None]) -> None:
    """Print the facts as JSON, or show them to a person."""
    if as_json:
        emit(facts)
    else:
        show()


def add(group: click.Group, commands: Iterable[click.Command]) -> None:
    """Add commands to a group."""
    for command in commands:
        group.add_command(command)


@click.group(
    cls=Root,
    epilog="Exit codes: 0 done, 1 a bug, 2 bad input, 3 no feasible point, 4 too many trials failed, 5 storage, "
    "6 cluster, 129, 130 or 143 interrupted (launch again to resume).",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="robustsearch")
def main() -> None:
    """Map how much adversarial robustness a network can have at which sparsity.

    `robustsearch launch` runs a search that ends with a Pareto front; `robustsearch COMMAND --help` explains a command
    and gives an example.
    """
