"""One launch of a study, from the plan to the last trial."""
