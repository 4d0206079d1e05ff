"""Adversarial-training-with-pruning trials: data, models, attacks, pruning, recipes, phases.

Pure PyTorch except for `worker.tune_trainable`, the Ray adapter. Specs import torch only inside of their methods, so
that a study is validated in a fraction of a second.
"""

__version__ = "0.1.0"
