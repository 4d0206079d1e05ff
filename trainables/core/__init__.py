"""The base of everything else: specs, registries, keys, random numbers, errors. It imports no torch."""
