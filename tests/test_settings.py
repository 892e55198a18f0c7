"""Settings: where they come from, which wins, and how a bad one is told."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pydantic
import pytest

from relay import settings
from relay.domain import errors

EXAMPLE = Path(__file__).parent.parent / "config" / "relay.example.toml"
SECRET = "hunter2-hunter2-hunter2"


def load(text: str = "", *, tmp_path: Path | None = None, **environ: str) -> settings.Settings:
    if tmp_path is None:
        return settings.load(environ=environ)
    file = tmp_path / "relay.toml"
    file.write_text(text, "utf-8")
    return settings.load(file, environ=environ)


def refusal(text: str = "", *, tmp_path: Path | None = None, **environ: str) -> str:
    with pytest.raises(errors.ConfigurationError) as caught:
        load(text, tmp_path=tmp_path, **environ)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    return str(caught.value)


# -- the example ------------------------------------------------------------------------------------


def uncommented() -> str:
    """The example with every ``#key = value`` and ``#[section]`` in use."""
    return re.sub(r"^#(?=[\w\[])", "", EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)


def test_the_example_is_the_defaults() -> None:
    assert settings.load(EXAMPLE, environ={}) == settings.load(environ={})


def test_the_example_holds_every_setting_at_its_default(tmp_path: Path) -> None:
    loaded = load(uncommented(), tmp_path=tmp_path)
    values = tomllib.loads(uncommented())
    seen = 0
    for name, section, given in sections(loaded, values):
        for key, field in type(section).model_fields.items():
            assert key in given, f"{name}.{key} is not in the example"
            default = field.get_default(call_default_factory=True)
            nested = isinstance(getattr(section, key), (dict, pydantic.BaseModel)) or key == "routes"
            if not nested and not field.is_required() and default is not None:
                assert getattr(section, key) == default, f"{name}.{key} is not the default"
            seen += 1
    assert seen > 40


def test_every_setting_of_the_example_is_explained() -> None:
    lines = EXAMPLE.read_text("utf-8").splitlines()
    for before, line in itertools.pairwise(lines):
        if re.match(r"#?\w+ = ", line):
            assert before.startswith("# "), f"{line!r} has no comment above it"


def sections(
    section: pydantic.BaseModel, given: Mapping[str, Any], name: str = "settings"
) -> Iterator[tuple[str, pydantic.BaseModel, Mapping[str, Any]]]:
    yield name, section, given
    for key in type(section).model_fields:
        value, inner = getattr(section, key), given.get(key)
        if isinstance(value, pydantic.BaseModel):
            assert isinstance(inner, dict)
            yield from sections(value, inner, f"{name}.{key}")
        elif isinstance(value, dict):
            for one, each in value.items():
                if isinstance(each, pydantic.BaseModel):
                    yield from sections(each, given[key][one], f"{name}.{key}.{one}")
        elif key == "routes":
            for index, each in enumerate(value):
                yield from sections(each, given[key][index], f"{name}.{key}")


# -- where they come from ---------------------------------------------------------------------------


def test_nothing_at_all_is_fine() -> None:
    loaded = load()
    assert loaded.server.port == 8080
    assert loaded.store.url == "sqlite:///relay.db"
    assert loaded.upstream_by_default() is None


def test_environment_beats_credential_beats_file(tmp_path: Path) -> None:
    text = "[server]\nport = 1\ndrain_timeout = 1.0\nhost = 'h'"
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "server__port").write_text("2\n")
    (credentials / "server__drain_timeout").write_text("2")
    (credentials / "relay.toml").write_text("not a setting")
    loaded = load(text, tmp_path=tmp_path, CREDENTIALS_DIRECTORY=str(credentials), RELAY_SERVER__PORT="3")
    assert (loaded.server.port, loaded.server.drain_timeout, loaded.server.host) == (3, 2.0, "h")


def test_overrides_beat_all(tmp_path: Path) -> None:
    loaded = settings.load(environ={"RELAY_SERVER__PORT": "3"}, overrides={"server": {"port": 4}})
    assert loaded.server.port == 4


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("[server]\nport = 5")
    assert settings.load(environ={"RELAY_CONFIG": str(file)}).server.port == 5


