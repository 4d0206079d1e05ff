"""Draw what the panels of the shipped Grafana dashboard show, from their queries on a running Prometheus.

python -m benchmarks.panels http://127.0.0.1:9090 panels.png [--minutes 5] [--until UNIX-TIME]
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from matplotlib import dates, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from search.launch import monitoring

COLUMNS = 3
MOST_LABELS = 7
"""With more series than this, a panel has no legend: they are the trials that ran."""


def series(url: str, expression: str, began: float, until: float) -> dict[str, tuple[list[float], list[float]]]:
    """Return the times and values of each series of an expression, by the values of its labels but the study."""
    words = {"query": expression.replace("$study", ".+"), "start": began, "end": until, "step": 2}
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{urllib.parse.urlencode(words)}") as answer:
        result = json.load(answer)["data"]["result"]
    found = {}
    for each in result:
        name = ", ".join(value for label, value in sorted(each["metric"].items()) if label != "study")
        found[name] = [at for at, _ in each["values"]], [float(value) for _, value in each["values"]]
    return dict(sorted(found.items(), key=lambda item: item[1][1][-1], reverse=True))


def draw(axes: Axes, panel: dict[str, Any], found: dict[str, tuple[list[float], list[float]]]) -> None:
    """Draw a panel's series over time."""
    for name, (times, values) in found.items():
        axes.plot([at / 86400 for at in times], values, lw=1.4, label=name)  # Matplotlib counts days.
    axes.set_title(panel["title"], fontsize=9, loc="left")
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if panel.get("fieldConfig", {}).get("defaults", {}).get("unit") == "percentunit":
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
    if len(found) > 1 and len(found) <= MOST_LABELS:
        axes.legend(fontsize=6, loc="best")


def main() -> None:
    """Draw the panels that have something to show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--until", type=float, default=time.time())
    options = parser.parse_args()
    began = options.until - 60 * options.minutes
    shown = []
    for panel in monitoring.dashboard()["panels"]:
        if panel["type"] in ("timeseries", "stat"):
            (target,) = panel["targets"]
            shown.append((panel, series(options.url, target["expr"], began, options.until)))
    plots = [(panel, found) for panel, found in shown if panel["type"] == "timeseries" and found]
    rows = -(-len(plots) // COLUMNS)
    figure = Figure(figsize=(12, 0.8 + 2.1 * rows), layout="constrained")
    all_axes = figure.subplots(rows, COLUMNS).flat
    for axes, (panel, found) in zip(all_axes, plots, strict=False):
        draw(axes, panel, found)
    for axes in list(figure.axes)[len(plots) :]:
        axes.set_axis_off()
    last = [f"{p['title']} {next(iter(f.values()))[1][-1]:.4g}" for p, f in shown if p["type"] == "stat" and f]
    figure.suptitle("   ".join(last), fontsize=10)
    figure.savefig(options.output, dpi=90)


if __name__ == "__main__":
    main()
