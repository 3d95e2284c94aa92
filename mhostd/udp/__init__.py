"""mhostd's own UDP, for every L3 protocol that brings none."""
