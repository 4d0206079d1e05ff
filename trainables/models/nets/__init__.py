"""The networks themselves: torch modules, built by the specs next door."""
