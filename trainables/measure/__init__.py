"""Measuring: the tensor code of one point."""
