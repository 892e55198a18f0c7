"""What the commands that touch files share: the configuration, and the database it names.

Only ``serve``, ``config``, ``migrate``, ``backup`` and ``keys create --local`` come here; all others
ask the daemon.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from relay.cli import output

if TYPE_CHECKING:
    from relay import settings as settings_module
    from relay.store.sql import SqlStore


def path(config_file: str | None) -> Path | None:
    """The value of ``--config``."""
    return None if config_file is None else Path(config_file)


def load(config_file: Path | None) -> settings_module.Settings:
    """The settings. Raises ``errors.ConfigurationError``."""
    from relay import settings

    return settings.load(config_file)


def no_upstream(config_file: str | None) -> str:
    """The error of settings without any upstream. Often it is only the file that was not named."""
    advice = "add [upstreams.mindvideo] with its api_key, or set RELAY_UPSTREAMS__MINDVIDEO__API_KEY"
    if config_file is None and not os.environ.get("RELAY_CONFIG"):
        advice = f"no configuration file was named (--config FILE, or RELAY_CONFIG); else {advice}"
    return f"no upstream is configured: {advice}"


@contextlib.asynccontextmanager
async def opened(settings: settings_module.Settings, *, migrate: bool) -> AsyncIterator[SqlStore]:
    """The store, beside whoever else has it open. ``migrate`` makes it and brings it up to date."""
    from relay.store import opening

    store = await opening.open_store(settings.store.url, exclusive=False, migrate=migrate)
    try:
        yield store
    finally:
        await store.aclose()


def refuse_strangers(settings: settings_module.Settings, *, command: str) -> None:
    """Raise ``output.Failed`` unless this user owns the database's directory.

    Files made there by another user, root included, are files that the daemon may not be able to
    write. ``command`` is what to run as the owner.
    """
    from relay.store import opening

    directory = opening.sqlite_path(settings.store.url).absolute().parent
    try:
        owner = directory.stat().st_uid
    except OSError:
        return  # opening the store says what is wrong with it
    if owner != os.geteuid():
        raise output.Failed(
            f"{directory} belongs to user {_name(owner)}: run `sudo -u {shlex.quote(_name(owner))} {command}`"
        )


def again(command: str, config_file: str | None) -> str:
    """``command`` as it may be run by another user: with the configuration's whole path."""
    given = config_file if config_file is not None else os.environ.get("RELAY_CONFIG")
    return command if not given else f"{command} --config {shlex.quote(str(Path(given).resolve()))}"


def _name(uid: int) -> str:
    """A user's name; ``#123`` (which sudo takes too) where there is none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
