"""mhost_client.py HOST [STRING]: send a string to port 8080 of a host (mhost_client.c)."""

import sys

import mhost

if len(sys.argv) not in (2, 3):
    print(f"usage: {sys.argv[0]} HOST [STRING]", file=sys.stderr)
    sys.exit(2)
host, string = [*sys.argv[1:], "hello"][:2]
with mhost.Socket() as sock:
    sock.sendto(string.encode(), (host, 8080))
