"""``relay config``: the settings, before the daemon has to refuse them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import rich_click as click

from relay.cli import files, options, output, secret_input

if TYPE_CHECKING:
    import pydantic

    from relay import settings as settings_module
    from relay.senders import judging

EXAMPLE: Final = "relay.example.toml"
"""In ``config/`` of the repository; beside this package in what is installed."""


@click.group()
def config() -> None:
    """The settings: check, check a URL, show, an example."""


@config.command("check")
@options.config
def check(*, config_file: str | None) -> None:
    """Say what is wrong with the configuration, or what it sets up.

    \b
    relay config check --config relay.toml

    Where there is a database, names of destinations that were made by API are read from it, and nothing
    is changed.
    """
    settings = _load(config_file)
    lines, problems = asyncio.run(_examine(settings, config_file))
    for line in lines:
        output.line(line)
    if problems:
        raise output.Unusable("\n".join(problems))
    output.line("ok")


@config.command("check-url")
@click.argument("url")
@options.config
@click.option("--json", "as_json", is_flag=True, help="Print the judgement as JSON.")
def check_url(*, url: str, config_file: str | None, as_json: bool) -> int:
    """Say what relay would make of URL, and which rule keeps it from being dialled.

    Names are resolved; nothing is dialled. The URLs of destinations are secrets, and every user of the
    machine can read the arguments of commands: give - to read it from stdin, or @FILE.

    \b
    relay config check-url - < url.txt
    relay config check-url @url.txt --config relay.toml

    Exit codes: 0 it would be dialled, 1 it would not, 2 nothing can ever be sent to it.
    """
    from relay import wiring
    from relay.senders import judging

    network = wiring.network(files.load(files.path(config_file)))
    judgement = asyncio.run(judging.judge(_url(url), network))
    if as_json:
        output.line(json.dumps(_as_json(judgement), ensure_ascii=False))
    else:
        _show(judgement)
    return {judging.Verdict.ALLOWED: 0, judging.Verdict.UNUSABLE: 2}.get(judgement.verdict, 1)


def _url(text: str) -> str:
    """The argument's URL: as it is, from stdin (``-``), or from a file (``@FILE``)."""
    if text == "-" or text.startswith("@"):
        return secret_input.read(text, what="URL")
    if not (url := text.strip()):
        raise output.Unusable("there is no URL: give it as argument, by @FILE, or on stdin with -")
    return url


def _as_json(judgement: judging.Judgement) -> dict[str, Any]:
    return {
        "verdict": judgement.verdict,
        "service": judgement.service,
        "address": judgement.shown,
        "resolved": [{"address": address, "rule": rule} for address, rule in judgement.addresses],
        "rule": judgement.rule,
        "opened_by": judgement.opened_by,
        "proxied": judgement.proxied,
        "problem": judgement.problem,
    }


def _show(judgement: judging.Judgement) -> None:
    shown: dict[str, object] = {"verdict": judgement.verdict, "service": judgement.service}
    shown["address"] = judgement.shown
    if judgement.addresses:
        shown["resolved"] = [
            address if rule is None else f"{address} ({rule})" for address, rule in judgement.addresses
        ]
    if judgement.rule is not None:
        shown["rule"] = judgement.rule
        if judgement.opened_by is None:
            shown["opened by"] = "nothing: this rule has no exceptions"
        else:
            shown["opened by"] = f"{judgement.opened_by}, with a range that holds every refused address"
    if judgement.proxied:
        shown["proxy"] = "network.proxy resolves names and dials; only addresses spelled out are judged here"
    if judgement.problem is not None:
        shown["problem"] = judgement.problem
    output.fields(shown)


def _load(config_file: str | None) -> settings_module.Settings:
    """The settings. Raises ``errors.ConfigurationError``, and ``output.Unusable`` where routes or operator
    name what was made by API: ``serve`` refuses it too, but cannot know that there is such a destination.
    """
    from relay import settings as module
    from relay.domain import errors

    path = files.path(config_file)
    try:
        return files.load(path)
    except errors.ConfigurationError:
        try:
            rest = module.load(path, overrides={"routes": [], "operator": {"notify": []}})
            made, unchecked = _made_by_api(rest)
            if unchecked is not None:
                output.note(unchecked)
            stands_for = {"destinations": {name: {"url": "json://localhost"} for name in made}}
            named = module.load(path, overrides=stands_for)
        except errors.ConfigurationError:
            named = None  # something else is wrong too, or alone
        if named is None:
            raise
    places = {f"routes.{i}.notify": route.notify for i, route in enumerate(named.routes)}
    places["operator.notify"] = named.operator.notify
    raise output.Unusable(
        "\n".join(
            f"{place}: {name} was made by API, and only destinations of the configuration can be named here:"
            f" take it out, or run `relay destinations rm {name}` (while relay runs without it) and define"
            f" [destinations.{name}]"
            for place, names in places.items()
            for name in names
            if name not in rest.destinations
        )
    )


def _made_by_api(settings: settings_module.Settings) -> tuple[frozenset[str], str | None]:
    """Names that were made by API, and what could not be checked since they are not known."""
    from relay.domain import errors
    from relay.store import opening, peeking

    try:
        return peeking.made_by_api(opening.sqlite_path(settings.store.url).absolute()), None
    except errors.ConfigurationError:
        return frozenset(), None  # there is no database by such a URL, which is told elsewhere
    except errors.StoreUnavailable as exc:
        return frozenset(), f"not checked: whether names were given to destinations by API ({exc})"


