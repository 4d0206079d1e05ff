"""Expected hypervolume improvement per training cost."""
