import pytest

from mhostd.config import Config, ConfigError, Directory, TunInet, parse_config, tun_address
from mhostd.init import check_config

FULL = """
[ipc]
socket = "ipc:///tmp/m.sock"
admin_socket = "ipc:///tmp/a.sock"
group = "staff"
[tun]
name = "mh1"
mtu = 1400
routes = ["198.51.100.0/24", "2001:db8:1::/48"]
[tun.inet]
address = "10.77.1.1/24"
host_address = "10.77.1.2"
prefixes = ["10.77.0.0/16"]
[tun.inet6]
address = "fd77:1::1/64"
host_address = "fd77:1::2"
[[ethernet]]
device = "eth0"
[ethernet.neighbours]
"testproto:2" = "02:00:00:00:00:0a"
[l3.testproto]
address = "1"
[l3.otherproto]
address = "0:0:0:1"
device = "lo"
[hosts]
robot = ["testproto:2", "10.77.2.1"]
[resolver]
system = false
ttl_s = 60.0
negative_ttl_s = 1.5
[directory]
backend = "etcd"
path = "/srv/directory"
endpoints = ["https://etcd1.example:2379", "https://[2001:db8::1]:2379", "https://192.0.2.1"]
prefix = "fleet/7/"
ca = "/etc/mhostd/ca.pem"
cert = "/etc/mhostd/cert.pem"
key = "/etc/mhostd/key.pem"
user = "mhost"
password_file = "/etc/mhostd/password"
lease_s = 10
[log]
level = "debug"
"""


def tun(text):
    return f'[tun.inet]\naddress = "10.0.0.1/24"\nhost_address = "10.0.0.2"\n{text}'


def test_an_empty_file_is_a_tun_without_addresses():
    assert parse_config("") == Config()
    assert parse_config("").tun.name == "mhost0"


def test_a_tun_that_is_not_enabled_is_none():
    config = parse_config("[tun]\nenable = false\n[l3.testproto]\naddress = '1'\ndevice = 'lo'")
    assert config.tun is None
    assert list(check_config(config).core.devices) == ["lo"]


def test_every_key_is_read():
    config = parse_config(FULL)
    assert (config.ipc.socket, config.ipc.group) == ("ipc:///tmp/m.sock", "staff")
    assert (config.tun.name, config.tun.mtu, len(config.tun.routes)) == ("mh1", 1400, 2)
    assert config.ethernet[0].neighbours == {"testproto:2": "02:00:00:00:00:0a"}
    assert config.l3["otherproto"].device == "lo"
    assert config.hosts == {"robot": ["testproto:2", "10.77.2.1"]}
    assert (config.resolver.system, config.resolver.ttl_s) == (False, 60.0)
    assert config.directory == Directory(
        backend="etcd",
        path="/srv/directory",
        endpoints=[
            "https://etcd1.example:2379",
            "https://[2001:db8::1]:2379",
            "https://192.0.2.1",
        ],
        prefix="fleet/7/",
        ca="/etc/mhostd/ca.pem",
        cert="/etc/mhostd/cert.pem",
        key="/etc/mhostd/key.pem",
        user="mhost",
        password_file="/etc/mhostd/password",
        lease_s=10.0,
    )
    assert config.log.level == "debug"


def test_the_configuration_cannot_be_changed_afterwards():
    with pytest.raises(AttributeError):
        parse_config("").tun = None


