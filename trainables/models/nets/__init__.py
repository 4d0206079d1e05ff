"""The networks of the models: torch modules."""
