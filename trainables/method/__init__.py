"""What recipes are made of, as data: phases, training settings, trials. It imports no torch."""