def test_names_without_two_underscores_are_others_business() -> None:
    load(RELAY_PORT="tcp://10.0.0.1:80", RELAY_SERVICE_HOST="x", RELAY_URL="y", RELAY_API_KEY="z")


@pytest.mark.parametrize("where", ["environment", "environment's file", "file's file", "credential", "file"])
def test_a_secret_may_come_from_anywhere(tmp_path: Path, where: str) -> None:
    text, environ = "[upstreams.mindvideo]\n", {}
    (tmp_path / "secret").write_text(f"  {SECRET}\n")
    (tmp_path / "upstreams__mindvideo__api_key").write_text(f"{SECRET}\n")
    match where:
        case "environment":
            environ = {"RELAY_UPSTREAMS__MINDVIDEO__API_KEY": SECRET}
        case "environment's file":
            environ = {"RELAY_UPSTREAMS__MINDVIDEO__API_KEY_FILE": str(tmp_path / "secret")}
        case "file's file":
            text += f"api_key_file = '{tmp_path / 'secret'}'"
        case "credential":
            environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
        case "file":
            text += f"api_key = '{SECRET}'"
    loaded = load(text, tmp_path=tmp_path, **environ)
    assert loaded.upstreams["mindvideo"].api_key.get_secret_value() == SECRET
    assert SECRET not in repr(loaded)
    assert SECRET not in str(loaded.model_dump())


