"""A small disk for one node: a tmpfs over its data directory, which a ballast file fills to the last byte.

Invariants
1. The mount's source is named after the process that made it, as namespaces are; `remove_leftovers` unmounts those
whose
   process is gone.
2. `release` takes away the ballast and nothing else. The ballast lies in `lost+found`, where a node expects things
that are
   not its own.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from txndb.testing.jepsen.namespaces import PREFIX, ToolError, owner_lives, owner_tag, run

DISK_BYTES: Final = 160 * 1024 * 1024
_CHUNK: Final = 1 << 20


class SmallDisk:
    """Mounted at `directory` from the start until `close`."""

    def __init__(self, directory: Path, size_bytes: int = DISK_BYTES) -> None:
        self.directory = directory
        self._ballast = directory / "lost+found" / "ballast"
        directory.mkdir(parents=True, exist_ok=True)
        run(
            [
                "mount",
                "-t",
                "tmpfs",
                "-o",
                f"size={size_bytes},mode=755",
                f"{owner_tag()}-disk",
                str(directory),
            ]
        )

    def fill(self) -> None:
        """Leave no byte free."""
        self._ballast.parent.mkdir(exist_ok=True)
        with open(self._ballast, "ab", buffering=0) as file:
            size = _CHUNK
            while size:
                try:
                    file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def release(self) -> None:
        """Room again."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount; what was on it is gone."""
        with suppress(ToolError):  # it is no longer mounted
            run(["umount", "-l", str(self.directory)])


def why_not() -> str:
    """Why there can be no small disks here; empty if there can."""
    if os.geteuid() != 0:
        return "mounting a small disk needs root"
    if shutil.which("mount") is None:
        return "mount is not installed"
    return ""


def remove_leftovers() -> list[str]:
    """Unmount the small disks of runs that were killed; where they were."""
    removed = []
    mounts = Path("/proc/mounts")
    for line in mounts.read_text().splitlines() if mounts.exists() else ():
        source, target, *_ = line.split()
        if source.startswith(f"{PREFIX}-") and not owner_lives(source):
            with suppress(ToolError):  # somebody else was faster
                run(["umount", "-l", target.encode().decode("unicode_escape")])
                removed.append(target)
    return removed
