"""Who may ask etcd: certificates on both sides, and users with passwords."""

import base64
import datetime
import ipaddress
import logging

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mhostd.config import ConfigError

A = "2001:20::a"


def b64(text):
    return base64.b64encode(text.encode()).decode()


class Authority:
    """A CA, and what it has signed, as files."""

    def __init__(self, folder):
        folder.mkdir()
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        builder = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self._write("ca", builder, self._key)

    def _builder(self, name, key):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def _write(self, stem, builder, key):
        certificate = builder.sign(self._key, hashes.SHA256())
        pem = serialization.Encoding.PEM
        (self.folder / f"{stem}.pem").write_bytes(certificate.public_bytes(pem))
        octets = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.folder / f"{stem}.key").write_bytes(octets)

    def sign(self, stem, address="127.0.0.1"):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, stem)])
        # etcd's gateway asks its own member with the server's certificate, as a client.
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        alt = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = self._builder(name, key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        self._write(stem, builder.add_extension(alt, critical=False), key)
        return {
            "ca": str(self.folder / "ca.pem"),
            "cert": str(self.folder / f"{stem}.pem"),
            "key": str(self.folder / f"{stem}.key"),
        }


def test_certificates_are_asked_for_on_both_sides(make_etcd, run, tmp_path):
    ours, strangers = Authority(tmp_path / "ours"), Authority(tmp_path / "strangers")
    ours.sign("server")
    good, wrong = ours.sign("host"), strangers.sign("host")
    etcd = make_etcd(ours.folder)

    async def scenario(fleet):
        one, two = fleet.open(etcd, **good), fleet.open(etcd, **good)
        said = []
        two.watch(A, said.append)
        one.put(fleet.record(), 60)
        await fleet.until(lambda: said[-1:] == [fleet.record()])
        refused = [
            fleet.open(etcd, **wrong),
            fleet.open(etcd, **{**good, "ca": wrong["ca"]}),  # it is not our etcd
            fleet.open(etcd, **{**wrong, "ca": good["ca"]}),  # we are none of its hosts
            fleet.open(etcd, ca=good["ca"]),
        ]
        for one in refused:
            one.put(fleet.record(9), 60)
        await fleet.until(lambda: all(one.state().startswith("etcd: ") for one in refused))
        assert "certificate verify failed" in refused[0].state().replace("_", " ").lower()
        assert await fleet.get(two) == fleet.record()

    run(scenario)


PASSWORD = "correct horse"


def enable_auth(etcd):
    etcd.call("auth/user/add", name="root", password="root")
    etcd.call("auth/user/grant", user="root", role="root")
    etcd.call("auth/role/add", name="hosts")
    permission = {"permType": "READWRITE", "key": b64("mhost/"), "range_end": b64("mhost0")}
    etcd.call("auth/role/grant", name="hosts", perm=permission)
    etcd.call("auth/user/add", name="mhost", password=PASSWORD)
    etcd.call("auth/user/grant", user="mhost", role="hosts")
    etcd.call("auth/enable")


def root(etcd):
    return etcd.call("auth/authenticate", name="root", password="root")["token"]


@pytest.fixture
def user(tmp_path):
    """The keys of the configuration for a user with this password."""

    def make(password=PASSWORD):
        path = tmp_path / "password"
        path.write_text(password + "\n")
        return {"user": "mhost", "password_file": str(path)}

    return make


def test_a_user_with_a_password(etcd, run, user, caplog):
    enable_auth(etcd)

    async def scenario(fleet):
        ours, nobody = fleet.open(etcd, **user()), fleet.open(etcd)
        wrong = fleet.open(etcd, **user("wrong"))
        said = []
        ours.watch(A, said.append)
        ours.put(fleet.record(), 60)
        nobody.put(fleet.record(8), 60)
        wrong.put(fleet.record(9), 60)
        await fleet.until(lambda: said[-1:] == [fleet.record()])
        await fleet.until(lambda: "user name is empty" in nobody.state())
        await fleet.until(lambda: "authentication failed" in wrong.state())
        elsewhere = fleet.open(etcd, **user(), prefix="others/")
        elsewhere.put(fleet.record(), 60)
        await fleet.until(lambda: "permission denied" in elsewhere.state())
        assert await fleet.get(ours) == fleet.record()

    run(scenario)
    assert PASSWORD not in caplog.text


def test_a_token_that_is_no_longer_good_is_replaced(etcd, run, user, caplog):
    enable_auth(etcd)
    caplog.set_level(logging.WARNING)

    async def scenario(fleet):
        ours = fleet.open(etcd, **user())
        said = []
        ours.watch(A, said.append)
        ours.put(fleet.record(1), 60)
        await fleet.until(lambda: said[-1:] == [fleet.record(1)])
        token = ours._cluster._token
        # A change to any user; then a member that knows no token of before.
        etcd.call("auth/user/add", name="another", password="x", token=root(etcd))
        ours.put(fleet.record(2), 60)
        await fleet.until(lambda: said[-1:] == [fleet.record(2)])
        etcd.restart()
        ours.put(fleet.record(3), 60)
        await fleet.until(lambda: said[-1:] == [fleet.record(3)])
        assert ours._cluster._token != token
        ours._cluster._token = "nonsense.1"
        assert await fleet.get(ours) == fleet.record(3)
        ours._cluster._token = "nonsense.1"
        cancelled = []
        other = fleet.open(etcd, **user())
        other._cluster._token = "nonsense.1"
        other.watch(A, cancelled.append)
        await fleet.until(lambda: cancelled == [fleet.record(3)])
        ours.put(fleet.record(4), 60)
        await fleet.until(lambda: cancelled[-1:] == [fleet.record(4)])

    run(scenario)


def test_authentication_is_enabled_under_way(etcd, run, user):
    async def scenario(fleet):
        ours = fleet.open(etcd, **user())
        said = []
        ours.watch(A, said.append)
        ours.put(fleet.record(1), 60)
        await fleet.until(lambda: said[-1:] == [fleet.record(1)])
        enable_auth(etcd)
        ours.put(fleet.record(2), 60)
        await fleet.until(lambda: etcd_has(etcd, fleet.record(2)))
        etcd.restart()
        ours.put(fleet.record(3), 60)
        await fleet.until(lambda: said[-1:] == [fleet.record(3)])

    run(scenario)


def etcd_has(etcd, record):
    answer = etcd.call("kv/range", key=b64(f"mhost/{A}"), token=root(etcd))
    return base64.b64decode(answer["kvs"][0]["value"]) == record.encode()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ca": "/nowhere/ca.pem"}, "directory: /nowhere/ca.pem.*: no such file"),
        ({"cert": __file__, "key": __file__}, "directory: .*PEM"),
        ({"user": "u", "password_file": "/nowhere/p"}, "directory.password_file: .*nowhere"),
    ],
)
def test_files_that_cannot_be_read_are_named(make_etcd, run, change, why):
    etcd = make_etcd(start=False)

    async def scenario(fleet):
        with pytest.raises(ConfigError, match=f"(?i){why}"):
            fleet.open(etcd, endpoints=["https://127.0.0.1:1"], **change)

    run(scenario)
