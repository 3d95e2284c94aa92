"""mhost_server.py [COUNT]: print the strings that come to port 8080 (mhost_server.c)."""

import itertools
import sys

import mhost

turns = range(int(sys.argv[1])) if len(sys.argv) > 1 else itertools.count()
with mhost.Socket() as sock:
    sock.bind(("*", 8080))
    for _ in turns:
        data, (host, port) = sock.recvfrom(65536)
        print(data.decode(), flush=True)
        print(f"from {host} port {port}", file=sys.stderr)
