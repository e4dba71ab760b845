"""What keeps a node from starting ends in one clear line and a non-zero exit, before anything is written."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from txndb.errors import StoreError
from txndb.server.config import ConfigError, Listener, ServerConfig, is_loopback, parse_join, parse_locality
from txndb.server.datadir import DataDir
from txndb.server.main import explain


def start(*options: str) -> tuple[int, str]:
    """Run `start`; the exit code and what it wrote to standard error."""
    command = [sys.executable, "-m", "txndb.server", "start", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_data_directory_in_use_is_refused(tmp_path: Path) -> None:
    held = DataDir.open(tmp_path / "data")
    code, said = start("--data", str(tmp_path / "data"), "--rpc", "127.0.0.1:0")
    held.close()
    assert (code, said.count("\n")) == (1, 1)
    assert f"is in use by another node (process {os.getpid()})" in said


def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    DataDir.open(tmp_path).close()
    again = DataDir.open(tmp_path)
    again.remember_addresses({"rpc": "127.0.0.1:1234"})
    again.close()
    third = DataDir.open(tmp_path)
    assert third.addresses() == {"rpc": "127.0.0.1:1234"}
    third.close()


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot use the data directory"):
        DataDir.open(tmp_path / "file" / "data")


@pytest.mark.parametrize("content", [b"{", b'{"sql":5}', b'{"sql":"nowhere"}', b"\xff"])
def test_damaged_addresses_are_named(tmp_path: Path, content: bytes) -> None:
    data = DataDir.open(tmp_path)
    (tmp_path / "addresses").write_bytes(content)
    with pytest.raises(StoreError, match="addresses is damaged: ") as caught:
        data.addresses()
    assert "remove the file" in caught.value.hint
    data.close()


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "log").mkdir()
    (tmp_path / "PG_VERSION").write_text("15")
    code, said = start("--data", str(tmp_path))
    assert (code, said.count("\n")) == (1, 1)
    assert "holds other files (PG_VERSION, …) and no node's data" in said
    assert sorted(os.listdir(tmp_path)) == ["PG_VERSION", "base", "log"]


def test_a_fresh_file_system_and_what_is_put_beside_a_nodes_data_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".keep").touch()
    DataDir.open(tmp_path).close()
    (tmp_path / "notes.txt").touch()
    DataDir.open(tmp_path).close()


def test_a_host_that_is_unknown_is_named(tmp_path: Path) -> None:
    code, said = start("--data", str(tmp_path / "data"), "--rpc", "nowhere.invalid:0", "--insecure")
    assert (code, said.count("\n")) == (1, 1)
    assert "cannot listen on --rpc nowhere.invalid:0: " in said
    assert "Unknown error" not in said


@pytest.mark.parametrize("option", ["--sql", "--rpc", "--http"])
def test_a_listener_beyond_loopback_needs_insecure(option: str, tmp_path: Path) -> None:
    code, said = start("--data", str(tmp_path / "data"), option, "0.0.0.0:0")
    assert (code, said.count("\n")) == (1, 1)
    assert f"{option} 0.0.0.0 can be reached from other machines" in said
    assert "--insecure" in said
    assert not (tmp_path / "data").exists()


def test_an_rpc_address_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = start("--data", str(tmp_path / "data"), "--rpc", address)
    assert (code, said) == (1, f"txndb: cannot listen on --rpc {address}: Address already in use.\n")


@pytest.mark.parametrize("option", ["--sql", "--http"])
def test_a_port_in_use_is_found_before_a_cluster_is_founded(tmp_path: Path, option: str) -> None:
    """The same command with a free port founds it then, as if nothing had been tried."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = start("--data", str(tmp_path / "data"), "--rpc", "127.0.0.1:0", option, address)
    assert (code, said) == (1, f"txndb: cannot listen on {option} {address}: Address already in use.\n")
    assert not list((tmp_path / "data").glob("*/*")), "something was written"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--clock", "sundial"), "expected auto, kernel or fixed:MICROSECONDS"),
        (("--locality", "zone"), "expected KEY=VALUE"),
        (("--join", "a:b"), "expected HOST:PORT"),
        (("--rpc", "127.0.0.1:99999"), "expected HOST:PORT"),
        (("--advertise", "[::1]"), '--advertise: "[::1]" is not an address: expected HOST:PORT'),
        (("--advertise", "db..example:7433"), '"db..example" is not the name of a host'),
        (("--advertise", "x" * 70), "is not the name of a host"),
        (("--advertise", "::1"), "is not the name of a host"),
        (("--advertise", ":7433"), "is not an address that others can dial"),
        (("--advertise", "db:0"), "is not an address that others can dial"),
    ],
)
def test_a_malformed_option_is_one_line(options: tuple[str, ...], words: str, tmp_path: Path) -> None:
    code, said = start("--data", str(tmp_path / "data"), "--rpc", "127.0.0.1:0", *options)
    assert (code, said.count("\n")) == (1, 1)
    assert words in said
    assert not (tmp_path / "data" / "log").exists(), "something was founded"


def test_a_start_needs_a_place_for_its_data() -> None:
    code, said = start()
    assert code == 2
    assert "--data DIR is required" in said


def test_listeners_remember_their_ports() -> None:
    remembered = {"sql": "127.0.0.1:1001", "rpc": "127.0.0.1:1002", "http": "127.0.0.1:1003"}
    fresh = ServerConfig(None, rpc="127.0.0.1:0", http="127.0.0.1:8080")
    assert fresh.listeners({}) == {
        "sql": Listener("127.0.0.1", 7432, fallback=True),
        "rpc": Listener("127.0.0.1", 0),
        "http": Listener("127.0.0.1", 8080),
    }
    assert fresh.listeners(remembered) == {
        "sql": Listener("127.0.0.1", 1001),
        "rpc": Listener("127.0.0.1", 1002),
        "http": Listener("127.0.0.1", 8080),
    }
    moved = ServerConfig(None, rpc="127.0.0.2:0")
    assert moved.listeners(remembered)["rpc"] == Listener("127.0.0.2", 0)
    with pytest.raises(ConfigError):
        ServerConfig(None, sql="0.0.0.0").listeners({})
    assert ServerConfig(None, sql="0.0.0.0", insecure=True).listeners({})["sql"] == Listener("0.0.0.0", 0)


def test_only_loopback_is_loopback() -> None:
    hosts = ["127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "::", "10.0.0.1", "db.example", ""]
    assert [is_loopback(host) for host in hosts] == [True] * 4 + [False] * 5


def test_lists_are_parsed() -> None:
    assert parse_join("a:1, b ,c:3") == ("a:1", "b:7433", "c:3")
    assert parse_join("") == ()
    assert list(parse_locality("region=eu,zone=a").items()) == [("region", "eu"), ("zone", "a")]
    with pytest.raises(ConfigError):
        parse_locality("zone=a,zone=b")


def test_an_error_is_told_on_one_line() -> None:
    error = StoreError("refused\n\tIs it running?", hint="See\nthere.")
    assert explain(error) == "refused Is it running?. See there."
