"""What is on disk: paths, records, leases, states and stages."""
