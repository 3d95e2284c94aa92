"""mhost_loopback.py ADDRESS [STRING]: send a string to oneself (mhost_loopback.c)."""

import sys

import mhost

address, string, *_more = [*sys.argv[1:], "hello"]
with mhost.Socket() as sock:
    sock.bind(("*", 8080))
    sock.settimeout(5)
    sock.sendto(string.encode(), (address, 8080))
    back = sock.recv(65536).decode()
if back != string:
    sys.exit(f"something else came: {back}")
print(f"looped back: {string}")
