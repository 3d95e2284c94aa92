"""mhostctl: look into the daemon, and change what may be changed."""