def test_a_secret_from_the_environment_replaces_the_files_whichever_way_each_is_spelt(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-a-file")
    text = f"[upstreams.mindvideo]\napi_key_file = '{tmp_path / 'secret'}'"
    loaded = load(text, tmp_path=tmp_path, RELAY_UPSTREAMS__MINDVIDEO__API_KEY=SECRET)
    assert loaded.upstreams["mindvideo"].api_key.get_secret_value() == SECRET
    text = "[upstreams.mindvideo]\napi_key = 'x'"
    loaded = load(text, tmp_path=tmp_path, RELAY_UPSTREAMS__MINDVIDEO__API_KEY_FILE=str(tmp_path / "secret"))
    assert loaded.upstreams["mindvideo"].api_key.get_secret_value() == "from-a-file"


@pytest.mark.parametrize("words", ["succeeded,failed", " succeeded , failed ", '["succeeded", "failed"]'])
def test_lists_from_the_environment_are_words_or_json(words: str) -> None:
    loaded = load(RELAY_DESTINATIONS__A__URL="slack://x", RELAY_DESTINATIONS__A__STATUSES=words)
    assert loaded.destinations["a"].statuses == ["succeeded", "failed"]


def test_secret_lists_from_the_environment() -> None:
    loaded = load(RELAY_SECURITY__SECRET_KEY=f"new-{SECRET},old-{SECRET}")
    keys = [key.get_secret_value() for key in loaded.security.secret_key]
    assert keys == [f"new-{SECRET}", f"old-{SECRET}"]


def test_a_destinations_headers_are_secrets_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer filed\n")
    text = f"""[destinations.a]
url = 'https://x'
headers = {{ X-Shop = 'north', Authorization_file = '{tmp_path}/token' }}"""
    loaded = load(text, tmp_path=tmp_path, RELAY_DESTINATIONS__A__HEADERS__TRACE="on")
    shown = {name: value.get_secret_value() for name, value in loaded.destinations["a"].headers.items()}
    assert shown == {"X-Shop": "north", "Authorization": "Bearer filed", "trace": "on"}
    twice = "[destinations.a]\nurl = 'https://x'\nheaders = { X = 'a', X_file = 'b' }"
    assert "X and X_file are both set" in refusal(twice, tmp_path=tmp_path)
    assert "unknown key" in refusal("[destinations.a]\nurl = 'x'\nheaders_file = 'y'", tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[destinations.inline_x]\nurl = 'https://x'", "names that begin with inline_"),
        (
            "[destinations.a]\nurl = 'https://x'\nprevious_secret = 'y'",
            "previous_secret is set, but no secret",
        ),
        ("[destinations.a]\nurl = 'https://x'\nrate = 0", "greater than or equal to 0.001"),
        ("[destinations.a]\nurl = 'https://x'\nconcurrency = 0", "greater than or equal to 1"),
        ("[security]\nsecret_key = ['short']", "shorter than 16 characters"),
        ("[failing]\nwindow = 0", "greater than 0"),
    ],
)
def test_what_a_destination_cannot_have_is_told(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(text, tmp_path=tmp_path)


def test_a_bare_id_belongs_to_the_only_upstream_or_the_one_that_is_named() -> None:
    one = {"RELAY_UPSTREAMS__A__API_KEY": "x"}
    assert load(**one).upstream_by_default() == "a"
    two = one | {"RELAY_UPSTREAMS__B__API_KEY": "y"}
    assert load(**two).upstream_by_default() is None
    assert (
        load(**two, RELAY_DEFAULT_UPSTREAM="b").upstream_by_default() is None
    )  # one underscore: not a setting


# -- what is wrong with a bad one -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[server]\nprot = 1", ["server.prot: unknown key", "'port'"]),
        ("[sever]\nport = 1", ["sever: unknown key", "'server'"]),
        (
            "[upstreams.mindvideo]\napi_key = 'x'\nbase_ulr = 'x'",
            ["upstreams.mindvideo.base_ulr: unknown key", "'base_url'"],
        ),
        ("[upstreams.mindvideo]", ["upstreams.mindvideo.api_key: is required"]),
        ("[destinations.a]\nsecret = 'x'", ["destinations.a.url: is required"]),
        ("[server]\nport = 'x'", ["server.port: must be an integer"]),
        ("[server]\nport = 70000", ["server.port: ", "65535"]),
        ("[server]\ndrain_timeout = nan", ["server.drain_timeout: "]),
        ("[server]\npublic_url = 'relay.example.com'", ["server.public_url: ", "https://api.example.com"]),
        ("[upstreams.a]\napi_key = ''", ["upstreams.a.api_key: must be the key's visible ASCII"]),
        ("[upstreams.a]\napi_key = 'two words'", ["upstreams.a.api_key: must be the key's visible ASCII"]),
        ("[retention]\ntasks_days = inf", ["retention.tasks_days: "]),
        ("[upstreams.Bad-Name]\napi_key = 'x'", ["Bad-Name", "[a-z][a-z0-9_]"]),
        ("default_upstream = 'b'\n[upstreams.a]\napi_key = 'x'", ["default_upstream: no such upstream"]),
        ("[[routes]]\nnotify = ['rendrs']\n[destinations.renders]\nurl = 'x://y'", ["rendrs", "'renders'"]),
        ("[[routes]]\nnotify = []", ["routes.0.notify: must have at least 1 item"]),
        (
            "[[routes]]\nnotify = ['a']\nwen = 1\n[destinations.a]\nurl = 'x://y'",
            ["routes.0.wen: unknown key"],
        ),
        (
            "[[routes]]\nnotify = ['a']\nwhen = {statis = ['x']}\n[destinations.a]\nurl = 'x://y'",
            ["routes.0.when.statis: unknown key", "'status'"],
        ),
        (
            "[[routes]]\nnotify = ['a']\nwhen = {status = ['done']}\n[destinations.a]\nurl = 'x://y'",
            ["routes.0.when.status", "succeeded"],
        ),
        ("[operator]\nnotify = ['x']", ["operator.notify: no destination named 'x'"]),
        ("[network]\nallow_private = ['10.0.0.1/8']", ["network.allow_private.0: ", "10.0.0.0/8"]),
        ("[upstreams.a]\napi_key = 'x'\npoll_interval_min = 90.0", ["poll_interval_min is larger"]),
        ("[security]\nadmin_key = 'short'", ["security.admin_key: shorter than 16"]),
        ("[destinations.a]\nurl = 'x://y'\nschedule = []", ["destinations.a.schedule: "]),
        ("[destinations.a]\nurl = 'x://y'\nstatuses = ['done']", ["destinations.a.statuses.0: "]),
        ("[logs]\nlevel = 'loud'", ["logs.level: must be 'debug', 'info', 'warning' or 'error'"]),
        ("[server\nport = 1", ["not valid TOML", "line 1"]),
        ("server = 1", ["server: "]),
        ("upstreams = 1", ["upstreams: "]),
    ],
)
def test_a_bad_file_is_told_with_its_key(tmp_path: Path, text: str, parts: list[str]) -> None:
    said = refusal(text, tmp_path=tmp_path)
    assert "relay.toml" in said
    for part in parts:
        assert part in said
    assert "pydantic" not in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("RELAY_SERVER__PROT", "1", "'port'"),
        ("RELAY_SEVER__PORT", "1", "'server'"),
        ("RELAY_SERVER__PORT", "x", ""),
        ("RELAY_SERVER__PORT__X", "1", ""),
        ("RELAY_UPSTREAMS__MINDVIDEO__API_KYE", SECRET, "'api_key'"),
        ("RELAY_UPSTREAMS__MINDVIDEO", "x", ""),
        ("RELAY_NETWORK__ALLOW_PRIVATE", "[1", ""),
        ("RELAY___X", "1", ""),
    ],
)
def test_a_bad_variable_is_told_by_its_own_name(name: str, value: str, hint: str) -> None:
    said = refusal(**{name: value})
    assert name in said
    assert hint in said


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    said = refusal("[server]\nprot = 1\nport = 'x'\n[logs]\nlevel = 'loud'", tmp_path=tmp_path)
    assert len(said.splitlines()) == 3


