"""Every setting, where it may come from, and what is wrong with a bad one.

Sources, the later winning: defaults, the TOML file, systemd credentials
(``upstreams__mindvideo__api_key`` in ``$CREDENTIALS_DIRECTORY``), the environment
(``RELAY_UPSTREAMS__MINDVIDEO__API_KEY``). Every secret may also be given as the path of a file that
holds it, by the same name with ``_file``. No error ever prints a value.

Owns nothing but the values: what they mean is decided where they are used. Read ``load`` first.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from relay import complaints
from relay.domain import backoff, errors, ids, model

PREFIX: Final = "RELAY_"
SECRET_FILE_MAX: Final = 64 * 1024
"""Bytes of a secret's file that are read; a larger file is certainly not a secret."""
SECRET_LENGTH_MIN: Final = 16
"""Characters of a key of relay itself."""


def _split(value: object) -> object:
    """Lists from the environment: JSON, or words with commas between."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError as exc:
            raise ValueError("not a JSON list") from exc
    return [word.strip() for word in value.split(",") if word.strip()]


def _cidr(value: object) -> str:
    try:
        return str(ipaddress.ip_network(str(value), strict=True))
    except ValueError:
        raise ValueError("not a network such as 10.0.0.0/8 (no host bits set)") from None


Words = Annotated[list[str], BeforeValidator(_split)]
Seconds = Annotated[float, Field(gt=0, le=366 * 86400, allow_inf_nan=False)]
Days = Annotated[float, Field(gt=0, le=36500, allow_inf_nan=False)]


def _http_url(value: str) -> str:
    if re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value) is None or len(value) > 2000:
        raise ValueError("not an address such as https://api.example.com (no user, query or fragment)")
    return value


def _credential_text(value: SecretStr) -> SecretStr:
    if re.fullmatch(r"[\x21-\x7e]+", value.get_secret_value()) is None:
        raise ValueError("must be the key's visible ASCII characters, nothing else")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Credential = Annotated[SecretStr, AfterValidator(_credential_text)]


class Section(BaseModel):
    """A table of the file. Secrets in it may come from files."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        values = dict(data)
        for key in list(values):
            field = cls.model_fields.get(str(key).removesuffix("_file"))
            if field is None or key in cls.model_fields or not complaints.is_secret(field.annotation):
                continue
            name = key.removesuffix("_file")
            if name in values:
                raise ValueError(f"{name} and {key} are both set: keep one")
            values[name] = _secret_from(values.pop(key), key)
        return values


def _headers(value: object) -> object:
    """Headers by name; ``NAME_file`` names the file that holds the value of ``NAME``."""
    if not isinstance(value, dict):
        return value
    headers = {str(name): each for name, each in value.items()}
    for key in [name for name in headers if name.endswith("_file")]:
        name = key.removesuffix("_file")
        if name in headers:
            raise ValueError(f"{name} and {key} are both set: keep one")
        headers[name] = _secret_from(headers.pop(key), key)
    return headers


def _secret_from(path: object, key: str) -> str:
    try:
        with Path(str(path)).open("rb") as file:
            raw = file.read(SECRET_FILE_MAX + 1)
        text = raw.decode("utf-8").strip()
    except (OSError, ValueError) as exc:
        what = exc.strerror if isinstance(exc, OSError) and exc.strerror else "not readable as UTF-8 text"
        raise ValueError(f"the file that {key} names cannot be used: {what}") from None
    if not text or len(raw) > SECRET_FILE_MAX:
        raise ValueError(f"the file that {key} names is empty or over {SECRET_FILE_MAX} bytes")
    return text


class Server(Section):
    """``[server]``: where relay listens."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""
    public_url: HttpUrl | None = None
    """Where people reach this relay, without a path to the API. ``None``: messages carry no link to it."""
    drain_timeout: float = Field(default=8.0, ge=0, le=600)
    """Seconds for what is in flight when told to stop. Under systemd's and Docker's ten."""
    body_max_bytes: int = Field(default=1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    """Largest request body taken: room for compact data URIs."""
    requests_per_second_per_key: float = Field(default=50.0, gt=0, le=100_000)
    """Requests that one API key may make per second, over all routes; twice as many at once."""


class StoreSettings(Section):
    """``[store]``: what must survive."""

    url: str = "sqlite:///relay.db"
    """``sqlite:///relative.db`` (to the working directory) or ``sqlite:////absolute.db``."""


