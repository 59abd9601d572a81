"""Whether what is written is still where the next start would look for it, and whole: asked of a store that is open.

A file that somebody removes or replaces is written all the same, through the descriptor that is open, and is gone when
the process ends. What SQLite says of a file whose content makes no sense is remembered, since the next statement may
not meet the damage.
"""

from __future__ import annotations

import sqlite3

from controller.adapters.store.sqlite_file import NO_FILE, identity_of, is_damage, log_of, renew_log


class FileWatch:
    """The database's file and its write-ahead log, as they were when it was opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = identity_of(path)
        self._log = log_of(path)
        self._log_file = identity_of(self._log)
        self._damage: str | None = None
        """What the engine said when it met some."""

    def failed(self, error: Exception) -> None:
        """A statement did."""
        if is_damage(error):
            self._damage = str(error)

    def problem(self, connection: sqlite3.Connection) -> str | None:
        """What is wrong, and what to do; None: nothing. A log that is gone is begun anew, and told once. Raises the
        engine's errors if it can't be."""
        if self._damage is not None:
            return (
                f"store.url: {self._path} is damaged ({self._damage}): nothing new is received, and what was "
                "accepted goes on as far as it can be read; stop this process and restore a copy"
            )
        if self._file in (NO_FILE, None):
            return None
        if identity_of(self._path) in (self._file, None):
            return self._renewed_log(connection)
        return (
            f"store.url: {self._path} is no longer the file that is written (it was removed, renamed or replaced): "
            "what is stored is lost when this process ends, so nothing new is received; put the file back, or let "
            "what is in flight end before you stop this process"
        )

    def _renewed_log(self, connection: sqlite3.Connection) -> str | None:
        """One that is gone is written all the same, and what is only there goes with a process that is killed."""
        if identity_of(self._log) in (self._log_file, None):
            return None
        renew_log(connection)
        self._log_file = identity_of(self._log)
        return (
            f"store.url: {self._log} was removed, renamed or replaced while it was written; what it held is in "
            f"{self._path} now, and a new one is begun; let nothing take it away while this process runs"
        )