@pytest.mark.parametrize(
    "text",
    [
        f"[upstreams.a]\napi_key = ['{SECRET}']",
        f"[destinations.a]\nurl = 'x://y'\nsecret = {{x = '{SECRET}'}}",
        f"[network]\nproxy = ['{SECRET}']",
        f"[security]\nsecret_key = [['{SECRET}']]",
        f"[security]\nsecret_key = ['{SECRET}', 'short']",
        f"[destinations.a]\nurl = 'https://x'\nheaders = {{X = ['{SECRET}']}}",
        f"[destinations.a]\nurl = 'https://x'\nheaders = '{SECRET}'",
        f"[destinations.a]\nurl = 'https://x'\nheaders = {{X_file = '/nowhere/{SECRET}'}}",
        f"[server]\npublic_url = '{SECRET}'",
        f"[server]\nport = '{SECRET}'",
        f"api_key = '{SECRET}\n",
        f"api_key = {SECRET}",
        f"'{SECRET}' = 1\n'{SECRET}' = 2",
        f"[network]\nallow_private = ['{SECRET}']",
        f"[upstreams.a]\napi_key = 'x'\napi_key_file = '{SECRET}'",
        f"[upstreams.a]\napi_key_file = '/nowhere/{SECRET}'",
    ],
)
def test_no_error_shows_a_value(tmp_path: Path, text: str) -> None:
    refusal(text, tmp_path=tmp_path)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match="No such file"):
        settings.load(tmp_path / "missing.toml", environ={})
    with pytest.raises(errors.ConfigurationError, match="directory"):
        settings.load(tmp_path, environ={})
    (tmp_path / "latin.toml").write_bytes(b"# \xff")
    with pytest.raises(errors.ConfigurationError, match="UTF-8"):
        settings.load(tmp_path / "latin.toml", environ={})


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"", "empty"), (b"x" * 100_000, "over"), (b"\xff", "UTF-8")],
)
def test_a_secrets_file_that_cannot_be_used_is_told(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    error = refusal(RELAY_UPSTREAMS__A__API_KEY_FILE=str(file))
    assert "RELAY_UPSTREAMS__A__API_KEY_FILE" in error or "api_key_file" in error
    assert said in error


def test_every_secret_is_a_secret_type() -> None:
    """Whatever is called a key or a secret, or may hold a password, is masked wherever it is printed."""
    named = {"api_key", "secret", "previous_secret", "signing_key", "headers", "url", "proxy"}
    named |= {"secret_key", "admin_key"}
    public = {("StoreSettings", "url")}
    found = set()
    for section in settings.Section.__subclasses__():
        for name, field in section.model_fields.items():
            if name in named and (section.__name__, name) not in public:
                assert "SecretStr" in str(field.annotation), (section, name)
                found.add(name)
    assert found == named
    assert get_args(settings.Seconds)[0] is float
