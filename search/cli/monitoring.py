"""The command that writes the settings of Prometheus and Grafana."""

from __future__ import annotations

from pathlib import Path

import click

from search.cli.root import Command, answer, examples, json_option
from search.files.messages import say

PORT = click.IntRange(1, 65535)


@click.command(cls=Command, epilog=examples("monitoring", "monitoring --session /tmp/ray/session_latest"))
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option("--prometheus-port", type=PORT, default=9090, show_default=True, help="The port of Prometheus.")
@click.option("--grafana-port", type=PORT, default=3000, show_default=True, help="The port of Grafana.")
@click.option(
    "--session",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The session folder of a Ray cluster whose head is this machine [default: the last that was started there].",
)
@json_option
def monitoring(
    directory: Path | None, prometheus_port: int, grafana_port: int, session: Path | None, as_json: bool
) -> None:
    """Write settings for Prometheus and Grafana to show searches, also on the Ray dashboard.

    Start both with the two commands that are printed; they listen on the loopback address of this machine only.
    DIRECTORY is ~/.robustsearch/monitoring by default, which is where launches that start Ray themselves look.
    """
    from search.cluster.monitoring import ENVIRONMENT, default_folder
    from search.launch import monitoring as settings

    chosen = settings.plan(directory, prometheus_port=prometheus_port, grafana_port=grafana_port, session=session)
    written = [str(path) for path in settings.write(chosen)]
    prometheus, grafana = chosen.commands()
    facts = {
        "directory": str(chosen.directory),
        "written": written,
        "commands": [prometheus, grafana],
        "environment": chosen.environment(),
    }

    def show() -> None:
        print(*written, sep="\n")
        say(f"next: start both, then launch, and open Metrics on the Ray dashboard\n  {prometheus}\n  {grafana}")
        if chosen.directory != default_folder():
            say(f"launches that start Ray themselves are not shown: they look only in {default_folder()}")
        again = "run this again, and restart Prometheus"
        say(
            f"for a Ray of your own: before `ray start --head`, `. {chosen.directory / ENVIRONMENT}`; after it, {again}"
        )

    answer(as_json, facts, show)
