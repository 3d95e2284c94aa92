"""Where mhostd does not do what Linux does, and why: the reason, then what it concerns."""

_GROUPS = {
    "mhostd has no TCP: RFC 1122 section 3.2.2.1, protocol unreachable; RFC 4443 section 3.4": {
        "protocol 6 (IPv4)": {"wire"},
        "TCP to a closed port (IPv4)": {"wire"},
        "next header 6 (IPv6)": {"wire"},
        "hop-by-hop, next header 6 (IPv6)": {"wire"},
        "destination, next header 6 (IPv6)": {"wire"},
    },
    "broadcast and multicast belong to the host kernel (docs/architecture.md); our address "
    "is the only one (RFC 1122 section 3.2.1.3, RFC 4291 section 2.8)": {
        "to limited broadcast (IPv4)": {"delivered"},
        "to directed broadcast (IPv4)": {"delivered"},
        "to all hosts (IPv4)": {"delivered"},
        "to all nodes (IPv6)": {"delivered"},
        "echo to all nodes (IPv6)": {"wire"},
        "error to all nodes (IPv6)": {"errors"},
        "hop-by-hop: unknown, to be reported, to all nodes (IPv6)": {"wire"},
        "destination: unknown, to be reported, to all nodes (IPv6)": {"wire"},
    },
    "a port whose socket is connected to another is not closed (RFC 1122 section 4.1.3.1): "
    "the sender's translation would pass it over for the flow that it has": {
        "from another port of that peer (IPv4)": {"wire"},
        "from another host to a connected socket (IPv4)": {"wire"},
        "from another port of that peer (IPv6)": {"wire"},
        "from another host to a connected socket (IPv6)": {"wire"},
    },
    "the port table gives the error of another flow to a connected socket of that port": {
        "error quotes a packet to another host (IPv4)": {"errors"},
        "too big quotes a packet to another host (IPv4)": {"errors"},
        "error quotes a packet to another port (IPv4)": {"errors"},
        "too big quotes a packet to another port (IPv4)": {"errors"},
        "error quotes a packet to a broadcast (IPv4)": {"errors"},
        "too big quotes a packet to a broadcast (IPv4)": {"errors"},
        "error quotes a packet to another host (IPv6)": {"errors"},
        "too big quotes a packet to another host (IPv6)": {"errors"},
        "error quotes a packet to another port (IPv6)": {"errors"},
        "too big quotes a packet to another port (IPv6)": {"errors"},
        "error quotes a packet to a group (IPv6)": {"errors"},
        "too big quotes a packet to a group (IPv6)": {"errors"},
    },
    "an error is about a packet of ours only if it has our source (RFC 1122 section 3.2.2, "
    "RFC 4443 section 2.4 (d)); Linux asks a wildcard socket alone": {
        "error quotes another's packet (IPv4)": {"errors"},
        "too big quotes another's packet (IPv4)": {"errors"},
        "error quotes a packet from a broadcast (IPv4)": {"errors"},
        "too big quotes a packet from a broadcast (IPv4)": {"errors"},
        "error quotes another's packet (IPv6)": {"errors"},
        "too big quotes another's packet (IPv6)": {"errors"},
    },
    "options of fragments are checked, and are not in the answer to the datagram (RFC 1122 "
    "section 3.2.2.6 says SHOULD)": {
        "echo of 2000 octets with record route (IPv4)": {"wire"},
    },
    "an option that is not known is ignored (RFC 1122 section 3.2.1.8); Linux knows CIPSO "
    "and has no domain of interpretation configured": {
        "option CIPSO without a tag (IPv4)": {"wire", "delivered"},
    },
    "Linux takes what follows UDP's length for no part of the packet; RFC 792 wants the "
    "packet quoted as it came": {
        "UDP length 12, closed port (IPv4)": {"wire"},
    },
    "a length of 0 is for jumbograms (RFC 2675 section 4), of which none can come": {
        "UDP length 0 (IPv6)": {"delivered"},
    },
    "nobody can answer the unspecified address (RFC 4291 section 2.5.2); IPv4 refuses "
    "0.0.0.0 as well (RFC 1122 section 3.2.1.3)": {
        "from unspecified (IPv6)": {"delivered"},
        "echo from unspecified (IPv6)": {"wire"},
    },
    "our prefix is a route, not a link: its subnet-router anycast address is the router's "
    "(RFC 4291 section 2.6.1), for Linux its own": {
        "from the subnet router, closed port (IPv6)": {"wire"},
    },
    "a routing header with no segments left is ignored, one with some is a parameter "
    "problem (RFC 8200 section 4.4); Linux drops types 3 and 4 while it has them off": {
        "routing header of type 3, 0 left (IPv6)": {"delivered"},
        "routing header of type 3, 1 left (IPv6)": {"wire"},
        "routing header of type 4, 0 left (IPv6)": {"delivered"},
        "routing header of type 4, 1 left (IPv6)": {"wire"},
    },
    "a packet too big is believed if it quotes our address and an upper layer (RFC 8201 "
    "section 4); Linux wants a socket with that port as well": {
        "too big quotes a packet from a closed port (IPv4)": {"mtu"},
        "too big quotes a packet from a closed port (IPv6)": {"mtu"},
    },
}
DIFFERENCES = {name: parts for group in _GROUPS.values() for name, parts in group.items()}
