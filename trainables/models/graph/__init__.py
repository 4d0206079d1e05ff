"""What is read from a network's structure."""
