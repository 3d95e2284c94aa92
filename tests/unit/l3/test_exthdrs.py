"""Extension headers: chains as scapy writes them, and any octets at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhostd.errors import DropReason
from mhostd.l3.exthdrs import (
    FRAGMENT,
    HOPOPTS,
    OPTIONS_MAX,
    At,
    Problem,
    ip6_parse_exthdrs,
    ipv6_skip_exthdr,
    ipv6frag_thdr_truncated,
)

US, PEER = "fd77::1", "fd77::2"


def first(packet):
    return At(packet[6], 40, 6)


@pytest.fixture
def chains(scapy):
    """Packets by name, and where their UDP header is: (octet, octet that names it)."""
    header = scapy.IPv6(src=PEER, dst=US)
    hop, dest = scapy.IPv6ExtHdrHopByHop, scapy.IPv6ExtHdrDestOpt
    udp = scapy.UDP(dport=9) / b"hello"
    return {
        "nothing": (header / udp, 40, 6),
        "hop-by-hop": (header / hop() / udp, 48, 40),
        "both options": (header / hop() / dest() / udp, 56, 48),
        "routing, used up": (header / scapy.IPv6ExtHdrRouting(segleft=0) / udp, 48, 40),
    }


@pytest.mark.parametrize("name", ["nothing", "hop-by-hop", "both options", "routing, used up"])
def test_a_chain_of_scapy_leads_to_its_udp_header(chains, name):
    packet, offset, nhoff = chains[name]
    octets = bytes(packet)
    assert ip6_parse_exthdrs(octets, first(octets)) == At(17, offset, nhoff)
    assert ipv6_skip_exthdr(octets) == At(17, offset, nhoff)
    assert octets[offset + 8 :] == b"hello"


def test_a_fragment_header_ends_the_walk_but_not_the_look(scapy):
    packet = scapy.IPv6(src=PEER, dst=US) / scapy.IPv6ExtHdrFragment(m=1, nh=17) / bytes(8)
    octets = bytes(packet)
    assert ip6_parse_exthdrs(octets, first(octets)) == At(FRAGMENT, 40, 6)
    assert ipv6_skip_exthdr(octets) == At(17, 48, 40)
    later = bytes(scapy.IPv6() / scapy.IPv6ExtHdrFragment(offset=1, nh=17) / bytes(8))
    assert ipv6_skip_exthdr(later) == At(FRAGMENT, 40, 6)


def test_hop_by_hop_is_a_header_only_as_the_first(scapy):
    packet = scapy.IPv6() / scapy.IPv6ExtHdrDestOpt() / scapy.IPv6ExtHdrHopByHop()
    octets = bytes(packet / scapy.UDP())
    assert ip6_parse_exthdrs(octets, first(octets)) == At(HOPOPTS, 48, 40)


def options(*octets):
    """An IPv6 packet with one destination options header of these, and UDP."""
    data = bytes.fromhex("".join(octets))
    assert len(data) % 8 == 6
    return bytes(6) + b"\x3c" + bytes(33) + bytes((17, len(data) // 8)) + data + bytes(8)


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        ("1e04 00000000", None),
        ("5e04 00000000", Problem(DropReason.IP_INHDR)),
        ("9e04 00000000", Problem(DropReason.IP_INHDR, 2, 42)),
        ("de04 00000000", Problem(DropReason.IP_INHDR, 2, 42)),
        ("1e00 0000 9e00", Problem(DropReason.IP_INHDR, 2, 46)),
        ("0100 0100 1e00", None),
        ("0106 0000 0000 0000 1e04 0000 0000", Problem(DropReason.IP_INHDR)),
        ("0105 0000 0000 00 1e05 0000 0000 00", None),
        ("1e05 0000 0000", Problem(DropReason.IP_INHDR)),
        ("0000 0000 001e", Problem(DropReason.IP_INHDR)),
        ("1e00" * OPTIONS_MAX + "0104 0000 0000", None),
        ("1e00" * (OPTIONS_MAX + 1) + "0102 0000", Problem(DropReason.IP_INHDR)),
    ],
)
def test_options_are_treated_as_their_type_says(octets, problem):
    packet = options(octets)
    end = 42 + len(bytes.fromhex(octets))
    assert ip6_parse_exthdrs(packet, first(packet)) == (problem or At(17, end, 40))


@given(octets=st.binary(min_size=40, max_size=200), number=st.sampled_from([0, 43, 44, 51, 60]))
def test_no_octets_make_it_raise(octets, number):
    packet = octets[:6] + bytes([number]) + octets[7:]
    at = ip6_parse_exthdrs(packet, first(packet))
    if isinstance(at, At):
        assert at.number not in (43, 60)
        assert 40 <= at.offset <= len(packet)
        assert packet[at.nhoff] == at.number
    else:
        assert 0 <= at.pointer < len(packet)
    found = ipv6_skip_exthdr(packet)
    assert found is None or packet[found.nhoff] == found.number
    assert isinstance(ipv6frag_thdr_truncated(packet), bool)


@given(octets=st.binary(min_size=40, max_size=120), cut=st.integers(40, 120))
def test_what_the_beginning_says_the_rest_does_not_change(octets, cut):
    """The look gives the same answer for a packet that is quoted in part, or none."""
    part = ipv6_skip_exthdr(octets[:cut])
    assert part in (None, ipv6_skip_exthdr(octets))
