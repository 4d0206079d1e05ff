"""Tables of papers beside what a study measured: cells, caption and claims."""
