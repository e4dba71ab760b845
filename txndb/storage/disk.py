"""What the storage layer needs of a disk, so that a body gives a real one and the simulator a faulty one.

All calls block and may raise `OSError`; the Raft log runs them in a worker. Names are relative to one directory.
Driven by `txndb.storage.raftlog`; implemented by `txndb.server.files` and `txndb.sim.disk`.
"""

from __future__ import annotations

from typing import Protocol


class File(Protocol):
    """An open file; one descriptor serves a segment from creation to seal (rule P1)."""

    def pwrite(self, data: bytes, offset: int) -> None:
        """Write all of `data` at `offset` or raise `OSError` (a short write is an error)."""

    def pread(self, size: int, offset: int) -> bytes:
        """Read up to `size` bytes at `offset`; fewer only at the end of the file."""

    def size(self) -> int:
        """The file's length in bytes."""

    def fdatasync(self) -> None:
        """Return only when every byte written before is on the medium."""

    def close(self) -> None:
        """Release the descriptor."""


class Disk(Protocol):
    """One directory's files."""

    def create(self, name: str) -> File:
        """Create a new file; `FileExistsError` if there is one."""

    def open(self, name: str) -> File:
        """Open an existing file for reading and writing."""

    def list(self) -> list[str]:
        """The names in the directory, sorted."""

    def unlink(self, name: str) -> None:
        """Remove a file; durable only after `sync_dir`."""

    def rename(self, old: str, new: str) -> None:
        """Replace `new` by `old` atomically; durable only after `sync_dir`."""

    def sync_dir(self) -> None:
        """Make creations, removals and renames durable."""

    def free_bytes(self) -> int:
        """Room left, in bytes."""
