"""Samplers: they choose the parameters of the next trial."""
