"""What a study found: tables, status, plots, exports, models. Read-only."""
