"""What mhostctl prints for people: the same values as with --json, aligned."""

from __future__ import annotations

TYPE_CHECKING = False  # for type checkers it is true; typing takes 10 ms to load
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Row = dict[str, Any]


def print_rows(rows: list[Row], columns: Iterable[tuple[str, str]]) -> None:
    """Print one line for each row under a head; columns are (head, key)."""
    heads, keys = zip(*columns, strict=True)
    lines = [heads, *(tuple(_cell(row[key]) for key in keys) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def print_status(status: Row) -> None:
    """Print what `ip` and `systemctl status` users look for, warnings last."""
    print(f"mhostd {status['version']}  pid {status['pid']}  up {status['uptime_s']:.0f} s")
    print(
        f"cpu {status['cpu_s']:.2f} s  memory {status['rss_kib'] / 1024:.1f} MiB  "
        f"native {status['native']}  sockets {status['sockets']}  hosts {status['hosts']}"
    )
    columns = ["name", "kind", "up", "mtu", "neighbours"]
    print_rows(status["devices"], [(key.upper(), key) for key in columns])
    for warning in status["warnings"]:
        print(f"warning: {warning}")


def print_hosts(hosts: list[Row]) -> None:
    """Print one line for each locator, in the order of preference."""
    rows = [
        {
            "host": host["name"] if i == 0 else "",
            "source": host["source"] if i == 0 else "",
            "state": "ok" if loc["usable"] else loc["error"] or "no route",
            **loc,
        }
        for host in hosts
        for i, loc in enumerate(host["locators"])
    ]
    columns = ["host", "locator", "l3", "state", "retry_s", "source"]
    print_rows(rows, [(key.upper(), key) for key in columns])
    identities = [
        {"host": host["name"], **host["identity"]} for host in hosts if host["identity"]
    ]
    if identities:
        print()
        columns = ["host", "identifier", "association", "policy", "path", "payload_max"]
        print_rows(identities, [(key.upper(), key) for key in columns])


def print_key(key: Row) -> None:
    """Print the key alone, as `hosts add --key` takes it."""
    print(key["key"])


def print_paths(paths: list[Row]) -> None:
    """Print one line for each path, the one that is taken marked."""
    for row in paths:
        row["way"] = (
            f"{'*' if row['active'] else ' '}{row['l3']} {row['device'] or ''}".rstrip()
        )
        row["loss"] = f"{100 * row['loss']:.1f}%"
    columns = ["host", "way", "source", "locator", "state", "rtt_ms", "loss", "pmtu", "reason"]
    print_rows(paths, [(key.upper(), key) for key in columns])
    switches = {
        row["host"]: f"{row['last_switch_s']:.1f} s ago: {row['last_switch_cause']}"
        for row in paths
        if row["last_switch_s"] is not None
    }
    for host, text in switches.items():
        print(f"{host}: last switch {text}")


def print_explain(host: Row) -> None:
    """Print the candidates of a host, the best first, and why each is not taken."""
    print(f"{host['host']}: {host['association'] or 'a plain peer, without an association'}")
    for row in host["candidates"]:
        where = f"{row['source']} > {row['locator']}" if "source" in row else row["locator"]
        print(f"{'*' if row['active'] else ' '} {row['l3'] or '-'}  {where}  {row['reason']}")
    for origin, locators in host.get("hints", {}).items():
        print(f"  {origin} says: {', '.join(locators) or 'nothing'}")
    if host.get("last_switch"):
        print(f"  last switch: {host['last_switch']['cause']}")


def print_sockets(sockets: list[Row]) -> None:
    """Print one line for each socket, as `ss -uap` does."""
    for row in sockets:
        row["local"] = f"{row['local'] or '-'} {row['port'] or ''}".strip()
        row["peer"] = f"{row['peer'] or '-'} {row['peer_port'] or ''}".strip()
        row["process"] = f"{row['program']},{row['pid']}"
    columns = ["socket", "lane", "recv_q", "rcvbuf", "local", "peer", "process"]
    columns += ["rx_datagrams", "tx_datagrams", "rx_drops"]
    print_rows(sockets, [(key.upper(), key) for key in columns])


def print_counters(counters: dict[str, dict[str, int]]) -> None:
    """Print one line for each counter that is not zero."""
    rows = [
        {"where": where, "counter": counter, "value": value}
        for where, values in counters.items()
        for counter, value in sorted(values.items())
        if value
    ]
    print_rows(rows, [("WHERE", "where"), ("COUNTER", "counter"), ("VALUE", "value")])


def print_drops(drops: dict[str, int]) -> None:
    """Print one line for each reason that occurred."""
    rows = [{"reason": reason, "count": count} for reason, count in drops.items() if count]
    print_rows(rows, [("REASON", "reason"), ("COUNT", "count")])


def print_l3(handlers: list[Row]) -> None:
    """Print one line for each registered L3 handler."""
    columns = ["number", "name", "family", "addresses", "device", "up", "mtu", "own_udp"]
    rows = [{**row, "addresses": row["addresses"] or row["host_addresses"]} for row in handlers]
    print_rows(rows, [(key.upper(), key) for key in columns])


def print_routes(routes: list[Row]) -> None:
    """Print one line for each prefix."""
    print_rows(routes, [(key.upper(), key) for key in ("family", "prefix", "l3", "device")])


PRINTERS: dict[str, Callable[[Any], None]] = {
    "status": print_status,
    "sockets": print_sockets,
    "hosts": print_hosts,
    "l3": print_l3,
    "routes": print_routes,
    "counters": print_counters,
    "drops": print_drops,
    "key": print_key,
    "paths": print_paths,
    "explain": print_explain,
}


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(str, value)) or "-"
    text = str(value)  # names come from applications: nothing of them moves the cursor
    return text if text.isprintable() else ascii(text)
