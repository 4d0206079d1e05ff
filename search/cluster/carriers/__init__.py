"""Clusters on which a launch runs in a job of its own: what submits it, follows it and cancels it."""
