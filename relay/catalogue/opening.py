"""The catalogue as a daemon has it: what the operator says of it is checked at the start, the rest waits.

A daemon that only watches tasks is never asked for a model, and the library that checks inputs takes a
tenth of an idle daemon's memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from relay.catalogue import models


def open_catalogue(files: Sequence[Path], retired: Collection[str]) -> models.Catalogue:
    """The shipped catalogue with ``files`` laid over it and the slugs ``retired`` marked so.

    Where there is any of both, all is read and checked now: raises ``errors.ConfigurationError``.
    Otherwise what is shipped is read at the first question, which takes that one some 10 ms longer.
    """

    def read() -> Iterable[models.Model]:
        from relay.catalogue import loading

        return loading.load(files, retired)

    catalogue = models.Catalogue(read)
    if files or retired:
        len(catalogue)
    return catalogue
