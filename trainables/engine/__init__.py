"""Training: the tensor code of one phase."""
