"""A faulty disk in memory, deterministic from its random source: an implementation of `txndb.storage.disk.Disk`.

It has a page cache and a medium. Writes change the cache; `fdatasync` copies a file's dirty pages to the medium,
`sync_dir` the directory. Faults are drawn (`fault_rate`) or ordered (`fail_next`, `crash_at_operation`, `rot`).

    kill()   the process dies: handles are stale, the cache stays
    crash()  power is lost: of each file's dirty pages any may be kept, lost or torn in 512-byte sectors, its size is
             the old or the new one; of the directory's unsynced changes any may be kept or lost

Invariants
1. What a successful `fdatasync` and `sync_dir` covered is there after any crash, unless it was rotted by order.
2. After a failed `fdatasync` the dirty pages look clean: a second sync succeeds and writes nothing (so does Linux after
   EIO); reads see them until the crash, which loses each or not.
3. A failed or short write leaves a prefix of its bytes in the cache.
4. A misdirected write reports success; its bytes are elsewhere, and its place holds what it held before, or zeros.

Driven by the simulator's machines and by tests.
"""

from __future__ import annotations

import errno
from random import Random
from typing import Final

PAGE_BYTES: Final = 4096
SECTOR_BYTES: Final = 512
FREE_BYTES: Final = 1 << 40

FAULTS: Final = ("write", "short_write", "sync", "read", "misdirect")


class PowerLostError(Exception):
    """The ordered crash came in the middle of this operation; every later one raises this too until `crash()`."""


