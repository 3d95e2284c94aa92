"""Answers what comes, in two processes and with one more socket in epoll, whatever happens.

restart.py ADDRESS    prints a line once all of it waits, then one for each datagram
"""

import os
import select
import socket
import sys


def bound(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((sys.argv[1], port))
    return sock


def answer(sock, name):
    data, peer = sock.recvfrom(100)
    sock.sendto(name + b" " + data, peer)
    print(name.decode(), data.decode(), flush=True)


blocked, polled, shared = bound(7001), bound(7002), bound(7003)
if not os.fork():
    blocked.close()
    while True:
        answer(shared, b"shared")
shared.close()
if not os.fork():
    polled.close()
    while True:
        answer(blocked, b"blocked")
blocked.close()
epoll = select.epoll()
epoll.register(polled, select.EPOLLIN)
print("ready", flush=True)
while True:
    epoll.poll()
    answer(polled, b"polled")
