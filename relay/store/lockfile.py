"""A file that one process at a time holds: a second daemon on one database must not start.

The lock is the kernel's (``flock``), so it ends with its process however that ends; the pid in the
file only serves the message. The file itself stays: removing it would let two processes hold two
files of one name.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from relay.domain import errors


class LockFile:
    """The lock at ``path``; not held when made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> int | None:
        """Take the lock at once. ``None`` when it is held now, else the holder's pid (0 if unknown).

        Raises ``errors.StoreUnavailable`` if the file cannot be made.
        """
        assert self._descriptor is None
        try:
            # Not inherited across exec (the default), so no worker process keeps it.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise errors.StoreUnavailable(
                f"cannot open the lock file {self._path}: {os.strerror(error.errno or 0)}"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = _pid(descriptor)
            os.close(descriptor)
            return holder
        except OSError as error:
            os.close(descriptor)
            raise errors.StoreUnavailable(
                f"cannot lock {self._path}: {os.strerror(error.errno or 0)}"
            ) from error
        self._descriptor = descriptor
        return None

    def release(self) -> None:
        """Give the lock back. Idempotent."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _pid(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    return int(text) if text.isdecimal() else 0