class RetentionSettings(Section):
    """``[retention]``: how long ended things are kept."""

    tasks_days: Days = 90.0
    """Days after its end."""
    events_days: Days = 30.0
    attempts_days: Days = 30.0


class UpstreamSettings(Section):
    """``[upstreams.NAME]``: one generation API and its credential."""

    base_url: HttpUrl = "https://api.mindvideo.ai"
    """Where ``/api/v1/tasks`` is."""
    api_key: Credential
    """The credential; sent as Bearer."""
    requests_per_second: float = Field(default=10.0, gt=0, le=10_000)
    """Budget of this credential over all requests; no vendor publishes its own limit."""
    concurrency: int = Field(default=32, ge=1, le=1000)
    """Polls in flight at once."""
    poll_interval_min: Seconds = 2.0
    """Seconds between two polls of a young task."""
    poll_interval_max: Seconds = 60.0
    """Seconds between two polls of an old or stalled task, and the longest wait after failures."""
    request_timeout: Seconds = 30.0
    """Seconds for one request, body included."""
    confirm_timeout: Seconds = 60.0
    """Seconds that an end may stay contradicted by the task endpoint before it is believed."""
    stall_timeout: Seconds = 7200.0
    """Seconds after which a task that has not ended is told as stalled; relay keeps asking."""
    submit_timeout: Seconds = 30.0
    """Seconds a caller waits for the upstream's answer to a create."""
    idempotency_window: Seconds = 3600.0
    """Seconds for which an unanswered create is asked again with its key; then it is unresolved."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> UpstreamSettings:
        if self.poll_interval_min > self.poll_interval_max:
            raise ValueError("poll_interval_min is larger than poll_interval_max")
        return self


class DestinationSettings(Section):
    """``[destinations.NAME]``: one place to tell."""

    url: SecretStr
    """http(s) for a signed webhook; any other URL is Apprise's."""
    secret: SecretStr | None = None
    """``whsec_…``; a webhook needs this or a signing key. Nothing else is signed."""
    previous_secret: SecretStr | None = None
    """``whsec_…`` that signs too, until every receiver knows the new one."""
    signing_key: SecretStr | None = None
    """``whsk_…``: an ed25519 key that signs (``v1a``), for receivers that are not to hold a secret."""
    headers: Annotated[dict[str, SecretStr], BeforeValidator(_headers)] = Field(default_factory=dict)
    """Headers of your own on every webhook. Their values are secrets."""
    statuses: Annotated[list[model.Change], BeforeValidator(_split)] | None = None
    """What it hears; ``None``: succeeded, failed, cancelled, lost and stalled."""
    prompt: bool = True
    """Whether messages quote the prompt."""
    schedule: Annotated[
        list[Annotated[float, Field(ge=0, le=7 * 86400, allow_inf_nan=False)]],
        BeforeValidator(_split),
        Field(min_length=1, max_length=50),
    ] = Field(default_factory=lambda: list(backoff.SCHEDULE))
    """Seconds before each attempt, from the one before; as many attempts as there are numbers."""
    timeout: Seconds | None = None
    """Seconds for one attempt; ``None``: 15 for webhooks, 10 for chat, 30 for mail."""
    concurrency: int | None = Field(default=None, ge=1, le=1000)
    """Sends in flight at once; ``None``: 8 for webhooks, 1 for chat and mail."""
    rate: float | None = Field(default=None, ge=0.001, le=10_000, allow_inf_nan=False)
    """Deliveries per second at most; ``None``: as fast as it takes them."""
    age_max: Seconds | None = None
    """Seconds after which what could not be told is given up; ``None``: never before the schedule ends."""
    retry_after_max: Seconds = backoff.RETRY_AFTER_MAX
    """Seconds that the peer may ask relay to wait at most; longer waits are the schedule's business."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> DestinationSettings:
        if self.previous_secret is not None and self.secret is None:
            raise ValueError("previous_secret is set, but no secret")
        return self


class FailingSettings(Section):
    """``[failing]``: when a destination to which nothing arrives is disabled, and how it is resumed."""

    window: Seconds = 5 * 86400.0
    """Seconds of nothing but failures. Longer than the schedule: a weekend and a Monday."""
    changes_min: int = Field(default=5, ge=1, le=1000)
    """Distinct deliveries that must have failed: one that it cannot digest does not silence it."""
    resume_rate: float = Field(default=10.0, ge=0.001, le=10_000, allow_inf_nan=False)
    """Held deliveries per second that are released when a destination is resumed or is back."""


class RouteWhen(Section):
    """``when`` of a route; what is absent matches everything."""

    status: Words | None = None
    """Globs over succeeded, failed, …"""
    model: str | None = None
    """A glob over the model's slug."""

    @pydantic.field_validator("status")
    @classmethod
    def _matches_something(cls, value: list[str] | None) -> list[str] | None:
        for word in value or []:
            if not any(re.fullmatch(_glob(word), change) for change in model.Change):
                raise ValueError("a status here matches none of " + ", ".join(model.Change))
        return value


