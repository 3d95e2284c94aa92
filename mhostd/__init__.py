"""mhostd: sockets that name a host instead of an address."""

__version__ = "0.1.0"
