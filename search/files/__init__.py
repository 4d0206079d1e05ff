"""What files and terminals say: YAML, diagnostics, field types, messages."""
