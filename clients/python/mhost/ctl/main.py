"""mhostctl: arguments and exit codes; everything heavier is imported when it is used."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from mhostd import __version__

TYPE_CHECKING = False  # for type checkers it is true; typing takes 10 ms to load
if TYPE_CHECKING:
    from typing import Any

EXIT_OK, EXIT_REFUSED, EXIT_USAGE, EXIT_NO_DAEMON = 0, 1, 2, 3

_READING = {
    "status": "the daemon, its devices, and what keeps packets from moving",
    "sockets": "open sockets, as `ss -uap` shows the kernel's",
    "hosts": "names and their locators; `hosts add` and `hosts del` change them",
    "l3": "L3 handlers; `l3 up` and `l3 down` register and remove one",
    "routes": "which L3 handler sends to which prefix",
    "counters": "counters of devices, L3 handlers and sockets",
    "drops": "dropped frames and datagrams by reason",
    "key": "who this host is to others with mhostd: its public key and identifier",
    "paths": "paths to associated hosts, with round trip, loss and why they are as they are",
    "explain": "why datagrams to a host go where they go",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 done, 1 refused, 2 a bad command line, 3 no daemon answers.
    """
    top = parser()
    args, rest = top.parse_known_args(argv)
    if rest and getattr(args, "change", None) == "add" and not rest[0].startswith("-"):
        args.locators += rest  # argparse gives those behind an option to nobody
    elif rest:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if args.verb == "config":
        return _config_check(args.file)
    if args.verb in ("run", "dev"):
        return _of_programs(args)
    from mhost.ctl import ask

    try:
        if args.verb == "events":
            from mhost.ctl.events import follow

            return follow(as_json=args.json)
        return _run(args)
    except BrokenPipeError:  # as of `mhostctl sockets | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except ask.NoDaemonError as err:
        print(f"mhostctl: {err}", file=sys.stderr)
        return EXIT_NO_DAEMON
    except ask.RefusedError as err:
        print(f"mhostctl: {err}", file=sys.stderr)
        return EXIT_REFUSED


def parser() -> argparse.ArgumentParser:
    """Return the command line; at build argparse-manpage and shtab read it (meson.build)."""
    top = argparse.ArgumentParser(
        prog="mhostctl",
        description="Look into mhostd, and change what may be changed.",
        epilog="MHOST_SOCKET names the daemon's socket (ipc:///run/mhostd/mhost.sock). "
        "Exit codes: 0 done, 1 refused, 2 usage, 3 no daemon answers.",
    )
    top.add_argument("--version", action="version", version=f"mhostctl {__version__}")
    _json_flag(top, default=False)
    verbs = top.add_subparsers(title="verbs", dest="verb", required=True, metavar="VERB")
    for name, text in _READING.items():
        verb = verbs.add_parser(name, help=text, description=text)
        _json_flag(verb, default=argparse.SUPPRESS)
        if name == "hosts":
            _hosts(verb)
        elif name == "l3":
            _l3(verb)
        elif name == "key":
            verb.add_argument(
                "--state", metavar="DIR", help="of that directory, made if need be; no daemon"
            )
        elif name == "explain":
            verb.add_argument("name", metavar="HOST", help="name, identifier or key")
    _path(verbs)
    events = verbs.add_parser("events", help="what happens to hosts and paths, as it happens")
    _json_flag(events, default=argparse.SUPPRESS)
    _programs(verbs)
    config = verbs.add_parser("config", help="check a configuration file")
    check = config.add_subparsers(dest="what", required=True, metavar="WHAT").add_parser(
        "check", help="say whether the daemon would take it"
    )
    default = "/etc/mhostd/mhostd.toml"
    file = check.add_argument("file", nargs="?", default=default, metavar="FILE")
    # shtab.FILE, without importing it
    file.complete = {"bash": "_shtab_compgen_files", "zsh": "_files"}  # type: ignore[attr-defined]
    return top


def _json_flag(verb: argparse.ArgumentParser, default: object) -> None:
    text = "print JSON: one array or object, lower_snake keys"
    verb.add_argument("-j", "--json", action="store_true", default=default, help=text)


def _hosts(verb: argparse.ArgumentParser) -> None:
    changes = verb.add_subparsers(title="changes", dest="change", metavar="add|del")
    add = changes.add_parser("add", help="bind a name to locators, best first, or to a key")
    add.add_argument("name", metavar="NAME")
    text = "what `mhostctl key` prints there, of a host with mhostd: locators are hints then"
    add.add_argument("--key", default="", metavar="KEY", help=text)
    text = "which paths datagrams take: the best one, or every one"
    add.add_argument("--policy", default="", choices=("failover", "duplicate"), help=text)
    text = "IPv4, IPv6 or proto:address, as testproto:7"
    add.add_argument("locators", nargs="*", metavar="LOCATOR", help=text)
    delete = changes.add_parser("del", help="unbind a name, or some of its locators")
    delete.add_argument("name", metavar="NAME")
    delete.add_argument("locators", nargs="*", metavar="LOCATOR")


