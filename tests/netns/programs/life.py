"""A datagram socket and its copies: dup, fork, exec, threads; one line for each, as JSON.

Run with kernel sockets and with mhostd's: the lines are the same.
"""

import errno
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading

ADDRESS = sys.argv[1]  # of this host
CHILD = """
import os, socket, sys
s = socket.socket(fileno=int(sys.argv[1]))
data, peer = s.recvfrom(100)
s.sendto(b"exec " + data, peer)
print(s.family.name, s.type.name, s.getsockname()[1] == int(sys.argv[2]), flush=True)
"""


def tell(what, *values):
    print(json.dumps([what, *values]), flush=True)


def pair():
    """A bound socket, its address, and another one."""
    one, two = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    one.bind((ADDRESS, 0))
    for each in (one, two):
        each.settimeout(10)
    return one, one.getsockname(), two


def is_free(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(address)
        except OSError as err:
            return errno.errorcode[err.errno]
    return "free"


def asked(two, address, text=b"hi"):
    two.sendto(text, address)
    return two.recv(100).decode()


def child(do):
    """Do something in a child made by fork(); its exit code."""
    pid = os.fork()
    if not pid:
        try:
            do()
            os._exit(0)
        except BaseException as err:
            print(repr(err), file=sys.stderr, flush=True)
            os._exit(1)
    return pid


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def numbers():
    first = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    second = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tell("lowest descriptors", second.fileno() - first.fileno())
    number = first.fileno()
    first.close()
    third = os.dup(second.fileno())
    tell("lowest again", third == number)
    os.close(third)
    second.close()


def dup():
    one, address, two = pair()
    other = socket.socket(fileno=os.dup(one.fileno()))
    other.settimeout(10)
    one.close()
    tell("dup", is_free(address))
    two.sendto(b"to the copy", address)
    tell("dup", other.recv(100).decode())
    os.dup2(other.fileno(), 300)
    other.close()
    other = socket.socket(fileno=300)
    other.settimeout(10)
    two.sendto(b"to the second copy", address)
    tell("dup2", other.recv(100).decode())
    fd = fcntl.fcntl(300, fcntl.F_DUPFD, 301)
    tell("F_DUPFD", fd)
    with open("/dev/null", "rb") as null:  # what is dup2() upon is closed
        os.dup2(null.fileno(), 300)
        os.dup2(null.fileno(), fd)
    tell("dup2 upon", is_free(address))
    os.close(fd)
    other.detach()
    os.close(300)
    two.close()


def fork():
    one, address, two = pair()

    def answer():
        data, peer = one.recvfrom(100)
        one.sendto(b"child " + data, peer)

    pid = child(answer)
    tell("fork: child answers", asked(two, address), ended(pid))
    pid = os.fork()
    if not pid:
        os._exit(0)
    ended(pid)
    tell("fork: the parent's is open when the child has gone", is_free(address))

    def echo_both():
        for _ in range(2):
            answer()

    pid = child(echo_both)
    one.close()
    tell("fork: the child's is open when the parent's is closed", is_free(address))
    tell("fork: child answers", asked(two, address), asked(two, address), ended(pid))
    tell("fork: closed by the last", is_free(address))

    def of_its_own():
        mine, there, _two = pair()
        two.sendto(b"from the child", there)
        assert mine.recv(100) == b"from the child"

    tell("fork: a socket of the child's", ended(child(of_its_own)))

    def waits():
        poll = select.poll()
        poll.register(both, select.POLLIN)
        assert poll.poll(10_000)
        answer_to(both)

    def answer_to(sock):
        data, peer = sock.recvfrom(100)
        sock.sendto(b"polled " + data, peer)

    both, address, _two = pair()
    pid = child(waits)
    tell("fork: poll in the child", asked(two, address), ended(pid))
    both.settimeout(0)
    tell("fork: nothing is left for the parent", select.select([both], [], [], 0)[0] == [])
    for each in (two, both):
        each.close()


def executed():
    one, address, two = pair()
    port = str(address[1])
    for how in ("fork and exec", "spawn"):
        fd = os.dup(one.fileno())
        os.set_inheritable(fd, True)
        argv = [sys.executable, "-c", CHILD, str(fd), port]
        if how == "spawn":
            read, write = os.pipe()
            actions = [(os.POSIX_SPAWN_DUP2, write, 1)]
            pid = os.posix_spawn(sys.executable, argv, os.environ, file_actions=actions)
            os.close(write)
            tell(how, asked(two, address), ended(pid), os.read(read, 100).decode())
            os.close(read)
        else:
            done = subprocess.Popen(argv, pass_fds=[fd], stdout=subprocess.PIPE, text=True)
            tell(how, asked(two, address), done.wait(), done.stdout.read())
            done.stdout.close()
        os.close(fd)
    argv = [sys.executable, "-c", CHILD.replace("int(sys.argv[1])", "0"), "", port]
    done = subprocess.Popen(argv, stdin=one, stdout=subprocess.PIPE, text=True)
    tell("as standard input", asked(two, address), done.wait(), done.stdout.read())
    done.stdout.close()
    fd = os.dup(one.fileno())
    os.set_inheritable(fd, True)
    argv = [sys.executable, "-c", CHILD, str(fd), port]
    script = f'exec {" ".join(map(repr, argv[:2]))} "$0" {fd} {port}'
    done = subprocess.Popen(["/bin/sh", "-c", script, CHILD], pass_fds=[fd],
                            stdout=subprocess.PIPE, text=True)  # fmt: skip
    one.close()
    os.close(fd)
    tell("exec of exec, and ours are closed", asked(two, address), done.wait())
    done.stdout.close()
    tell("closed by the last", is_free(address))
    one, address, _two = pair()
    done = subprocess.run([sys.executable, "-c", "pass"], close_fds=False, check=True)
    tell("not inherited", done.returncode, is_free(address))
    one.close()
    tell("closed", is_free(address))
    two.close()


def threads():
    one, address, two = pair()
    got, lock = [], threading.Lock()

    def take():
        for _ in range(50):
            data = one.recv(100)
            with lock:
                got.append(int(data))

    workers = [threading.Thread(target=take) for _ in range(4)]
    for worker in workers:
        worker.start()
    for n in range(200):
        two.sendto(str(n).encode(), address)
    for worker in workers:
        worker.join()
    tell("threads", sorted(got) == list(range(200)))
    one.close()
    two.close()


def closing():
    one, address, two = pair()
    low = min(one.fileno(), two.fileno())
    os.closerange(low, 1 << 16)
    tell("closerange", is_free(address))
    one.detach()
    two.detach()
    again, address, other = pair()
    other.sendto(b"after closerange", address)
    tell("closerange", again.recv(100).decode())
    again.close()
    other.close()


def interrupted():
    one, _address, two = pair()
    unread, sink, _two = pair()  # somebody has it: what no neighbour takes fills buffers
    one.settimeout(None)
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def handler(*_):
        """A handler may use sockets, too."""
        two.sendto(b"by the handler", sink)

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    for _ in range(200):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as each:
            each.bind((ADDRESS, 0))
            each.sendto(b"x", each.getsockname())
            each.recv(1)
    signal.setitimer(signal.ITIMER_REAL, 0)
    tell("signal", "handlers that send")
    for restart in (True, False):
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.siginterrupt(signal.SIGALRM, not restart)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        if restart:
            here = one.getsockname()
            timer = threading.Timer(0.4, lambda: two.sendto(b"late", here))  # noqa: B023
            timer.start()
        buffer = ctypes.create_string_buffer(10)
        result = libc.recv(one.fileno(), buffer, ctypes.c_size_t(10), 0)
        what = errno.errorcode[ctypes.get_errno()] if result < 0 else buffer.value.decode()
        tell("signal", "SA_RESTART" if restart else "no SA_RESTART", what)
        if restart:
            timer.join()
    for each in (one, two, unread):
        each.close()


for part in (numbers, dup, fork, executed, threads, closing, interrupted):
    part()
