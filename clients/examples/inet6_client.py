"""inet6_client.py [ADDRESS [STRING]]: send a string to port 8080 (inet6_client.c)."""

import sys

import mhost.socket as socket

if len(sys.argv) > 3:
    print(f"usage: {sys.argv[0]} [ADDRESS [STRING]]", file=sys.stderr)
    sys.exit(2)
address, string = [*sys.argv[1:], *("::1", "hello")[len(sys.argv) - 1 :]]
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
    sock.sendto(string.encode(), (address, 8080))