def _glob(word: str) -> str:
    return re.escape(word).replace(r"\*", ".*").replace(r"\?", ".")


class RouteSettings(Section):
    """``[[routes]]``: for tasks whose registration names no destination. The first match wins."""

    when: RouteWhen = RouteWhen()
    notify: Annotated[Words, Field(min_length=1)]


class OperatorSettings(Section):
    """``[operator]``: who hears of relay's own troubles."""

    notify: Words = Field(default_factory=list)


class NetworkSettings(Section):
    """``[network]``: how receivers are reached. Upstreams are the operator's and are not judged."""

    allow_private: Annotated[list[Annotated[str, BeforeValidator(_cidr)]], BeforeValidator(_split)] = Field(
        default_factory=list
    )
    """Private ranges that receivers may live in."""
    proxy: SecretStr | None = None
    """For receivers; proxies from the environment are never used. May hold a password."""
    ca_file: Path | None = None
    """PEM file of authorities trusted beside the system's."""


class SecuritySettings(Section):
    """``[security]``: keys of relay itself."""

    secret_key: Annotated[list[SecretStr], BeforeValidator(_split)] = Field(default_factory=list)
    """Newest first, at least 16 characters each. Encrypts what is secret of destinations made by API;
    without any, relay makes one beside the database when it first needs it."""
    admin_key: SecretStr | None = None
    """An admin API key that is not in the database; at least 16 characters."""
    allow_inline_destinations: bool = False
    """Whether clients may name a URL instead of a destination: relay then sends wherever they say."""

    @pydantic.field_validator("admin_key")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < SECRET_LENGTH_MIN:
            raise ValueError(f"shorter than {SECRET_LENGTH_MIN} characters")
        return value

    @pydantic.field_validator("secret_key")
    @classmethod
    def _each_long_enough(cls, value: list[SecretStr]) -> list[SecretStr]:
        if any(len(key.get_secret_value()) < SECRET_LENGTH_MIN for key in value):
            raise ValueError(f"one of the keys is shorter than {SECRET_LENGTH_MIN} characters")
        return value


class CatalogueSettings(Section):
    """``[catalogue]``: which models there are, beside those that relay ships."""

    files: Annotated[list[Path], BeforeValidator(_split)] = Field(default_factory=list)
    """JSON files laid over the shipped catalogue, in order; relative to the working directory."""
    retired: Words = Field(default_factory=list)
    """Slugs of models that take no new tasks any more."""


