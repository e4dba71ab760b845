"""A `Disk` in memory, for in-process nodes and `--store memory`: nothing survives the process, syncs cost nothing."""

from __future__ import annotations

from typing import Final

FREE_BYTES: Final = 1 << 40
"""What an in-memory disk says is left: its bound is the process's memory."""


class MemoryFile:
    """One file; every handle of a name shares its bytes."""

    def __init__(self, data: bytearray) -> None:
        self._data = data

    def pwrite(self, data: bytes, offset: int) -> None:
        if offset > len(self._data):
            self._data.extend(bytes(offset - len(self._data)))
        self._data[offset : offset + len(data)] = data

    def pread(self, size: int, offset: int) -> bytes:
        return bytes(self._data[offset : offset + size])

    def size(self) -> int:
        return len(self._data)

    def fdatasync(self) -> None:
        return

    def close(self) -> None:
        return


class MemoryDisk:
    """One directory's files, by name."""

    def __init__(self) -> None:
        self._files: dict[str, bytearray] = {}

    def create(self, name: str) -> MemoryFile:
        if name in self._files:
            raise FileExistsError(name)
        self._files[name] = bytearray()
        return MemoryFile(self._files[name])

    def open(self, name: str) -> MemoryFile:
        if name not in self._files:
            raise FileNotFoundError(name)
        return MemoryFile(self._files[name])

    def list(self) -> list[str]:
        return sorted(self._files)

    def unlink(self, name: str) -> None:
        if self._files.pop(name, None) is None:
            raise FileNotFoundError(name)

    def rename(self, old: str, new: str) -> None:
        if old not in self._files:
            raise FileNotFoundError(old)
        self._files[new] = self._files.pop(old)

    def sync_dir(self) -> None:
        return

    def free_bytes(self) -> int:
        return FREE_BYTES
