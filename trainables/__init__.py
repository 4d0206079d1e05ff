"""Adversarial-training-with-pruning trials: data, models, attacks, pruning, recipes, phases.

Pure PyTorch but for `worker.tune_trainable`, the Ray adapter. Modules that only describe a trial
(`base`, `registry`, `keys`, `metrics`, `training`, `phases`, `spec` and the specs inside each
family) import no torch, so that a study can be checked in a fraction of a second.
"""

__version__ = "0.1.0"
