"""The study file: what is searched, what for, and how it is measured."""
