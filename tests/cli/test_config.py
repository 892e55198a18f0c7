"""``relay config``: what is wrong is found before the daemon has to refuse it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from relay.cli import config
from relay.domain import model
from relay.store import destinations, opening
from tests.cli.conftest import Runner, Starter

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
            UPSTREAM + "[network]\nallow_private = ['127.0.0.0/8']\n"
            "[destinations.a]\nurl = 'https://127.0.0.1/x'\nsecret = 'short'",
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
        f"[destinations.shut]\nurl = 'http://10.0.0.1/'\nsecret = '{SECRET}'\n"
        f"[destinations.good]\nurl = 'http://127.0.0.1/'\nsecret = '{SECRET}'\n"
        "[network]\nallow_private = ['127.0.0.0/8']\n"
    )
    code, out, err = await check(relay, text, tmp_path)
    assert code == 2
    assert [line.split()[1].rstrip(":") for line in err] == [
        "store.url", "no", "destinations.a.secret", "destinations.b.url", "destinations.shut.url"
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


SLACK = "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


@pytest.mark.parametrize(
    ("url", "code", "parts"),
    [
        ("http://10.1.2.3/hooks/tok", 1, ["refused", "signed webhook", "http://10.1.2.3", "private"]),
        ("http://10.1.2.3/hooks/tok", 1, ["network.allow_private, with a range"]),
        ("http://0xa9fea9fe/tok", 1, ["refused", "169.254.169.254", "metadata", "nothing: this rule"]),
        ("http://127.0.0.1/tok", 0, ["allowed", "signed webhook", "127.0.0.1"]),
        ("json://127.0.0.1/tok", 0, ["allowed", "JSON", "json://"]),
        ("json://10.1.2.3/tok", 1, ["refused", "JSON", "private", "network.allow_private"]),
        ("mailto://u:tok@169.254.169.254?from=a@b.example", 1, ["refused", "E-Mail", "metadata"]),
        ("http://u:tok@127%2e0.0.1/", 2, ["unusable", "unreadable"]),
        ("json://127.0.0.1/tok?Verify=no", 2, ["unusable", "argument verify is not allowed"]),
        ("syslog://tok", 2, ["unusable", "acts on the machine"]),
        ("tok", 2, ["unusable", "starts with a scheme"]),
    ],
)
async def test_a_url_is_judged_and_not_repeated(
    relay: Runner, tmp_path: Path, url: str, code: int, parts: list[str]
) -> None:
    (tmp_path / "relay.toml").write_text("[network]\nallow_private = ['127.0.0.0/8']\n")
    (tmp_path / "url.txt").write_text(url + "\n")
    ended = await relay("config", "check-url", "@url.txt", "--config", "relay.toml")
    assert (ended.code, ended.err) == (code, "")
    for part in parts:
        assert part in ended.out
    assert "tok" not in ended.out
    if url.startswith(("json", "mailto")):
        assert "10.1.2.3" not in ended.out
        assert "169.254" not in ended.out


async def test_the_judgement_as_json(relay: Runner) -> None:
    ended = await relay("config", "check-url", "http://localhost:9/tok", "--json")
    assert ended.code == 1
    told = json.loads(ended.out)
    assert told.pop("problem").startswith("the address of localhost is refused by the rule loopback: ")
    assert {"address": "127.0.0.1", "rule": "loopback"} in told.pop("resolved")
    assert told == {
        "verdict": "refused",
        "service": "signed webhook",
        "address": "http://localhost:9",
        "rule": "loopback",
        "opened_by": "network.allow_private",
        "proxied": False,
    }


async def test_a_proxy_is_told_of_and_a_chat_service_is_recognised(relay: Runner) -> None:
    proxy = {"RELAY_NETWORK__PROXY": "http://u:hunter2@egress.invalid:3128"}
    ended = await relay("config", "check-url", SLACK, "--json", **proxy)
    assert ended.code == 0
    told = json.loads(ended.out)
    assert (told["service"], told["address"], told["proxied"]) == ("Slack", "slack://", True)
    ended = await relay("config", "check-url", "https://hooks.example/tok", **proxy)
    assert ended.code == 0
    assert "network.proxy resolves names and dials" in ended.out
    assert "hunter2" not in ended.out + ended.err


async def test_a_name_that_does_not_resolve_is_not_dialled_now(relay: Runner) -> None:
    ended = await relay("config", "check-url", "https://no-such-name.invalid/tok")
    assert ended.code == 1
    assert "unresolved" in ended.out
    assert "the name no-such-name.invalid cannot be resolved" in ended.out


async def test_the_url_comes_from_stdin_too(start: Starter) -> None:
    process = await start("config", "check-url", "-", stdin=b"http://10.1.2.3/tok\n")
    code, err = await process.ended()
    assert (code, err) == (1, "")
    assert any("private" in line for line in process.lines)


@pytest.mark.parametrize(("argument", "said"), [("@missing.txt", "No such file"), ("", "there is no URL")])
async def test_no_url_is_wrong_usage(relay: Runner, argument: str, said: str) -> None:
    ended = await relay("config", "check-url", argument)
    assert ended.code == 2
    assert said in ended.err


async def test_an_address_that_is_refused_is_a_problem_of_the_configuration(
    relay: Runner, tmp_path: Path
) -> None:
    text = UPSTREAM + (
        f"[destinations.a]\nurl = 'http://2130706433/tok'\nsecret = '{SECRET}'\n"
        "[destinations.b]\nurl = 'ntfy://127.0.0.1/tok'\n"
        f"[destinations.c]\nurl = 'https://hooks.example/tok'\nsecret = '{SECRET}'\n"
    )
    code, _, err = await check(relay, text, tmp_path)
    assert code == 2
    assert [line.split(":")[1].strip() for line in err] == ["destinations.a.url", "destinations.b.url"]
    assert all("rule loopback: network.allow_private can open it" in line for line in err)
    code, _, err = await check(relay, text + "[network]\nallow_private = ['127.0.0.0/8']\n", tmp_path)
    assert (code, err) == (0, [])


async def test_a_directory_that_cannot_be_looked_at_is_one_line(relay: Runner, tmp_path: Path) -> None:
    """As where only the daemon's user may enter; a name that is too long fails for everybody, root too."""
    directory = f"/{'d' * 300}"
    url = f"sqlite:///{directory}/relay.db"
    code, _, err = await check(relay, f"[store]\nurl = '{url}'\n{UPSTREAM}", tmp_path)
    assert (code, len(err)) == (2, 1)
    assert f"store.url: the directory {directory} cannot be looked at (File name too long)" in err[0]


