"""Where trials run: cluster files, the connection to Ray, and its watchdog."""
