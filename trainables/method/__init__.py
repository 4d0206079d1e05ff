"""The parts of recipes, as data: phases, training settings, the protocol. It imports no torch."""
