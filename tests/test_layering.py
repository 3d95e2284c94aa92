"""Who may import whom, and who may touch the outside world (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mhostd.init import PLUG_INS

ROOT = Path(__file__).resolve().parents[1]

# A module imports only from lower ranks. `mhostd` itself has the version and nothing else.
TABLE = {
    0: "errors uapi cmsg native._pure native._pure_shim native._native l3 udp ipc host "
    "host.identity",
    1: "native skb sock options udp.header l3.address host.noise",
    2: "structs silence faults links ip_cmsg host.wire",
    3: "dev mhost_table udp.udp_table l3.exthdrs l3.icmp l3.icmp_limit l3.ip_options l3.pmtu "
    "host.handshake host.waiting host.path host.session",
    4: "sockopt l3.wrapper l3.icmpv4 l3.icmpv6 l3.reassembly udp.udp_mhost host.choose",
    5: "l3.inet l3.inet6 l3.host_inet l3.testproto l3.otherproto af_mhost config host.paths "
    "host.directory host.etcd host.uplinks",
    6: "host.association",
    7: "host.traffic",
    8: "host.peer",
    9: "host.hosts",
    10: "host.overlay",
    11: "host.whereabouts directory_file directory_etcd etcd_gateway "
    "fast_peers tun eth lo host_udp host_key netlink resolver name_service privileges lock "
    "poller ipc.admin ipc.door ipc.show_paths",
    12: "fast ipc.events ipc.show",
    13: "ipc.pump",
    14: "init directories ipc.calls ipc.handover",
    15: "main",
    16: "__main__",
}
RANKS = {f"mhostd.{name}": rank for rank, names in TABLE.items() for name in names.split()}
RANKS["mhostd"] = -1

# Descriptors, clocks and what opens them; a module that is not here is free to all.
OUTSIDE = {
    "socket": {
        "eth",
        "host_udp",
        "ipc.door",
        "ipc.handover",
        "netlink",
        "name_service",
        "lock",
        "main",
        "privileges",
    },
    "select": {"poller", "privileges"},
    "os": {
        "host_key",
        "directory_file",
        "tun",
        "eth",
        "host_udp",
        "lock",
        "ipc.calls",
        "ipc.door",
        "ipc.events",
        "ipc.handover",
        "ipc.show",
        "main",
        "privileges",
    },
    "time": {"directory_file", "directory_etcd", "ipc.show", "main"},
    "asyncio": {
        "directories",
        "directory_etcd",
        "etcd_gateway",
        "name_service",
        "ipc.show",
        "main",
    },
    "pathlib": {
        "host_key",
        "directories",
        "directory_file",
        "lock",
        "netlink",
        "ipc.door",
        "ipc.events",
        "ipc.handover",
        "main",
        "privileges",
    },
    "signal": {"main"},
    "resource": {"ipc.pump", "host_udp", "ipc.door", "main"},
    "threading": {"directory_file", "name_service"},
    "fcntl": {"directory_file", "eth", "lock", "tun"},
    "httpx": {"etcd_gateway"},
    "zmq": {"ipc.door", "ipc.events", "main"},
    "uvloop": {"main"},
    "pytun": {"tun"},
    "pyroute2": {"tun", "netlink"},
    "importlib": {"init"},  # the plug-ins of PLUG_INS, by name
    **{name: set() for name in ("dpkt", "ctypes", "concurrent", "subprocess")},
}
# What is no descriptor and no clock, where `os` is out of bounds otherwise.
OS_NAMES = {
    "mhostd.native": {"environ"},
    "mhostd.init": {"urandom"},
    "mhostd.udp.udp_mhost": {"strerror"},
}

# `mhostctl config check`, `mhostctl key --state`
CTL_MAY = {
    "mhostd",
    "mhostd.config",
    "mhostd.init",
    "mhostd.host_key",
    "mhostd.host.identity",
}


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that a source imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in RANKS else base


def violations(module: str, source: str) -> list[str]:
    """What a module of mhostd imports and may not."""
    if module not in RANKS:
        return [f"{module} has no rank"]
    tree = ast.parse(source)
    found = []
    for name in imports(tree):
        top = name.partition(".")[0]
        if name.startswith("."):
            found.append(f"{module} imports {name}, which is relative")
        elif top == "mhostd":
            if name not in RANKS:
                found.append(f"{module} imports {name}, which has no rank")
            elif RANKS[name] >= RANKS[module]:
                found.append(f"{module} imports {name}, which is not below it")
            elif {_folder(module), _folder(name)} == {"l3", "udp"}:
                found.append(f"{module} imports {name}: l3 and udp do not know each other")
        elif not _may_touch(module, top, tree):
            found.append(f"{module} imports {name}, which is the outside world")
    found += [
        f"{module} imports {name} for the type checker only"
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for name in imports(node)
        if name.partition(".")[0] == "mhostd"
    ]
    return found


def _folder(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 2 else ""


def _may_touch(module: str, top: str, tree: ast.AST) -> bool:
    allowed = OUTSIDE.get(top)
    if allowed is None or module.removeprefix("mhostd.") in allowed:
        return True
    return top == "os" and _os_names(tree) <= OS_NAMES.get(module, set())


def _os_names(tree: ast.AST) -> set[str]:
    """What a source takes from `os`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "os":
            names.add(node.attr)
    return names


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = sorted((ROOT / "mhostd").rglob("*.py"))
CLIENTS = sorted((ROOT / "clients" / "python" / "mhost").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=module_of)
def test_a_module_imports_only_what_is_below_it(path):
    assert violations(module_of(path), path.read_text()) == []


