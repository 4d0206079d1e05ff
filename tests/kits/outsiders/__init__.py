"""Plug-ins as somebody outside would write them: one class and one registry line each."""
