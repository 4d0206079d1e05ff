"""Early stopping: which trials end before they are complete."""
