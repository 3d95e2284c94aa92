"""Which destinations lie behind an interface without a link."""

import pytest

from mhostd.links import WAYS_MAX, Link, Links

TO, OTHER = bytes((192, 0, 2, 1)), bytes((198, 51, 100, 1))


class Routes:
    """The kernel's: TO over interface 3, all else over 4."""

    def __init__(self):
        self.asked = []

    def __call__(self, family, to, source):
        self.asked.append((family, to, source))
        return 3 if to == TO else 4


@pytest.fixture
def routes():
    return Routes()


@pytest.fixture
def links(routes):
    """Both interfaces have a link."""
    links = Links(routes)
    links.link_changed(Link(3, "eth0", True))
    links.link_changed(Link(4, "eth1", True))
    return links


def way(links, to=TO, scope_id=0, source=b""):
    return links.down_on_way(2 if len(to) == 4 else 10, to, scope_id, source)


def test_while_all_have_a_link_nobody_is_asked(links, routes):
    assert way(links) == ""
    assert routes.asked == []


def test_only_what_is_routed_over_it_is_behind_it(links, routes):
    links.link_changed(Link(3, "eth0", False))
    assert (way(links), way(links, OTHER)) == ("eth0", "")


@pytest.mark.parametrize("then", [Link(3, "eth0", True), Link(3, "eth0", False, gone=True)])
def test_until_it_has_a_link_again_or_is_gone(links, then):
    links.link_changed(Link(3, "eth0", False))
    links.link_changed(then)
    assert way(links) == ""


def test_a_route_is_asked_for_once_until_routes_change(links, routes):
    links.link_changed(Link(4, "eth1", False))
    assert [way(links), way(links), way(links, source=OTHER)] == ["", "", ""]
    assert routes.asked == [(2, TO, b""), (2, TO, OTHER)]
    links.routes_changed()
    way(links)
    assert len(routes.asked) == 3


def test_a_link_local_address_names_its_interface(links, routes):
    links.link_changed(Link(3, "eth0", False))
    near = bytes.fromhex("fe80") + bytes(13) + b"\1"
    assert (way(links, near, 3), way(links, near, 4)) == ("eth0", "")
    assert routes.asked == []


@pytest.mark.parametrize("to", [bytes((224, 0, 0, 1)), bytes.fromhex("ff02") + bytes(14)])
def test_a_multicast_address_goes_where_its_socket_says(links, routes, to):
    links.link_changed(Link(4, "eth1", False))
    assert way(links, to) == ""


def test_a_bounded_number_of_routes_is_remembered(links, routes):
    links.link_changed(Link(3, "eth0", False))
    for i in range(WAYS_MAX + 1):
        way(links, i.to_bytes(4, "big"))
    assert len(links._ways) == WAYS_MAX
    way(links, bytes(4))  # the oldest, forgotten
    assert len(routes.asked) == WAYS_MAX + 2