# -- beside destinations that were made by API --------------------------------------------------------


async def made_by_api(directory: Path, *names: str) -> None:
    store = await opening.open_store(f"sqlite:///{directory / 'relay.db'}", exclusive=True, migrate=True)
    for name in names:
        await store.save_destination(
            destinations.StoredDestination(
                name=name,
                source=model.Source.API,
                owner=None,
                options=model.DestinationOptions(),
                sealed="x",
                created_at=1.0,
                changed_at=1.0,
                used_at=1.0,
            )
        )
    await store.aclose()


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("relay.db*")}


NAMES_MADE = UPSTREAM + (
    "[[routes]]\nnotify = ['made']\n[operator]\nnotify = ['hook', 'made']\n"
    f"[destinations.hook]\nurl = 'https://example.com/'\nsecret = '{SECRET}'\n"
)


async def test_a_name_that_was_made_by_api_cannot_be_routed_to_and_the_way_out_is_told(
    relay: Runner, tmp_path: Path
) -> None:
    await made_by_api(tmp_path, "made", "other")
    code, _, err = await check(relay, NAMES_MADE, tmp_path)
    assert code == 2
    assert [line.split()[1] for line in err] == ["routes.0.notify:", "operator.notify:"]
    for line in err:
        assert "made was made by API" in line
        assert "take it out, or run `relay destinations rm made` (while relay runs without it)" in line
        assert "[destinations.made]" in line
    refused = await relay("serve", "--config", "relay.toml")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert "routes.0.notify: no destination named 'made' in the configuration" in refused.err
    assert "none that was made by API can be named here" in refused.err


@pytest.mark.parametrize("made", [(), ("other",)])
async def test_one_that_nobody_made_is_told_as_ever(
    relay: Runner, tmp_path: Path, made: tuple[str, ...]
) -> None:
    if made:
        await made_by_api(tmp_path, *made)
    code, _, err = await check(relay, NAMES_MADE, tmp_path)
    assert code == 2
    [line] = [line for line in err if line.startswith("error: ")]
    assert "routes.0.notify: no destination named 'made' in the configuration" in line
    assert [line.partition(":")[0] for line in err if line != err[-1]] == ([] if made else ["not checked"])
    assert (tmp_path / "relay.db").exists() is bool(made)


async def test_a_name_that_both_have_is_refused_as_serve_refuses_it(relay: Runner, tmp_path: Path) -> None:
    await made_by_api(tmp_path, "hook", "other")
    text = UPSTREAM + f"[destinations.hook]\nurl = 'https://example.com/'\nsecret = '{SECRET}'\n"
    before = contents(tmp_path)
    code, _, err = await check(relay, text, tmp_path)
    assert code == 2
    [line] = err
    assert "destinations.hook: a destination of that name was made by API" in line
    assert "run `relay destinations rm hook` first, while relay runs without this one" in line
    assert contents(tmp_path) == before


async def test_what_was_not_checked_is_said(relay: Runner, tmp_path: Path) -> None:
    code, out, _ = await check(relay, UPSTREAM, tmp_path)
    assert (code, out.count("not checked: ")) == (0, 1)
    assert "there is no database at" in out
    (tmp_path / "relay.db").write_bytes(b"no database" * 100)
    code, out, _ = await check(relay, UPSTREAM, tmp_path)
    assert (code, out.count("not checked: ")) == (0, 1)
    (tmp_path / "relay.db").unlink()
    await made_by_api(tmp_path)
    code, out, _ = await check(relay, UPSTREAM, tmp_path)
    assert (code, "not checked" in out) == (0, False)
