"""Which networks the flags of a measurement tell apart, and what the flags cost."""
