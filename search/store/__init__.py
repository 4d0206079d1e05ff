"""What is on disk: the records of studies, their locks, checks and repair."""
