"""The scripts of `benchmarks/` import each other by name, from the end of the path as when they are run."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