class _Inode:
    """A file's content: in the cache, and on the medium."""

    def __init__(self) -> None:
        self.cache = bytearray()
        self.medium = bytearray()
        self.dirty: dict[int, None] = {}
        """Pages to write at the next sync, in the order they were written."""
        self.lost: dict[int, None] = {}
        """Pages that a failed sync left clean in the cache only."""
        self.unsynced_bytes = 0
        """Written since the last sync."""

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if len(self.cache) < end:
            self.cache.extend(bytes(end - len(self.cache)))
        self.cache[offset:end] = data
        self.unsynced_bytes += len(data)
        for page in range(offset // PAGE_BYTES, (end + PAGE_BYTES - 1) // PAGE_BYTES):
            self.dirty[page] = None
            self.lost.pop(page, None)

    def sync(self) -> None:
        if len(self.medium) < len(self.cache):
            self.medium.extend(bytes(len(self.cache) - len(self.medium)))
        for page in self.dirty:
            start = page * PAGE_BYTES
            piece = self.cache[start : start + PAGE_BYTES]
            self.medium[start : start + len(piece)] = piece
        self.dirty.clear()
        self.unsynced_bytes = 0

    def forget_dirty(self) -> None:
        self.lost.update(self.dirty)
        self.unsynced_bytes = 0
        self.dirty.clear()

    def crash(self, rng: Random) -> None:
        """Keep, lose or tear each page that the medium does not have."""
        medium = self.medium
        if not self.dirty and not self.lost and len(self.cache) == len(medium):
            return
        if len(self.cache) > len(medium) and rng.random() < 0.5:
            medium.extend(bytes(len(self.cache) - len(medium)))
        for page in (*self.lost, *self.dirty):
            fate = rng.random()
            if fate < 0.4:
                continue
            start = page * PAGE_BYTES
            end = min(start + PAGE_BYTES, len(self.cache))
            for sector in range(start, end, SECTOR_BYTES):
                if fate < 0.7 or rng.random() < 0.5:
                    stop = min(sector + SECTOR_BYTES, end)
                    if len(medium) < stop:
                        medium.extend(bytes(stop - len(medium)))
                    medium[sector:stop] = self.cache[sector:stop]
        self.cache = bytearray(medium)
        self.unsynced_bytes = 0
        self.dirty.clear()
        self.lost.clear()


class SimFile:
    """An open file of a `SimDisk`."""

    def __init__(self, disk: SimDisk, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode
        self._generation = disk.generation
        self._closed = False

    def pwrite(self, data: bytes, offset: int) -> None:
        self._check()
        disk = self._disk
        room = disk.free_bytes() - max(0, offset + len(data) - len(self._inode.cache))
        if disk.take_crash():
            self._inode.write(data[: disk.rng.randrange(len(data) + 1)], offset)
            raise PowerLostError
        if disk.take_fault("write"):
            raise OSError(errno.EIO, "simulated write error")
        if room < 0 or disk.take_fault("short_write"):
            self._inode.write(data[: disk.rng.randrange(len(data) + 1)] if room >= 0 else b"", offset)
            raise OSError(errno.ENOSPC if room < 0 else errno.EIO, "simulated short write")
        if disk.take_ordered("misdirect"):
            disk.misdirect(self._inode, data, offset)
            return
        self._inode.write(data, offset)

    def pread(self, size: int, offset: int) -> bytes:
        self._check()
        if self._disk.take_fault("read"):
            raise OSError(errno.EIO, "simulated read error")
        return bytes(self._inode.cache[offset : offset + size])

    def size(self) -> int:
        self._check()
        return len(self._inode.cache)

    def fdatasync(self) -> None:
        self._check()
        disk = self._disk
        if disk.crash_in_long_sync and self._inode.unsynced_bytes > SECTOR_BYTES:
            disk.lose_power()
            raise PowerLostError
        if disk.take_crash():
            if disk.rng.random() < 0.5:
                self._inode.sync()
            raise PowerLostError
        if disk.take_fault("sync"):
            self._inode.forget_dirty()
            raise OSError(errno.EIO, "simulated sync error")
        self._inode.sync()

    def close(self) -> None:
        self._closed = True

    def _check(self) -> None:
        self._disk.check_power()
        if self._closed or self._generation != self._disk.generation:
            raise OSError(errno.EBADF, "the file is closed or its process is dead")


class SimDisk:
    """One machine's directory. `fault_rate` is the chance of each sort of fault in each operation."""

    def __init__(self, rng: Random, *, capacity_bytes: int = FREE_BYTES, fault_rate: float = 0.0) -> None:
        self.rng = rng
        self.capacity_bytes = capacity_bytes
        self.fault_rate = fault_rate
        self.generation = 0
        self.operations = 0
        self.crash_at_operation = 0
        """The operation (counted in `operations`) in which power is lost; 0 = none."""
        self.crash_in_long_sync = False
        """Power is lost at the next sync of more than a sector, with nothing of it synced."""
        self.faults: dict[str, int] = {}
        """Ordered faults: sort -> how many of the next operations of that sort fail."""
        self.misdirected: tuple[str, int, int] | None = None
        """The place (name, offset, end) of a write that went elsewhere."""
        self._powerless = False
        self._entries: dict[str, _Inode] = {}
        self._durable: dict[str, _Inode] = {}
        self._unsynced: list[tuple[tuple[str, _Inode | None], ...]] = []

    # ---- the Disk protocol

    def create(self, name: str) -> SimFile:
        self.check_power()
        if name in self._entries:
            raise FileExistsError(errno.EEXIST, "file exists", name)
        inode = _Inode()
        self._change((name, inode))
        return SimFile(self, inode)

    def open(self, name: str) -> SimFile:
        self.check_power()
        if name not in self._entries:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return SimFile(self, self._entries[name])

    def list(self) -> list[str]:
        self.check_power()
        return sorted(self._entries)

    def unlink(self, name: str) -> None:
        self.check_power()
        if name not in self._entries:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        self._change((name, None))

    def rename(self, old: str, new: str) -> None:
        self.check_power()
        if old not in self._entries:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)
        self._change((new, self._entries[old]), (old, None))

    def sync_dir(self) -> None:
        self.check_power()
        if self.take_crash():
            raise PowerLostError
        if self.take_fault("sync"):
            raise OSError(errno.EIO, "simulated directory sync error")
        self._durable = dict(self._entries)
        self._unsynced.clear()

    def free_bytes(self) -> int:
        return max(0, self.capacity_bytes - sum(len(inode.cache) for inode in self._entries.values()))

    # ---- faults

    def fail_next(self, sort: str, count: int = 1) -> None:
        """The next `count` operations of a sort of `FAULTS` fail."""
        assert sort in FAULTS, sort
        self.faults[sort] = self.faults.get(sort, 0) + count

    def rot(self, name: str, offset: int, size: int = 1) -> None:
        """Change bytes of a file, on the medium and in the cache."""
        inode = self._entries[name]
        for at in range(offset, offset + size):
            flip = self.rng.randrange(1, 256)
            inode.cache[at] ^= flip
            if at < len(inode.medium):
                inode.medium[at] ^= flip

    def contents(self, name: str) -> bytes:
        """What a file holds, as a process would read it."""
        return bytes(self._entries[name].cache)

    def misdirect(self, target: _Inode, data: bytes, offset: int) -> None:
        """Write `data` to a drawn sector of a drawn file instead of to its place, which only gets its length."""
        names = sorted(self._entries)
        end = offset + len(data)
        self.misdirected = (next(name for name in names if self._entries[name] is target), offset, end)
        if len(target.cache) < end:
            target.write(bytes(end - len(target.cache)), len(target.cache))
        victim = self._entries[self.rng.choice(names)]
        sector = self.rng.randrange(len(victim.cache) // SECTOR_BYTES + 1)
        place = sector * SECTOR_BYTES
        if victim is not target or place + len(data) <= offset or place >= end:
            victim.write(data, place)

    def wipe(self) -> None:
        """Everything is gone, as with a new disk."""
        self.kill()
        self._entries, self._durable = {}, {}
        self._unsynced.clear()
        self.misdirected = None

    def copy(self, rng: Random) -> SimDisk:
        """Another disk with what a process would read here now, all of it durable."""
        other = SimDisk(rng)
        for name in sorted(self._entries):
            inode = _Inode()
            inode.cache = bytearray(self._entries[name].cache)
            inode.medium = bytearray(inode.cache)
            other._entries[name] = other._durable[name] = inode
        return other

    def kill(self) -> None:
        """The process died; the machine and its page cache live on."""
        self.generation += 1
        self._powerless = False
        self.crash_at_operation = 0
        self.crash_in_long_sync = False

    def crash(self) -> None:
        """Power was lost and is back."""
        self.kill()
        entries = dict(self._durable)
        for changes in self._unsynced:
            if self.rng.random() < 0.5:
                self._apply(entries, changes)
        self._unsynced.clear()
        self._entries = entries
        self._durable = dict(entries)
        for name in sorted(entries):
            entries[name].crash(self.rng)

    def check_power(self) -> None:
        if self._powerless:
            raise PowerLostError

    def lose_power(self) -> None:
        """Power is lost now, in the middle of an operation."""
        self._powerless = True

    def take_crash(self) -> bool:
        """Count an operation; whether the ordered crash is in it."""
        self.operations += 1
        if self.operations == self.crash_at_operation:
            self._powerless = True
        return self._powerless

    def take_fault(self, sort: str) -> bool:
        """Whether this operation fails."""
        if self.take_ordered(sort):
            return True
        return self.fault_rate > 0 and self.rng.random() < self.fault_rate

    def take_ordered(self, sort: str) -> bool:
        """Whether this operation was ordered to fail."""
        ordered = self.faults.get(sort, 0)
        if ordered:
            self.faults[sort] = ordered - 1
        return ordered > 0

    # ---- the directory

    def _change(self, *changes: tuple[str, _Inode | None]) -> None:
        """One atomic change of the directory; a crash may come before or after it."""
        if self.take_crash():
            if self.rng.random() < 0.5:
                self._apply(self._entries, changes)
                self._unsynced.append(changes)
            raise PowerLostError
        self._apply(self._entries, changes)
        self._unsynced.append(changes)

    @staticmethod
    def _apply(entries: dict[str, _Inode], changes: tuple[tuple[str, _Inode | None], ...]) -> None:
        for name, inode in changes:
            if inode is None:
                entries.pop(name, None)
            else:
                entries[name] = inode
