"""inet_server.py [COUNT]: print the strings that come to port 8080 (inet_server.c)."""

import itertools
import sys

import mhost.socket as socket

turns = range(int(sys.argv[1])) if len(sys.argv) > 1 else itertools.count()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("", 8080))
    for _ in turns:
        print(sock.recv(65536).decode(), flush=True)
