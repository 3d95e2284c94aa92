"""mhost.h and the C library's own numbers are those of mhostd/uapi.py."""

import socket
import subprocess
from pathlib import Path

import pytest

from mhostd import uapi

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = ["-I", ROOT / "clients/c", "-I", ROOT / "mhostd/native"]

# What C says, and what it is to be.
NUMBERS = {
    "AF_MHOST": uapi.AF_MHOST,
    "AF_TESTPROTO": uapi.AF_TESTPROTO,
    "AF_OTHERPROTO": uapi.AF_OTHERPROTO,
    "SOL_MHOST": uapi.SOL_MHOST,
    "MHOST_RECVPKTINFO": uapi.MHOST_RECVPKTINFO,
    "MHOST_PKTINFO": uapi.MHOST_PKTINFO,
    "MHOST_RECVERR": uapi.MHOST_RECVERR,
    "MHOST_POLICY": uapi.MHOST_POLICY,
    "MHOST_MTU": uapi.MHOST_MTU,
    "MHOST_FRESHNESS": uapi.MHOST_FRESHNESS,
    "MHOST_POLICY_HOST": uapi.MHOST_POLICY_HOST,
    "MHOST_POLICY_FAILOVER": uapi.MHOST_POLICY_FAILOVER,
    "MHOST_POLICY_DUPLICATE": uapi.MHOST_POLICY_DUPLICATE,
    "UAPI_VERSION": uapi.VERSION,
    "DATA_MAGIC": uapi.DATA_MAGIC,
    "DATA_HLEN": uapi.DATA_HLEN,
    "OPTION_MAX": uapi.OPTION_MAX,
    "ADDRESS_MAX": uapi.ADDRESS_MAX,
    "HOST_NAME_MAX_": uapi.HOST_NAME_MAX,
    "ZMTP_MESSAGE_MAX": uapi.MESSAGE_MAX,
    "RECORD_HLEN": uapi.RECORD_HLEN,
    "RECORD_ALIGN": uapi.RECORD_ALIGN,
    "RECORD_REPLY": uapi.RECORD_REPLY,
    "RECORD_CONNECTED": uapi.RECORD_CONNECTED,
    "RECORD_CONTROL": uapi.RECORD_CONTROL,
    "RECORD_PAYLOAD_MAX": uapi.UDP_PAYLOAD_MAX,
    "RECORD_CONTROL_MAX": uapi.CONTROL_MAX,
    "LANE_OCTETS": uapi.LANE_OCTETS,
    "RING_OCTETS": uapi.LANE_RING,
    "sizeof(struct sockaddr_mhost)": 16,
    "offsetof(struct sockaddr_mhost, smh_family)": 0,
    "offsetof(struct sockaddr_mhost, smh_port)": 2,
    "offsetof(struct sockaddr_mhost, smh_id_no)": 4,
    "offsetof(struct sockaddr_mhost, smh_opaque)": 8,
}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What a C program says they are."""
    directory = tmp_path_factory.mktemp("mhost_h")
    lines = "".join(f'\tprintf("%s=%lld\\n", "{n}", (long long)({n}));\n' for n in NUMBERS)
    source = directory / "numbers.c"
    source.write_text(
        '#include <stdio.h>\n#include "mhost.h"\n#include "request.h"\n#include "session.h"\n'
        "#include <stddef.h>\n"
        f'int main(void)\n{{\n{lines}\tprintf("default=%s\\n", DEFAULT_SOCKET);\n}}\n'
    )
    program = directory / "numbers"
    subprocess.run(
        ["cc", "-std=c11", "-D_GNU_SOURCE", *INCLUDE, "-o", program, source], check=True
    )
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number(said, name):
    assert int(said[name]) == NUMBERS[name]


def test_the_default_socket(said):
    assert said["default"] == uapi.DEFAULT_SOCKET


def test_af_mhost_is_free_in_linux():
    """27 is AF_IB, which has no sockets of its own."""
    assert uapi.AF_MHOST not in {f.value for f in socket.AddressFamily} - {27}


@pytest.mark.parametrize(
    "compiler", [["cc", "-std=c11"], ["cc", "-std=c99"], ["c++", "-std=c++11", "-x", "c++"]]
)
def test_the_header_stands_alone(tmp_path, compiler):
    if (
        compiler[0] == "c++"
        and subprocess.run(["which", "c++"], capture_output=True).returncode
    ):
        compiler = ["cc", "-std=c11"]  # there is no C++ here; gcc alone is installed
    source = tmp_path / "alone.c"
    source.write_text(
        "#include <mhost.h>\nint main(void) { return sizeof(struct sockaddr_mhost) != 16; }\n"
    )
    argv = [
        *compiler,
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pedantic",
        *INCLUDE,
        "-fsyntax-only",
        source,
    ]
    subprocess.run(argv, check=True)
