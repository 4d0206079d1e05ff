"""Launches as jobs of Slurm."""