REFUSED = [
    ("[tun]\nmtuu = 1", r"tun: Object contains unknown field `mtuu`"),
    ("sockets = 1", r"Object contains unknown field `sockets`"),
    (
        "[[ethernet]]\ndevice = 'e'\nmac = ''",
        r"ethernet\[0\]: .*`mac`|ethernet\[...\]: .*`mac`",
    ),
    ("[tun]\nmtu = 'big'", r"tun\.mtu: Expected `int`, got `str`"),
    ("[tun]\nmtu = 1279", r"tun\.mtu: .*>= 1280"),
    ("[tun]\nmtu = 65536", r"tun\.mtu: .*<= 65535"),
    ("[tun]\nname = 'sixteen-octets-x'", r"tun\.name: .*length <= 15"),
    ("[tun]\nname = ''", r"tun\.name: .*length >= 1"),
    ("[tun]\nname = 'a/b'", r"tun\.name: .*matching regex"),
    ("[log]\nlevel = 'loud'", r"log\.level: Invalid enum value 'loud'"),
    ("[resolver]\nttl_s = 0.5", r"resolver\.ttl_s: "),
    ("[resolver]\nnegative_ttl_s = 0.0", r"resolver\.negative_ttl_s: "),
    ("[directory]\nbackend = 'dns'", r"directory\.backend: Invalid enum value 'dns'"),
    ("[directory]\nlease_s = 1.9", r"directory\.lease_s: .*>= 2"),
    ("[directory]\nlease_s = 3601", r"directory\.lease_s: .*<= 3600"),
    ("[directory]\nprefix = ''", r"directory\.prefix: "),
    ("[directory]\nprefix = 'a b/'", r"directory\.prefix: .*matching regex"),
    ("[directory]\npath = 'here'", r"directory\.path: 'here' is no absolute path"),
    ("[directory]\nkey = 'here'", r"directory\.key: 'here' is no absolute path"),
    ("[directory]\ncert = '/c'", r"directory\.cert: it needs directory\.key"),
    ("[directory]\npassword_file = '/p'", r"directory\.user: it needs .*password_file"),
    ("[directory]\nbackend = 'etcd'", r"directory\.endpoints: name at least one"),
    (
        "[directory]\nendpoints = ['http://a:1', 'etcd:2379']",
        r"directory\.endpoints\[1\]: 'etcd:2379' is no URL .* https://etcd\.example:2379",
    ),
    ("[directory]\nendpoints = ['http://a:1/x']", r"directory\.endpoints\[0\]: "),
    ("[directory]\nendpoints = ['http://u:p@a:1']", r"directory\.endpoints\[0\]: "),
    (
        "[directory]\nendpoints = ['http://a:1']\nca = '/ca'",
        r"directory\.endpoints: http://a:1 has no use for ca and cert",
    ),
    ("[tun", r"at the end of a table declaration"),
    (
        "[tun.inet]\naddress = '10.0.0.1/24'",
        r"tun\.inet: .*missing required field `host_address`",
    ),
    ("[ipc]\nsocket = 'tcp://*:1'", r"ipc\.socket: 'tcp://\*:1' is no `ipc:///path`"),
    ("[ipc]\nadmin_socket = 'ipc://here'", r"ipc\.admin_socket: .* is no `ipc:///path`"),
    (tun("").replace("0.2", "0.1"), r"tun\.inet\.host_address: 10\.0\.0\.1 is `address` too"),
    (
        tun("").replace("0.0.2", "9.0.2"),
        r"tun\.inet\.host_address: .* is not in 10\.0\.0\.0/24",
    ),
    (tun("").replace("0.1/24", "0.1/33"), r"tun\.inet\.address: '33' is not a valid netmask"),
    (tun("").replace("10.0.0.1/24", "fd77::1/64"), r"tun\.inet\.address: "),
    (tun("prefixes = ['10.0.1.1/24']"), r"tun\.inet\.prefixes\[0\]: .* has host bits set"),
    (
        tun("prefixes = ['10.9.0.0/16', 'fd00::/8']"),
        r"tun\.inet\.prefixes\[1\]: fd00::/8 is no IPv4 prefix",
    ),
    ("[tun]\nroutes = ['10.0.0.0/8', 'x']", r"tun\.routes\[1\]: 'x' does not appear"),
    (
        "[[ethernet]]\ndevice = 'e0'\n[[ethernet]]\ndevice = 'e0'",
        r"ethernet\[1\]\.device: e0 is named twice",
    ),
    ("[[ethernet]]\ndevice = 'mhost0'", r"ethernet\[0\]\.device: mhost0 is named twice"),
    (
        "[[ethernet]]\ndevice = 'e0'\nneighbours = {'testproto:2' = '02:00:00:00:00'}",
        r"ethernet\[0\]\.neighbours\.testproto:2: '02:00:00:00:00' is no MAC address",
    ),
    ("[tun]\nenable = false\n[l3.testproto]\naddress = '1'", r"l3\.testproto\.device: .*`lo`"),
    (
        "[l3.testproto]\naddress = '1'\ndevice = 'eth9'",
        r"l3\.testproto\.device: 'eth9' is no configured device; have lo, mhost0",
    ),
]


