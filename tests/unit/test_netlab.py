"""What the delay line decides about packets."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.netlab import packets
from benchmarks.netlab.shaping import Shaper, Wire

NEAR, FAR = bytes([10, 77, 0, 1]), bytes([10, 77, 0, 2])
FIN, SYN, RST, ACK = 1, 2, 4, 16
sequences = st.integers(0, 2**32 - 1)


def frame(
    source: tuple[bytes, int],
    target: tuple[bytes, int],
    sequence: int = 0,
    acknowledged: int = 0,
    flags: int = ACK,
    content: bytes = b"",
    segment: int = 0,
) -> bytes:
    """A frame as a kernel hands it over, with the twelve bytes of options that most have."""
    tcp = struct.pack("!HHIIBBHHH", source[1], target[1], sequence, acknowledged, 8 << 4, flags, 500, 0, 0) + bytes(12)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp) + len(content), 1, 0, 64, 6, 0) + source[0] + target[0]
    return struct.pack("<BBHHHH", 0, 0, 0, segment, 0, 0) + ip + tcp + content


def fields(reset: bytes) -> tuple[bytes, bytes, int, int, int, int]:
    """Addresses, ports, sequence number and flags of a reset, whose checksums must be right."""
    ip, tcp = reset[10:30], reset[30:]
    assert reset[:10] == bytes(10), "the checksum of this packet is not the kernel's to make"
    assert struct.unpack_from("!H", ip, 2)[0] == len(ip) + len(tcp) == 40
    assert packets.checksum(ip) == 0
    assert packets.checksum(ip[12:] + struct.pack("!xBH", 6, len(tcp)) + tcp) == 0
    source, target, sequence = struct.unpack_from("!HHI", tcp)
    return ip[12:16], ip[16:20], source, target, sequence, tcp[13]


def test_the_checksum_of_a_known_header() -> None:
    header = bytes.fromhex("4500003c1c4640004006 0000 ac100a63 ac100a0c")
    assert packets.checksum(header) == 0xB1E6
    assert packets.checksum(b"\x01") == 0xFEFF


def test_connections_are_told_apart_by_addresses_and_ports() -> None:
    up, down = frame((NEAR, 4000), (FAR, 22)), frame((FAR, 22), (NEAR, 4000))
    assert packets.is_tcp(up)
    assert packets.connection(up) == packets.other_way(packets.connection(down))
    assert [packets.has_port(packets.connection(up), port) for port in (22, 4000, 80)] == [True, True, False]
    udp = bytearray(up)
    udp[19] = 17
    assert not packets.is_tcp(bytes(udp))
    assert not packets.is_tcp(up[:49])


@given(sequences, sequences)
def test_who_speaks_of_a_forgotten_connection_must_accept_the_reset(sequence: int, acknowledged: int) -> None:
    spoken = frame((NEAR, 4000), (FAR, 22), sequence, acknowledged, content=b"more")
    assert fields(packets.reset_of_sender(spoken)) == (FAR, NEAR, 22, 4000, acknowledged, RST)


@given(sequences, st.integers(0, 5000), st.integers(0, 3), sequences, st.booleans())
def test_both_ends_get_the_sequence_number_that_they_expect(
    start: int, length: int, repeated: int, far_next: int, keepalive: bool
) -> None:
    """Near has sent ``length`` bytes from ``start`` on, far has acknowledged all; near's last frame is old."""
    near_next = (start + length) % 2**32
    last = (near_next - repeated) % 2**32 if keepalive else start
    up = frame((NEAR, 4000), (FAR, 22), last, far_next, content=b"" if keepalive else bytes(length))
    down = frame((FAR, 22), (NEAR, 4000), far_next, near_next)
    key = packets.connection(up)
    seen, seen_back = {key: up[: packets.HEADERS]}, {packets.other_way(key): down[: packets.HEADERS]}
    to_far, to_near = packets.resets_of_both(seen, seen_back, key)
    assert fields(to_far) == (NEAR, FAR, 4000, 22, near_next, RST)
    assert fields(to_near) == (FAR, NEAR, 22, 4000, far_next, RST)


