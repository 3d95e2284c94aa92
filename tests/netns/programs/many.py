"""A thousand datagram sockets in one process, and descriptors above 1024.

Run with kernel sockets and with mhostd's: the lines are the same.
"""

import fcntl
import json
import resource
import select
import socket
import sys

ADDRESS = sys.argv[1]  # of this host
MANY = 1000


def tell(what, *values):
    print(json.dumps([what, *values]), flush=True)


def bound():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((ADDRESS, 0))
    return sock


sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
socks = [bound() for _ in range(MANY)]
tell("opened", max(sock.fileno() for sock in socks) - min(sock.fileno() for sock in socks))
epoll = select.epoll()
for sock in socks:
    sock.setblocking(False)
    epoll.register(sock, select.EPOLLIN)
by_fd = {sock.fileno(): sock for sock in socks}
for turn in range(3):
    for sock in socks:
        sender.sendto(str(sock.fileno()).encode(), sock.getsockname())
    right = 0
    while right < MANY:
        ready = epoll.poll(10)
        if not ready:
            break
        for fd, _event in ready:
            right += by_fd[fd].recv(100) == str(fd).encode()
    tell("epoll", turn, right, len(epoll.poll(0)))
for sock in socks:
    epoll.unregister(sock)
    sock.close()
_soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
low = bound()
address = low.getsockname()
high = socket.socket(fileno=fcntl.fcntl(low.fileno(), fcntl.F_DUPFD, 15_000))
low.close()
tell("high", high.fileno() >= 15_000)
poll = select.poll()
poll.register(high, select.POLLIN | select.POLLOUT)
epoll.register(high, select.EPOLLIN)
tell("poll", [event for _fd, event in poll.poll(0)], len(epoll.poll(0)))
sender.sendto(b"to a high one", address)
tell("epoll", len(epoll.poll(10)))
tell("poll", [event for _fd, event in poll.poll(0)], high.recv(100).decode())
tell("poll", [event for _fd, event in poll.poll(0)], len(epoll.poll(0)))
try:
    select.select([high], [], [], 0)
except ValueError as err:
    tell("select", str(err))
