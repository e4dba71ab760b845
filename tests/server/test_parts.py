"""The small parts of the body: packets, the I/O worker, time, the in-memory disk, HTTP pages, errors on the wire."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txndb.cluster.envelopes import from_wire, to_wire
from txndb.cluster.packets import PACKET_HEADER, PacketReader, encode_packet
from txndb.errors import CorruptionError, ProtocolError, RetryError, SqlError, StoreError
from txndb.server.body import exception_handler
from txndb.server.demo import compare
from txndb.server.frames import decode_hello, decode_welcome
from txndb.server.http import HttpServer, HttpSource
from txndb.server.io import InlineIo, ThreadIo
from txndb.server.memdisk import MemoryDisk
from txndb.server.timesource import UNBOUNDED_US, KernelClock, host_id, make_time_source


@given(st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=5), max_size=6), st.integers(1, 60))
def test_packets_cut_anywhere_give_the_same_frames(packets: list[list[bytes]], piece: int) -> None:
    stream = b"".join(encode_packet(frames) for frames in packets)
    reader, got = PacketReader(), list[bytes]()
    for begin in range(0, len(stream), piece):
        got += reader.feed(stream[begin : begin + piece])
    assert got == [frame for frames in packets for frame in frames]
    assert reader.rest() == b""


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_garbage_raises_a_protocol_error_or_waits_for_more(pieces: list[bytes]) -> None:
    reader = PacketReader(bytes_max=1024)
    for piece in pieces:
        try:
            reader.feed(piece)
        except ProtocolError:
            return
    assert len(reader.rest()) <= 1024 + PACKET_HEADER.size


@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_flipped_bit_never_passes_the_checksum(frame: bytes, data: st.DataObject) -> None:
    packet = bytearray(encode_packet([frame]))
    bit = data.draw(st.integers(32, 8 * len(packet) - 1))
    packet[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError):
        PacketReader().feed(bytes(packet))


@given(st.binary(max_size=40))
def test_handshakes_never_raise_anything_else(frame: bytes) -> None:
    for decode in (decode_hello, decode_welcome):
        try:
            decode(frame)
        except ProtocolError as e:
            assert "malformed" in e.message


def test_the_io_worker_keeps_order_and_passes_errors_on() -> None:
    async def story() -> None:
        io = ThreadIo("test-io")
        ran: list[int] = []
        completed: list[int] = []
        threads: set[str] = set()

        def call(i: int) -> int:
            threads.add(threading.current_thread().name)
            ran.append(i)
            if i % 10 == 3:
                raise OSError(i)
            return i

        futures = [io.run(lambda i=i: call(i)) for i in range(1000)]  # type: ignore[misc]
        for i, future in enumerate(futures):
            future.add_done_callback(lambda _, i=i: completed.append(i))  # type: ignore[misc]
        futures[7].cancel()
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert ran == list(range(1000))
        assert [c for c in completed if c != 7] == [i for i in range(1000) if i != 7]
        assert threads == {"test-io"}
        assert isinstance(results[3], OSError)
        assert results[999] == 999
        await io.close()
        await io.close()
        with pytest.raises(RuntimeError):
            io.run(lambda: None)

    asyncio.run(story())


def test_inline_io_completes_in_the_next_turn() -> None:
    async def story() -> None:
        io, ran = InlineIo(), list[str]()
        first = io.run(lambda: ran.append("call"))
        assert ran == ["call"]
        assert not first.done()
        await first

        def broken() -> None:
            raise OSError("broken")

        with pytest.raises(OSError, match="broken"):
            await io.run(broken)
        io.run(lambda: None).cancel()
        await io.run(lambda: None)
        await io.close()

    asyncio.run(story())


def test_close_runs_what_was_accepted() -> None:
    async def story() -> None:
        io, ran = ThreadIo("test-io"), list[int]()
        release = threading.Event()
        first = io.run(release.wait)
        for i in range(20):
            io.run(lambda i=i: ran.append(i))  # type: ignore[misc]
        release.set()
        await io.close()
        assert first.done()
        assert ran == list(range(20))

    asyncio.run(story())


def test_time_sources() -> None:
    fixed = make_time_source("fixed:250")
    assert fixed.error_us() == 250
    first, second = fixed.monotonic_us(), fixed.monotonic_us()
    assert first <= second
    assert 1.6e15 < fixed.wall_us() < 1e16
    auto = make_time_source("auto")
    assert auto.error_us() == 0
    auto.leave_host()
    assert auto.error_us() == pytest.approx(KernelClock().error_us(), abs=10_000)
    assert auto.error_us() > 0
    with pytest.raises(StoreError, match="expected auto"):
        make_time_source("fixed:-1")
    assert host_id() == host_id()


def test_the_kernel_source_is_refused_where_nothing_synchronises_the_clock() -> None:
    if KernelClock().error_us() == UNBOUNDED_US:
        with pytest.raises(StoreError, match="does not say that its clock is synchronised"):
            make_time_source("kernel")
    else:
        assert make_time_source("kernel").error_us() < UNBOUNDED_US


def test_the_memory_disk_behaves_as_files_do() -> None:
    disk = MemoryDisk()
    file = disk.create("b")
    file.pwrite(b"xyz", 2)
    assert (file.size(), file.pread(10, 1), file.pread(1, 9)) == (5, b"\0xyz", b"")
    disk.create("a").pwrite(b"1", 0)
    assert disk.list() == ["a", "b"]
    disk.rename("a", "b")
    assert disk.open("b").pread(9, 0) == b"1"
    disk.unlink("b")
    for call in (disk.open, disk.unlink):
        with pytest.raises(FileNotFoundError):
            call("b")
    disk.create("c")
    with pytest.raises(FileExistsError):
        disk.create("c")


def test_errors_keep_class_and_words_on_the_wire() -> None:
    for error in (
        RetryError("a", detail="b", hint="c"),
        CorruptionError("x"),
        SqlError("22012", "division by zero"),
    ):
        back = from_wire(to_wire(error))
        assert (type(back), back.code, back.message, back.detail, back.hint) == (
            type(error),
            error.code,
            error.message,
            error.detail,
            error.hint,
        )
    assert from_wire(b"\xc1").code == "XX000"


async def fetch(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


def test_http_pages_follow_the_node() -> None:
    async def story() -> None:
        serving = [True]
        source = HttpSource(
            lambda: serving[0],
            lambda: {"node": 3, "cluster_id": b"\x01"},
            lambda: {"txndb_commits_total": 5.0, "txndb_ranges": 2.0},
        )
        server = HttpServer(source)
        port = await server.start("127.0.0.1", 0)
        assert await fetch(port, "/healthz") == (200, "ok\n")
        serving[0] = False
        assert (await fetch(port, "/healthz"))[0] == 503
        code, metrics = await fetch(port, "/metrics")
        assert code == 200
        assert {"txndb_commits_total 5.0", "txndb_ranges 2.0"} <= set(metrics.splitlines())
        assert "# TYPE txndb_commits_total counter" in metrics
        assert "process_resident_memory_bytes" in metrics
        code, status = await fetch(port, "/status")
        assert '"node":3' in status
        assert (await fetch(port, "/nothing"))[0] == 404
        await server.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("nodes", "verdict"),
    [
        ([{1: (5, "x")}, {1: (5, "x")}, {1: (5, "x")}], True),
        ([{1: (5, "x")}, {1: (5, "y")}, {1: (5, "x")}], False),
        ([{1: (5, "x")}, {1: (6, "z")}, {1: (5, "x")}], None),
        ([{1: (5, "x"), 2: (1, "a")}, {1: (5, "x")}, {1: (5, "x")}], None),
        ([{1: (5, "x")}, {1: (5, "x")}, {}], None),
        ([], None),
    ],
)
def test_replicas_agree_only_at_one_index(
    nodes: list[dict[int, tuple[int, str]]], verdict: bool | None
) -> None:
    assert compare(nodes) is verdict


def test_replicas_agree_although_a_node_is_new_and_another_is_gone() -> None:
    nodes = [{1: (5, "x"), 2: (1, "a")}, {1: (5, "x")}, {}]
    assert compare(nodes) is None and compare(nodes, complete=False) is True
    assert compare([{1: (5, "x")}, {1: (5, "y")}, {}], complete=False) is False


def test_an_exception_in_a_callback_is_fatal_and_one_of_a_connection_is_not() -> None:
    async def story() -> list[BaseException]:
        loop = asyncio.get_running_loop()
        fatal: list[BaseException] = []
        loop.set_exception_handler(exception_handler(fatal.append))

        def broken() -> None:
            raise KeyError("half a step")

        loop.call_soon(broken)
        await InlineIo().run(lambda: None)
        call = loop.call_exception_handler
        call({"message": "m", "exception": ConnectionResetError(), "transport": None, "protocol": None})
        call({"message": "m", "exception": StoreError("disk"), "transport": None, "protocol": None})
        call({"message": "m", "exception": ValueError(), "task": None})
        call({"message": "m"})
        return fatal

    assert [type(error) for error in asyncio.run(story())] == [KeyError, StoreError]
