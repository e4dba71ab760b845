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

from txndb.errors import StoreError

_ADDRESSES: Final = "addresses"


class DataDir:
    """An opened, locked data directory."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd

    @classmethod
    def open(cls, path: Path) -> DataDir:
        """Create it if it is missing, lock it; `StoreError` if another process has it or it cannot be used."""
        try:
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
        try:
            return msgspec.json.decode((self.path / _ADDRESSES).read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as e:
            raise StoreError(f"cannot read {self.path / _ADDRESSES}: {e}") from None

    def remember_addresses(self, addresses: dict[str, str]) -> None:
        """Replace what `addresses` returns, atomically."""
        write_atomically(self.path / _ADDRESSES, msgspec.json.encode(addresses) + b"\n")

    def close(self) -> None:
        """Let the next process in."""
        os.close(self._lock_fd)


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
