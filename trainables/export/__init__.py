"""Networks as files to take away."""