def _twins(settings: settings_module.Settings) -> tuple[list[str], list[str]]:
    """The same in lines, and a problem for each name that both have: ``serve`` refuses to start with it."""
    from relay.domain import errors
    from relay.engine import definitions

    made, unchecked = _made_by_api(settings)
    problems: list[str] = []
    for name in settings.destinations:
        try:
            definitions.refuse_twins([name], made)
        except errors.ConfigurationError as exc:
            problems.append(str(exc))
    return [unchecked] if unchecked is not None else [], problems


async def _examine(
    settings: settings_module.Settings, config_file: str | None
) -> tuple[list[str], list[str]]:
    """What the settings set up, and what is wrong with it. Nothing is dialled or written."""
    from relay.domain import errors
    from relay.store import opening

    lines: list[str] = []
    problems: list[str] = []
    try:
        database = opening.sqlite_path(settings.store.url).absolute()
        lines.append(f"store: {database}")
        if not database.parent.is_dir():
            problems.append(f"store.url: the directory {database.parent} does not exist")
    except errors.ConfigurationError as exc:
        problems.append(str(exc))
    except OSError as exc:  # such as one that only the daemon's user may enter
        problems.append(f"store.url: the directory {database.parent} cannot be looked at ({exc.strerror})")
    lines += [f"upstreams.{name}: {upstream.base_url}" for name, upstream in settings.upstreams.items()]
    if not settings.upstreams:
        problems.append(files.no_upstream(config_file))
    try:
        lines += await _destinations(settings, list(settings.destinations))
    except errors.ConfigurationError:
        # The first problem hides the others, so the network and each destination are asked about alone.
        for names in ([], *([name] for name in settings.destinations)):
            try:
                lines += await _destinations(settings, names)
            except errors.ConfigurationError as exc:
                problems.append(str(exc))
    problems += await _refused(settings)
    unchecked, twins = _twins(settings)
    lines += unchecked
    problems += twins
    return lines, list(dict.fromkeys(problems))


async def _refused(settings: settings_module.Settings) -> list[str]:
    """A problem for each destination that nothing could ever be sent to.

    ``serve`` starts with one whose address is spelled out and refused; it would only never be told.
    Names are left alone: what they resolve to may change.
    """
    from relay import wiring
    from relay.domain import errors
    from relay.senders import judging

    urls = {name: one.url.get_secret_value() for name, one in settings.destinations.items()}
    try:
        judged = await judging.judge_all(urls, wiring.network(settings), resolve=False)
    except errors.ConfigurationError:
        return []  # the network itself cannot be used, which was told
    return [f"destinations.{name}.url: {one.problem}" for name, one in judged.items() if one.problem]


async def _destinations(settings: settings_module.Settings, names: Sequence[str]) -> list[str]:
    """A line about each named destination. Raises ``errors.ConfigurationError``."""
    from relay import wiring
    from relay.senders import opening

    senders = opening.make_senders(wiring.network(settings))
    try:
        specs = [wiring.destination_spec(settings, name) for name in names]
        return [
            f"destinations.{one.sender.name}: {_kind(one.service, settings.destinations[one.sender.name])}, "
            f"{one.sender.address}"
            for one in await senders.open(*specs)
        ]
    finally:
        await senders.aclose()


def _kind(service: str, destination: settings_module.DestinationSettings) -> str:
    """What a destination is sent as."""
    scheme = destination.url.get_secret_value().partition(":")[0].lower()
    if service == "signed webhook":
        return service
    if scheme in ("http", "https"):
        return f"{service} through Apprise (recognised from its {scheme} URL)"
    return f"{service} through Apprise"


@config.command("show")
@options.config
def show(*, config_file: str | None) -> None:
    """Print the settings in effect. Secrets are shown as ***."""
    for line in _lines(files.load(files.path(config_file)), ()):
        output.line(line)


@config.command("example")
def example() -> None:
    """Print a configuration file with every setting explained.

    \b
    relay config example > relay.toml
    """
    click.echo(example_text(), nl=False)


def example_text() -> str:
    """The example file's text."""
    package = Path(__file__).parent.parent
    for place in (package / EXAMPLE, package.parent / "config" / EXAMPLE):
        if place.is_file():
            return place.read_text("utf-8")
    raise output.Failed(f"{EXAMPLE} is not where relay was installed: install it again")


def _lines(section: pydantic.BaseModel, path: tuple[str, ...]) -> Iterator[str]:
    """``section`` as TOML: its values first, then the tables in it."""
    import pydantic

    tables: list[tuple[tuple[str, ...], pydantic.BaseModel, bool]] = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, pydantic.BaseModel):
            tables.append(((*path, name), value, False))
        elif isinstance(value, dict) and all(isinstance(one, pydantic.BaseModel) for one in value.values()):
            tables += [((*path, name, key), inner, False) for key, inner in value.items()]
        elif isinstance(value, list) and value and isinstance(value[0], pydantic.BaseModel):
            tables += [((*path, name), inner, True) for inner in value]
        elif value is None:
            yield f"#{name} =  # not set"
        elif name != "routes":
            default = not field.is_required() and value == field.get_default(call_default_factory=True)
            yield f"{name} = {_toml(value)}{'  # default' if default else ''}"
    for place, inner, repeated in tables:
        yield ""
        yield f"[[{'.'.join(place)}]]" if repeated else f"[{'.'.join(place)}]"
        yield from _lines(inner, place)


def _toml(value: Any) -> str:
    """One value, masked where it is secret."""
    import pydantic

    if isinstance(value, pydantic.SecretStr):
        return '"***"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(key)} = {_toml(one)}' for key, one in value.items())} }}"
    if isinstance(value, (int, float)):
        return str(value)
    return json.dumps(str(value), ensure_ascii=False)
