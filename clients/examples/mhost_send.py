"""mhost_send.py HOST STRING [COUNT]: send a string to a host, connected (mhost_send.c)."""

import sys

import mhost

host, string, count, *_more = [*sys.argv[1:], "1"]
with mhost.Socket() as sock:
    sock.connect((host, 8080))
    for _ in range(int(count)):
        sock.send(string.encode())