@pytest.mark.parametrize(("text", "why"), REFUSED, ids=[why for _text, why in REFUSED])
def test_what_is_wrong_is_refused_with_its_path(text, why):
    with pytest.raises(ConfigError, match=why):
        parse_config(text)


# What only a stack can tell; `mhostctl config check` and SIGHUP ask it too.
REFUSED_BY_THE_STACK = [
    ("[l3.ipx]\naddress = '1'", r"l3\.ipx: no such handler; there are testproto, otherproto"),
    ("[l3.testproto]\naddress = 'x'", r"l3\.testproto\.address: 'x' is no testproto address"),
    ("[l3.otherproto]\naddress = '1'", r"l3\.otherproto\.address: '1' is no otherproto"),
    ("[hosts]\nrobot = ['testproto:1']", r"hosts\.robot\[0\]: .*no L3 handler 'testproto'"),
    ("[hosts]\nrobot = ['10.0.0.1', '10.0.0.300']", r"hosts\.robot\[1\]: '10\.0\.0\.300'"),
    ("[hosts]\n'no name' = ['10.0.0.1']", r"hosts\.no name: 'no name' is no host name"),
    ("[hosts]\nrobot = ['host_inet:*']", r"hosts\.robot\[0\]: `\*` is no locator"),
    (
        "[[ethernet]]\ndevice = 'e0'\nneighbours = {'testproto:2' = '02:00:00:00:00:01'}",
        r"ethernet\[0\]\.neighbours\.testproto:2: .*no L3 handler 'testproto'",
    ),
]


@pytest.mark.parametrize(
    ("text", "why"), REFUSED_BY_THE_STACK, ids=[why for _text, why in REFUSED_BY_THE_STACK]
)
def test_what_no_stack_can_be_built_of_is_refused_with_its_path(text, why):
    with pytest.raises(ConfigError, match=why):
        check_config(parse_config(text))


def test_a_good_configuration_builds_a_stack():
    stack = check_config(parse_config(FULL))
    assert list(stack.core.devices) == ["lo", "mh1", "eth0"]
    assert [proto.name for proto in stack.table.protos.values()][-4:] == [
        "inet",
        "inet6",
        "testproto",
        "otherproto",
    ]
    assert stack.table.hosts["robot"].bound[0].address == b"\0\2"


def test_an_address_of_the_tun_is_read_with_its_prefixes():
    read = tun_address(TunInet("10.77.1.1/24", "10.77.1.2", ["10.0.0.0/8", "10.77.1.0/24"]), 4)
    assert read.address == bytes((10, 77, 1, 1))
    assert (read.host_address, read.prefixlen) == ("10.77.1.2", 24)
    assert read.prefixes == ((bytes((10, 77, 1, 0)), 24), (bytes((10, 0, 0, 0)), 8))


def test_an_ipv6_address_of_the_tun_is_read_alike():
    read = tun_address(TunInet("fd77::1/64", "fd77::2"), 6)
    assert (read.address[-1], read.host_address) == (1, "fd77::2")
    assert read.prefixes == ((bytes.fromhex("fd77") + bytes(14), 64),)


def test_a_socket_needs_room_for_the_name_of_the_one_beside_it():
    longest = "ipc:///" + "x" * 99
    assert parse_config(f'[ipc]\nsocket = "{longest}"').ipc.socket == longest
    with pytest.raises(ConfigError, match="path of 101 octets exceeds 100"):
        parse_config(f'[ipc]\nsocket = "{longest}x"')
