"""``relay config``: what is wrong is found before the daemon has to refuse it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from relay.cli import config
from tests.cli.conftest import Runner

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
UPSTREAM = "[upstreams.mindvideo]\napi_key = 'mv_live_xxx'\n"


async def check(relay: Runner, text: str, tmp_path: Path) -> tuple[int, str, list[str]]:
    (tmp_path / "relay.toml").write_text(text)
    ended = await relay("config", "check", "--config", "relay.toml")
    return ended.code, ended.out, ended.err.splitlines()


async def test_a_good_one_is_described(relay: Runner, tmp_path: Path) -> None:
    text = UPSTREAM + (
        f"[destinations.hook]\nurl = 'https://example.com/hooks/tok'\nsecret = '{SECRET}'\n"
        "[destinations.chat]\nurl = 'https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ'\n"
        "[destinations.mail]\nurl = 'mailto://user:password@example.com'\n"
    )
    code, out, err = await check(relay, text, tmp_path)
    assert (code, err) == (0, [])
    assert "destinations.hook: signed webhook, https://example.com\n" in out
    assert "destinations.chat: Slack through Apprise (recognised from its https URL)" in out
    assert "destinations.mail: " in out
    assert "upstreams.mindvideo: https://api.mindvideo.ai" in out
    assert out.endswith("\nok\n")
    for secret in (SECRET, "tok", "A1BRTD4JD", "password", "mv_live_xxx"):
        assert secret not in out
    assert not (tmp_path / "relay.db").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[server]\nprot = 1", ["relay.toml: server.prot: unknown key", "'port'"]),
        ("", ["no upstream is configured: add [upstreams.mindvideo]"]),
        ("[upstreams.mindvideo]\napi_key = ''", ["upstreams.mindvideo.api_key", "visible ASCII"]),
        (UPSTREAM + "[store]\nurl = 'sqlite:///missing/relay.db'", ["store.url", "missing does not exist"]),
        (UPSTREAM + "[destinations.a]\nurl = 'https://example.com/x'", ["destinations.a.secret", "whsec_"]),
        (
            UPSTREAM + "[destinations.a]\nurl = 'https://127.0.0.1/x'\nsecret = 'short'",
            ["destinations.a.secret"],
        ),
        (UPSTREAM + "[destinations.a]\nurl = 'no url'", ["destinations.a.url"]),
        (UPSTREAM + "[destinations.a]\nurl = 'slak://a/b/c'", ["destinations.a.url", "slack://"]),
        (UPSTREAM + "[destinations.a]\nurl = 'syslog://localhost'", ["destinations.a.url", "machine"]),
        (UPSTREAM + "[network]\nca_file = 'missing.pem'", ["network.ca_file", "No such file"]),
        (UPSTREAM + "[network]\nproxy = 'socks5://x'", ["network.proxy"]),
        (UPSTREAM + "[store]\nurl = 'mysql://x'", ["store.url", "sqlite:///"]),
    ],
)
async def test_a_bad_one_is_told_in_one_line_and_exits_2(
    relay: Runner, tmp_path: Path, text: str, parts: list[str]
) -> None:
    code, out, err = await check(relay, text, tmp_path)
    assert code == 2
    assert len(err) == 1
    for part in parts:
        assert part in err[0]
    assert "ok" not in out.splitlines()


async def test_all_problems_are_told(relay: Runner, tmp_path: Path) -> None:
    text = (
        "[store]\nurl = 'x'\n"
        "[destinations.a]\nurl = 'http://127.0.0.1/'\n"
        "[destinations.b]\nurl = 'slak://x'\n"
        f"[destinations.good]\nurl = 'http://127.0.0.1/'\nsecret = '{SECRET}'\n"
    )
    code, out, err = await check(relay, text, tmp_path)
    assert code == 2
    assert [line.split()[1].rstrip(":") for line in err] == [
        "store.url", "no", "destinations.a.secret", "destinations.b.url"
    ]  # fmt: skip
    assert "destinations.good: signed webhook" in out


async def test_an_unknown_variable_is_told_by_name(relay: Runner) -> None:
    ended = await relay("config", "check", RELAY_SERVER__PROT="1")
    assert ended.code == 2
    assert "RELAY_SERVER__PROT: unknown key; did you mean 'port'?" in ended.err


async def test_a_file_that_nobody_named_is_thought_of(relay: Runner, tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(UPSTREAM)
    for command in (["config", "check"], ["serve"]):
        ended = await relay(*command)
        assert ended.code == 2
        assert "no configuration file was named (--config FILE, or RELAY_CONFIG)" in ended.err
        assert len(ended.err.splitlines()) == 1


async def test_the_file_may_come_from_the_environment(relay: Runner, tmp_path: Path) -> None:
    ended = await relay("config", "check", RELAY_CONFIG=str(tmp_path / "missing.toml"))
    assert ended.code == 2
    assert "missing.toml: No such file" in ended.err


async def test_show_masks_secrets_and_marks_defaults(relay: Runner, tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(
        UPSTREAM + f"[server]\nport = 9\n[destinations.a]\nurl = 'slack://Tok/en/x'\nsecret = '{SECRET}'\n"
        "headers = { X-Shop = 'sesame' }\n"
        "[[routes]]\nnotify = ['a']\nwhen = {status = ['failed'], model = 'veo3-*'}\n"
        "[security]\nsecret_key = ['sesame-sesame-sesame']\n"
    )
    ended = await relay("config", "show", "--config", "relay.toml")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert "port = 9" in lines
    assert 'host = "127.0.0.1"  # default' in lines
    for secret in ("mv_live_xxx", "slack", "Tok", SECRET, "sesame"):
        assert secret not in ended.out
    shown = tomllib.loads(ended.out)
    assert shown["upstreams"]["mindvideo"]["api_key"] == "***"
    assert shown["destinations"]["a"]["headers"] == {"X-Shop": "***"}
    assert shown["security"]["secret_key"] == ["***"]
    assert shown["routes"] == [{"notify": ["a"], "when": {"status": ["failed"], "model": "veo3-*"}}]
    assert "#public_url =  # not set" in lines


async def test_the_example_is_the_file_of_the_repository(relay: Runner) -> None:
    ended = await relay("config", "example")
    file = Path(config.__file__).parents[2] / "config" / "relay.example.toml"
    assert ended.out == file.read_text("utf-8")