class LogSettings(Section):
    """``[logs]``: what is written to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """debug, info, warning or error."""
    format: Literal["auto", "text", "json"] = "auto"
    """text for people, json for machines; auto is text on a terminal."""


class Settings(BaseSettings):
    """All of it."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    default_upstream: str | None = None
    """The upstream of a bare task id; ``None``: the only one there is."""
    server: Server = Server()
    store: StoreSettings = StoreSettings()
    retention: RetentionSettings = RetentionSettings()
    upstreams: dict[str, UpstreamSettings] = Field(default_factory=dict)
    destinations: dict[str, DestinationSettings] = Field(default_factory=dict)
    routes: list[RouteSettings] = Field(default_factory=list)
    failing: FailingSettings = FailingSettings()
    operator: OperatorSettings = OperatorSettings()
    network: NetworkSettings = NetworkSettings()
    security: SecuritySettings = SecuritySettings()
    catalogue: CatalogueSettings = CatalogueSettings()
    logs: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what ``load`` hands in: pydantic's own sources ignore names that they do not know."""
        return (init_settings,)

    @pydantic.model_validator(mode="after")
    def _check(self) -> Settings:
        for kind, names in (("upstreams", self.upstreams), ("destinations", self.destinations)):
            for name in names:
                if not ids.is_name(name):
                    raise ValueError(f"{kind}.{name[:80]!r}: names look like [a-z][a-z0-9_]{{0,62}}")
                if kind == "destinations" and name.startswith(ids.INLINE_PREFIX):
                    reserved = f"names that begin with {ids.INLINE_PREFIX} are for URLs that clients name"
                    raise ValueError(f"{kind}.{name}: {reserved}")
        if self.default_upstream is not None and self.default_upstream not in self.upstreams:
            meant = complaints.nearest(self.default_upstream, self.upstreams)
            raise ValueError(f"default_upstream: no such upstream{meant}")
        named = [(f"routes.{i}.notify", name) for i, r in enumerate(self.routes) for name in r.notify]
        named += [("operator.notify", name) for name in self.operator.notify]
        for where, name in named:
            if name not in self.destinations:
                meant = complaints.nearest(name, self.destinations)
                raise ValueError(
                    f"{where}: no destination named {name[:80]!r} in the configuration, and none that was"
                    f" made by API can be named here{meant}"
                )
        return self

    def upstream_by_default(self) -> str | None:
        """The upstream that a bare task id belongs to; ``None`` when that is not decided."""
        if self.default_upstream is not None:
            return self.default_upstream
        return next(iter(self.upstreams)) if len(self.upstreams) == 1 else None


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Read the settings.

    ``path`` is the TOML file; ``None`` takes ``RELAY_CONFIG``, or no file. ``overrides`` is a
    nested mapping that wins over everything (used by ``relay demo``). Raises
    ``errors.ConfigurationError`` with one line per problem.
    """
    if path is None and environ.get("RELAY_CONFIG"):
        path = Path(environ["RELAY_CONFIG"])
    values: dict[str, Any] = _read_toml(path) if path is not None else {}
    origins: dict[tuple[str, ...], str] = {}
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if directory:
        for file in sorted(Path(directory).glob("*__*")):
            keys = tuple(file.name.lower().split("__"))
            origins[keys] = f"credential {file.name}"
            _put(values, keys, _credential(file))
    for name, value in sorted(environ.items()):
        if name.startswith(PREFIX) and "__" in name:
            keys = tuple(name.removeprefix(PREFIX).lower().split("__"))
            origins[keys] = name
            _put(values, keys, value)
    values = _merge(values, overrides or {})
    try:
        return Settings(**values)
    except pydantic.ValidationError as exc:
        found = exc.errors(include_url=False, include_input=False)
        lines = [complaints.explain(error, Settings, origins=origins, path=path) for error in found]
        raise errors.ConfigurationError("\n".join(dict.fromkeys(lines))) from None


def _credential(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, ValueError) as exc:
        raise errors.ConfigurationError(
            f"credential {file.name}: cannot be read ({type(exc).__name__})"
        ) from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise errors.ConfigurationError(f"{path}: {exc.strerror or 'cannot be read'}") from None
    except UnicodeDecodeError:
        raise errors.ConfigurationError(f"{path}: not UTF-8") from None
    except tomllib.TOMLDecodeError as exc:
        where = re.search(r"\(at .*\)$", str(exc))
        raise errors.ConfigurationError(
            f"{path}: not valid TOML {where.group() if where else ''}: {_toml_reason(exc)}"
        ) from None


def _toml_reason(exc: tomllib.TOMLDecodeError) -> str:
    """The parser's message without what it quotes from the file."""
    return re.sub(r"['\"].*['\"]|\(at .*\)$", "…", str(exc)).strip()


def _put(values: dict[str, Any], keys: tuple[str, ...], value: str) -> None:
    """Set a nested value; what is no table on the way is replaced, and refused by validation later."""
    for key in keys[:-1]:
        inner = values.get(key)
        values[key] = dict(inner) if isinstance(inner, dict) else {}
        values = values[key]
    last = keys[-1]
    # A secret from here replaces one from there, whichever of the two spellings each used.
    values.pop(last.removesuffix("_file") if last.endswith("_file") else f"{last}_file", None)
    values[last] = value


def _merge(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in overrides.items():
        known = merged.get(key)
        nested = isinstance(value, Mapping) and isinstance(known, Mapping)
        merged[key] = _merge(known, value) if nested else value  # type: ignore[arg-type]
    return merged
