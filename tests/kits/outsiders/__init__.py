"""Plug-ins as other packages would define them: one class and one registry line each."""
