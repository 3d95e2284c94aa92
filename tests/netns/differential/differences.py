"""Where mhostd does not do what Linux does, and why."""

DIFFERENCES = {}