def _path(verbs: Any) -> None:
    path = verbs.add_parser("path", help="plan to leave an uplink, or take it back")
    changes = path.add_subparsers(title="changes", dest="change", metavar="WHAT", required=True)
    for name, text in (
        ("drain", "move what takes it to other paths, and tell the peers"),
        ("undrain", "use it again"),
    ):
        verb = changes.add_parser(name, help=text, description=text)
        text = "interface, L3 handler or address of this host"
        verb.add_argument("what", metavar="IFACE|ADDRESS", help=text)


def _l3(verb: argparse.ArgumentParser) -> None:
    changes = verb.add_subparsers(title="changes", dest="change", metavar="up|down")
    for name, text in (("up", "register a handler again"), ("down", "remove a handler")):
        changes.add_parser(name, help=text).add_argument("name", metavar="NAME")


def _programs(verbs: Any) -> None:
    text = "run a program, its sockets on mhostd"
    run = verbs.add_parser(
        "run",
        help=text,
        description=f"{text}: AF_MHOST ones, and with `--family inet` its UDP sockets too.",
        usage="mhostctl run [-h] [--family {mhost,inet,all}] [--] PROGRAM [ARGUMENT ...]",
    )
    run.add_argument(
        "--family",
        choices=("mhost", "inet", "all"),
        default=os.environ.get("MHOST_PRELOAD") or "mhost",
        help="mhost: AF_MHOST sockets; inet, all: IPv4 and IPv6 UDP sockets as well",
    )
    run.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM ...")
    dev = verbs.add_parser(
        "dev", help="what a C compiler needs for libmhost", description="Print compiler flags."
    )
    dev.add_argument("--cflags", action="store_true", help="where mhost.h is")
    dev.add_argument("--libs", action="store_true", help="how to link with libmhost")
    dev.add_argument("--static", action="store_true", help="with --libs: the static library")
    dev.add_argument("--pkgconfig", action="store_true", help="for PKG_CONFIG_PATH")


def _of_programs(args: argparse.Namespace) -> int:
    from mhost.ctl import run

    if args.verb == "run":
        argv = args.program[args.program[:1] == ["--"] :]
        if not argv:
            print("mhostctl: run: which program? mhostctl run -- PROGRAM", file=sys.stderr)
            return EXIT_USAGE
        return run.run(args.family, argv)
    if not (args.cflags or args.libs or args.pkgconfig):
        print("mhostctl: dev: --cflags, --libs or --pkgconfig?", file=sys.stderr)
        return EXIT_USAGE
    if args.pkgconfig:
        print(run.directory())
    else:
        print(run.flags(cflags=args.cflags, libs=args.libs, static=args.static))
    return EXIT_OK


def _run(args: argparse.Namespace) -> int:
    from mhost.ctl import ask

    match args.verb, getattr(args, "change", None):
        case "hosts", "add":
            ask.change(["hosts_add", 1, args.name, args.locators, args.key, args.policy])
        case "hosts", "del":
            ask.change(["hosts_del", 1, args.name, args.locators])
        case "l3", ("up" | "down") as change:
            ask.change(["l3_set", 1, args.name, change == "up"])
        case "path", ("drain" | "undrain") as change:
            ask.change(["path_drain", 1, args.what, change == "undrain"])
        case verb, _:
            if verb == "key" and args.state:
                value = _key_of(args.state)
            else:
                value = ask.show(verb, args.name if verb == "explain" else "")
            if args.json:
                import json

                print(json.dumps(value))
            else:
                from mhost.ctl.table import PRINTERS

                PRINTERS[verb](value)
            sys.stdout.flush()
    return EXIT_OK


def _key_of(state: str) -> dict[str, Any]:
    """The key in a state directory, without a daemon."""
    from pathlib import Path

    from mhost.ctl.ask import RefusedError
    from mhostd.host.identity import identifier_ntop, key_ntop
    from mhostd.host_key import load_identity

    try:
        us = load_identity(Path(state))
    except (OSError, ValueError) as err:
        raise RefusedError(f"key: {err}") from None
    return {
        "key": key_ntop(us.public),
        "identifier": identifier_ntop(us.identifier),
        "locators": [],
    }


def _config_check(path: str) -> int:
    from mhostd.config import ConfigError, parse_config
    from mhostd.init import check_config

    try:
        with open(path, "rb") as file:
            check_config(parse_config(file.read()))
    except (OSError, ConfigError) as err:
        print(f"mhostctl: {path}: {getattr(err, 'strerror', None) or err}", file=sys.stderr)
        return EXIT_REFUSED
    print(f"{path}: ok")
    return EXIT_OK
