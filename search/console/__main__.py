"""`python -m search.console`."""

from __future__ import annotations

from search.console import main

main()
