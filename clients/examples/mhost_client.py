"""mhost_client.py HOST [STRING]: send a string to port 8080 of a host (mhost_client.c)."""

import sys

import mhost

host, string, *_more = [*sys.argv[1:], "hello"]
with mhost.Socket() as sock:
    sock.sendto(string.encode(), (host, 8080))