def test_the_table_of_the_documentation_is_this_one():
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.partition("## Ranks")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", section, re.MULTILINE)
    assert {int(rank): names.split(", ") for rank, names in rows} == {
        rank: names.split() for rank, names in TABLE.items()
    }


def test_every_rank_belongs_to_a_module():
    assert {name for name in RANKS if name != "mhostd.native._native"} <= {
        module_of(path) for path in MODULES
    }


@pytest.mark.parametrize("name", PLUG_INS)
def test_what_init_loads_by_name_is_below_it(name):
    assert RANKS[f"mhostd.l3.{name}"] < RANKS["mhostd.init"]


@pytest.mark.parametrize("path", CLIENTS, ids=lambda path: path.stem)
def test_a_client_imports_only_what_both_sides_share(path):
    allowed = {"mhostd.uapi", "mhostd.cmsg"} | (CTL_MAY if path.parent.name == "ctl" else set())
    of_daemon = {
        name
        for name in imports(ast.parse(path.read_text()))
        if name.partition(".")[0] == "mhostd"
    }
    assert of_daemon <= allowed


@pytest.mark.parametrize("name", PLUG_INS)
def test_an_author_of_l3_needs_the_wrapper_and_no_layer_beside_it(name):
    source = (ROOT / "mhostd" / "l3" / f"{name}.py").read_text()
    of_daemon = {n for n in imports(ast.parse(source)) if n.startswith("mhostd")}
    assert of_daemon <= {"mhostd.l3.wrapper", "mhostd.uapi", "mhostd.native"}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mhostd.dev", "from mhostd.af_mhost import AfMhost"),
        ("mhostd.dev", "import mhostd.init"),
        ("mhostd.dev", "def later():\n    from mhostd import config"),
        ("mhostd.dev", "from mhostd.mhost_table import Host"),  # the same rank
        ("mhostd.dev", "from .skb import SkBuff"),
        ("mhostd.dev", "from mhostd.nowhere import x"),
        ("mhostd.dev", "import socket"),
        ("mhostd.dev", "from os import read"),
        ("mhostd.udp.udp_mhost", "import os\nos.read(0, 1)"),
        ("mhostd.af_mhost", "import time"),
        ("mhostd.l3.inet", "from mhostd.udp.header import UdpHeader"),
        ("mhostd.udp.udp_mhost", "from mhostd.l3.address import inet_pton"),
        ("mhostd.main", "import dpkt"),
        ("mhostd.main", "from importlib import import_module"),
        ("mhostd.main", "import ctypes.util"),
        (
            "mhostd.init",
            "if typing.TYPE_CHECKING:\n    from mhostd.dev import NetCore",
        ),
        ("mhostd.brand_new", ""),
    ],
)
def test_the_rule_bites(module, source):
    assert len(violations(module, source)) == 1


def test_what_is_below_is_let_through():
    assert (
        violations("mhostd.dev", "from mhostd import __version__, native\nimport errno") == []
    )
    assert violations("mhostd.udp.udp_mhost", "import os\nos.strerror(1)") == []
