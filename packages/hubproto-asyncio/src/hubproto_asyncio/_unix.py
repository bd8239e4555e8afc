"""`UnixSocket`: a listening socket at a path of the file system."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

__all__ = ["UnixSocket"]


class UnixSocket:
    """Listens at a path. Raises OSError if somebody else does, or if there is another file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._remove_stale()
        self.socket: socket.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.bind(self._path)
            self.socket.listen()
            self._inode = os.stat(self._path).st_ino
        except BaseException:
            self.socket.close()
            raise

    def remove(self) -> None:
        """Remove the file, unless another server has put its own there."""
        with suppress(FileNotFoundError):
            if os.stat(self._path).st_ino == self._inode:
                os.remove(self._path)

    def _remove_stale(self) -> None:
        """Remove what a server has left that was killed."""
        with suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            is_socket = stat.S_ISSOCK(os.stat(self._path).st_mode)
            if is_socket and probe.connect_ex(self._path) == errno.ECONNREFUSED:
                os.remove(self._path)
