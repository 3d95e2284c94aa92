"""mhost_send.py HOST STRING [COUNT]: send a string to a host, connected (mhost_send.c)."""

import sys

import mhost

if len(sys.argv) not in (3, 4):
    print(f"usage: {sys.argv[0]} HOST STRING [COUNT]", file=sys.stderr)
    sys.exit(2)
host, string, count = [*sys.argv[1:], "1"][:3]
with mhost.Socket() as sock:
    sock.connect((host, 8080))
    for _ in range(int(count)):
        sock.send(string.encode())
