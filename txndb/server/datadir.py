"""A node's data directory: one process at a time, and what it remembers beside log and engine.

    LOCK        flock(2)ed by the process that uses the directory, holds its pid
    log/        the Raft log's segments
    engine/     RocksDB
    addresses   JSON: where this node listened last

The lock is the kernel's: it goes with the process, however it ends, so there is never a stale one to remove.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec

from txndb.cluster.addresses import parse_address
from txndb.errors import ProtocolError, StoreError

_ADDRESSES: Final = "addresses"
_OURS: Final = frozenset(("LOCK", "log", "engine", _ADDRESSES, f"{_ADDRESSES}.new", "lost+found"))
"""What a node finds in its directory; the last is what file systems put into a fresh one."""


_ADDRESSES_HINT: Final = "Give --sql, --rpc and --http as they were, and remove the file."


class DataDir:
    """An opened, locked data directory."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd

    @classmethod
    def open(cls, path: Path) -> DataDir:
        """Create it if it is missing, lock it; `StoreError` if another process has it, it holds something else than a
        node's data, or it cannot be used."""
        try:
            must_not_be_foreign(path)
            for directory in (path, path / "log", path / "engine"):
                directory.mkdir(parents=True, exist_ok=True)
            fd = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as e:
            raise StoreError(f"cannot use the data directory {path}: {e.strerror}") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise StoreError(
                f"the data directory {path} is in use by another node"
                + (f" (process {holder})" if holder else "")
            ) from None
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except OSError as e:
            os.close(fd)
            raise StoreError(f"cannot write to the data directory {path}: {e.strerror}") from None
        return cls(path, fd)

    @property
    def log_path(self) -> Path:
        return self.path / "log"

    @property
    def engine_path(self) -> Path:
        return self.path / "engine"

    def addresses(self) -> dict[str, str]:
        """Where the node listened last; empty on its first start."""
        path = self.path / _ADDRESSES
        try:
            found = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
            for address in found.values():
                parse_address(address)
        except FileNotFoundError:
            return {}
        except OSError as e:
            raise StoreError(f"cannot read {path}: {e.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise StoreError(f"{path} is damaged: {e}", hint=_ADDRESSES_HINT) from None
        except ProtocolError as e:
            raise StoreError(f"{path} is damaged: {e.message}", hint=_ADDRESSES_HINT) from None
        return found

    def remember_addresses(self, addresses: dict[str, str]) -> None:
        """Replace what `addresses` returns, atomically."""
        write_atomically(self.path / _ADDRESSES, msgspec.json.encode(addresses) + b"\n")

    def close(self) -> None:
        """Let the next process in."""
        os.close(self._lock_fd)


def must_not_be_foreign(path: Path) -> None:
    """`StoreError` when the directory holds files and no node's data: a mistyped path must not be filled with ours."""
    try:
        names = set(os.listdir(path))
    except FileNotFoundError:
        return
    others = sorted(name for name in names - _OURS if not name.startswith("."))
    if others and not {"log", "engine"} <= names:
        raise StoreError(
            f"{path} holds other files ({others[0]}{', …' if len(others) > 1 else ''}) and no node's data",
            hint="Choose an empty directory or a new one.",
        )


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or its old content; `StoreError` when that fails."""
    new = path.with_name(f"{path.name}.new")
    try:
        with open(new, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(new, path)
    except OSError as e:
        raise StoreError(f"cannot write {path}: {e.strerror}") from None
