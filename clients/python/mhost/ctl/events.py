"""mhostctl events: what the daemon publishes, a line for each."""

from __future__ import annotations

import json
import os
import sys
import time

import zmq

from mhost.ctl.ask import NoDaemonError, show
from mhostd.uapi import DEFAULT_SOCKET


def follow(*, as_json: bool) -> int:
    """Print events until Ctrl-C; JSON lines if asked for.

    Raises:
        NoDaemonError: none answers.
    """
    show("key")  # says what is wrong, if something is
    address = f"{os.environ.get('MHOST_SOCKET') or DEFAULT_SOCKET}.events"
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    listener = context.socket(zmq.SUB)
    listener.subscribe(b"")
    try:
        listener.connect(address)
        while True:
            _what, octets = listener.recv_multipart()
            event = json.loads(octets)
            if as_json:
                print(json.dumps(event))
            else:
                at = time.strftime("%H:%M:%S", time.localtime(event["time_s"]))
                print(f"{at}.{int(event['time_s'] * 1000) % 1000:03}", end=" ")
                print(event["host"], event["event"], event["text"])
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except zmq.ZMQError as err:
        raise NoDaemonError(f"{address}: {err}") from None
    finally:
        context.destroy(0)
