"""The real disk: one directory's files through positioned system calls, an implementation of `storage.disk`.

A file keeps one descriptor from `create` or `open` to `close` (rule P1). Errors are the system's `OSError`s.
"""

from __future__ import annotations

import errno
import os


class OsFile:
    """An open file."""

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor

    def pwrite(self, data: bytes, offset: int) -> None:
        written = os.pwrite(self._fd, data, offset)
        if written != len(data):
            raise OSError(errno.EIO, f"short write: {written} of {len(data)} bytes")

    def pread(self, size: int, offset: int) -> bytes:
        data = os.pread(self._fd, size, offset)
        if len(data) == size or not data:
            return data
        parts = [data]  # a system call moves at most 2 GiB, and a signal may cut it short
        have = len(data)
        while have < size and (data := os.pread(self._fd, size - have, offset + have)):
            parts.append(data)
            have += len(data)
        return b"".join(parts)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def fdatasync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class OsDisk:
    """The directory `path`, which is created (durably) when missing."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        if not os.path.isdir(self._path):
            os.makedirs(self._path, mode=0o700, exist_ok=True)
            _sync_directory(os.path.dirname(self._path))

    def create(self, name: str) -> OsFile:
        return OsFile(os.open(self._join(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def open(self, name: str) -> OsFile:
        return OsFile(os.open(self._join(name), os.O_RDWR | os.O_CLOEXEC))

    def list(self) -> list[str]:
        return sorted(os.listdir(self._path))

    def unlink(self, name: str) -> None:
        os.unlink(self._join(name))

    def rename(self, old: str, new: str) -> None:
        os.replace(self._join(old), self._join(new))

    def sync_dir(self) -> None:
        _sync_directory(self._path)

    def free_bytes(self) -> int:
        stat = os.statvfs(self._path)
        return stat.f_bavail * stat.f_frsize

    def _join(self, name: str) -> str:
        return os.path.join(self._path, name)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
