"""mhost_loopback.py ADDRESS [STRING]: send a string to oneself (mhost_loopback.c)."""

import sys

import mhost

if len(sys.argv) not in (2, 3):
    print(f"usage: {sys.argv[0]} ADDRESS [STRING]", file=sys.stderr)
    sys.exit(2)
address, string = [*sys.argv[1:], "hello"][:2]
with mhost.Socket() as sock:
    sock.bind(("*", 8080))
    sock.settimeout(5)
    sock.sendto(string.encode(), (address, 8080))
    back = sock.recv(65536).decode()
if back != string:
    sys.exit(f"something else came: {back}")
print(f"looped back: {string}")
