"""What everything else rests on: specs, registries, keys, random numbers, errors. It imports no torch."""
