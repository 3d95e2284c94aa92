"""SipHash and a session in C, and their Python twins, agree on anything."""

from hypothesis import given
from hypothesis import strategies as st

from mhostd.native import _native, _pure_shim

LAST = (1 << 64) - 2
A, B = b"a" * 16, b"b" * 16
PATHS = st.sampled_from([0, 1, 7, 255])
INNER = st.binary(max_size=40)

# What a step does to the packet that it sends, or sends again.
STEPS = st.one_of(
    st.tuples(st.just("seal"), PATHS, INNER),
    st.tuples(st.just("seal_as"), PATHS, st.integers(-2, 70), INNER),  # near tx_seq
    st.tuples(st.just("jump"), PATHS, st.integers(1, 40_000), INNER),
    st.tuples(st.just("far jump"), PATHS, st.integers(1, LAST), INNER),
    st.tuples(st.just("below"), PATHS, st.integers(-70, 20_000), INNER),  # rx_max
    st.tuples(st.just("edge"), PATHS, st.integers(8100, 8300), INNER),
    st.tuples(st.just("replay"), st.integers(0, 1 << 16)),
    st.tuples(
        st.just("corrupt"), st.integers(0, 1 << 16), st.integers(0, 100), st.integers(1, 255)
    ),
    st.tuples(
        st.just("reseal"), st.integers(0, 1 << 16), st.integers(0, 100), st.integers(1, 255)
    ),
    st.tuples(st.just("truncate"), st.integers(0, 1 << 16), st.integers(1, 80)),
    st.tuples(st.just("octets"), st.binary(max_size=80)),
    st.tuples(st.just("refused"), st.integers(-300, 300), st.integers(-300, 300)),
)


def outcome(function, *args):
    """What a call gives, or the exception that it raises with its text."""
    try:
        return function(*args)
    except (ValueError, OSError) as err:
        return type(err), str(err)


def both(pair, name, *args):
    """The same call of both, which must give the same."""
    got = [outcome(getattr(shim, name), *args) for shim in pair]
    assert got[0] == got[1]
    return got[0]


def state(shim):
    return shim.tx_seq, shim.rx_max, shim.sent(), shim.received(), shim.counts()


def packet_of(step, near, far, packets):
    """The packet that a step opens, None if it makes none."""
    kind, *args = step
    if kind == "seal":
        return both(near, "seal", args[0], 17, args[1])
    if kind in ("seal_as", "jump", "far jump", "below", "edge"):
        path, number, inner = args
        base = far[0].rx_max if kind in ("below", "edge") else near[0].tx_seq
        seq = base - number if kind in ("below", "edge") else base + number
        return both(near, "seal_as", path, 17, number if kind == "far jump" else seq, inner)
    if kind == "octets":
        return args[0]
    if kind == "refused":
        both(near, "seal", *args, b"")
        return both(near, "next")
    if not packets:
        return None
    packet = bytearray(packets[args[0] % len(packets)])
    if kind == "truncate":
        del packet[-args[1] :]
    elif kind in ("corrupt", "reseal"):
        packet[args[1] % len(packet)] ^= args[2]
    if kind == "reseal":
        packet[-16:] = _native.siphash128(B, packet[:-16])
    return bytes(packet)


@given(steps=st.lists(STEPS, max_size=60))
def test_a_session_goes_the_same_way_in_both(steps):
    near = _native.Shim(A, B, 1), _pure_shim.Shim(A, B, 1)
    far = _native.Shim(B, A, 2), _pure_shim.Shim(B, A, 2)
    packets = []
    opened = set()
    for step in steps:
        packet = packet_of(step, near, far, packets)
        if isinstance(packet, bytes):
            before = state(far[0])
            got = both(far, "open", packet)
            if isinstance(got, tuple):
                assert got[2] not in opened
                opened.add(got[2])
            elif got != -2:
                assert state(far[0])[:-1] == before[:-1]
            if step[0] not in ("octets", "truncate", "corrupt", "reseal"):
                packets.append(packet)
        assert state(near[0]) == state(near[1])
        assert state(far[0]) == state(far[1])
    assert len(opened) == far[0].counts()[0]


@given(key=st.binary(max_size=20), data=st.binary(max_size=300), start=st.integers(0, 16))
def test_siphash128_is_the_same_at_any_alignment(key, data, start):
    view = memoryview(data)[start:]
    assert outcome(_native.siphash128, key, view) == outcome(_pure_shim.siphash128, key, view)


@given(
    key=st.binary(min_size=16, max_size=16), data=st.binary(max_size=60), cut=st.integers(0, 60)
)
def test_siphash128_of_two_pieces_is_that_of_the_whole(key, data, cut):
    whole = _pure_shim.siphash128(key, data)
    assert _native.siphash128(key, data[:cut], data[cut:]) == whole