@pytest.mark.parametrize(
    ("flags", "content", "says"), [(ACK, b"", False), (ACK, b"x", True), (SYN, b"", True), (FIN | ACK, b"", True)]
)
def test_a_bare_acknowledgement_says_nothing(flags: int, content: bytes, says: bool) -> None:
    assert packets.says_something(frame((NEAR, 1), (FAR, 2), flags=flags, content=content)) is says


@pytest.mark.parametrize(("length", "count"), [(0, 1), (1, 1), (1000, 1), (1001, 2), (4500, 5)])
def test_a_super_segment_counts_as_its_packets(length: int, count: int) -> None:
    assert packets.segments(frame((NEAR, 1), (FAR, 2), content=bytes(length), segment=1000)) == count
    assert packets.segments(frame((NEAR, 1), (FAR, 2), content=bytes(length))) == 1


# -- shaping ---------------------------------------------------------------------------------------------------------


def shaper(loss_dice: float = 0.5, **wire: float) -> Shaper:
    return Shaper(Wire(**wire), lambda: loss_dice)


def test_packets_wait_for_the_wire_and_then_travel() -> None:
    line = shaper(rtt_ms=40, mbit=8)  # a byte takes a microsecond
    assert line.arrival(1000, 1, now=5.0) == pytest.approx(5.0 + 0.001 + 0.02)
    assert line.arrival(1000, 1, now=5.0) == pytest.approx(5.0 + 0.002 + 0.02)
    assert line.arrival(1000, 1, now=6.0) == pytest.approx(6.0 + 0.001 + 0.02)
    assert (line.count.packets, line.count.bytes) == (3, 3000)


def test_a_full_queue_drops() -> None:
    line = shaper(mbit=8, queue_bytes=2500)
    assert [line.arrival(1000, 1, now=0.0) is None for _ in range(4)] == [False, False, True, True]
    assert line.arrival(1000, 1, now=0.001) is not None, "one had left meanwhile"
    assert line.count.overflowed == 2


def test_a_packet_larger_than_the_queue_passes_an_idle_wire() -> None:
    assert shaper(mbit=8, queue_bytes=100).arrival(1000, 1, now=0.0) is not None


@given(st.lists(st.tuples(st.floats(0, 0.1), st.integers(20, 65536)), max_size=50), st.sampled_from([None, 1, 10, 1e3]))
def test_packets_never_overtake_and_no_bandwidth_is_exceeded(arrivals: list[tuple[float, int]], mbit: float) -> None:
    line = shaper(rtt_ms=10, mbit=mbit)
    now, last = 1.0, 0.0
    for pause, size in arrivals:
        now += pause
        due = line.arrival(size, 1, now)
        if due is not None:
            takes = 8e-6 * size / mbit if mbit else 0.0
            assert due >= max(now + takes + 0.005, last + takes) - 1e-9
            last = due
    counted = line.count
    assert counted.packets + counted.overflowed == len(arrivals)


def test_loss_and_black_holes_are_counted_apart() -> None:
    assert shaper(0.05, loss=0.04).arrival(100, 1, now=0.0) == 0.0
    line = shaper(0.05, loss=0.06)
    assert line.arrival(100, 3, now=0.0) is None
    line.set(Wire())
    line.black_hole(until=2.0)
    assert line.arrival(100, 1, now=1.9) is None
    assert line.arrival(100, 1, now=2.0) is not None
    line.black_hole()
    assert line.arrival(100, 1, now=math.nextafter(math.inf, 0)) is None
    assert (line.count.lost, line.count.swallowed, line.count.packets) == (3, 2, 1)


@pytest.mark.parametrize("wrong", [{"loss": 1.1}, {"loss": -1}, {"rtt_ms": -1}, {"mbit": 0}, {"queue_bytes": 0}])
def test_a_line_that_can_not_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no such line"):
        Wire(**wrong)


def test_bundles_only_where_they_do_no_harm() -> None:
    lines = [{}, {"mbit": 1000}, {"mbit": 50}, {"mbit": 1000, "loss": 0.01}]
    assert [Wire(**line).takes_super_segments for line in lines] == [True, True, False, False]
