"""The examples of docs/api.md do what they say, each by its own interpreter where there is one."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests import harness
from tests.fakes import receivers, sandbox

DOCUMENT = (Path(__file__).parent.parent.parent / "docs" / "api.md").read_text()

NEEDED = {"sh": ("bash", "curl", "openssl"), "js": ("node",)}
FOUND = {
    "python": sys.executable,
    **{name: tools[0] for name, tools in NEEDED.items() if all(map(shutil.which, tools))},
}
SUFFIX = {"python": ".py", "js": ".mjs", "sh": ".sh"}

VERIFY = {
    "python": """
import json, sys
given = json.load(sys.stdin)
print(verified(given["secret"], given["headers"], given["body"].encode()))
""",
    "js": """
import { readFileSync } from "node:fs";
const given = JSON.parse(readFileSync(0));
console.log(verified(given.secret, given.headers, Buffer.from(given.body)) ? "True" : "False");
""",
    "sh": """
if verified "$1" "$2" "$3" "$4"; then echo True; else echo False; fi
""",
}


def block(language: str, kind: str) -> str:
    """The only block of that language and kind."""
    [found] = re.findall(rf"^```{language} {kind}\n(.*?)^```", DOCUMENT, re.M | re.S)
    return str(found)


async def run(
    directory: Path, language: str, text: str, *arguments: str, stdin: bytes = b"", **environment: str
) -> tuple[int, str]:
    """Exit status and output of an example."""
    script = directory / f"example{SUFFIX[language]}"
    script.write_text(text)
    strict = ("-euo", "pipefail") if language == "sh" else ()
    process = await asyncio.create_subprocess_exec(
        *(FOUND[language], *strict, str(script), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=harness.environment(**environment),
        cwd=directory,
    )
    try:
        async with asyncio.timeout(60):
            output, _ = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode()


def ask_verify(language: str, request: receivers.Request, body: bytes) -> tuple[tuple[str, ...], bytes]:
    """Arguments and standard input of a verification."""
    if language == "sh":
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        return (harness.SECRET, *(request.headers[name] for name in names)), body
    given = {"secret": harness.SECRET, "headers": request.headers, "body": body.decode()}
    return (), json.dumps(given).encode()


@pytest.mark.parametrize("language", FOUND)
async def test_submit_wait_and_verify(tmp_path: Path, language: str) -> None:
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox(speed=400) as upstream,
        harness.running(tmp_path, upstream, {"pipeline": harness.webhook(hook)}) as relay,
    ):
        for _ in range(2):  # the second is the same request again
            status, output = await run(
                tmp_path,
                language,
                block(language, "client"),
                RELAY_URL=relay.url,
                RELAY_API_KEY=harness.ADMIN_KEY,
            )
            assert status == 0, output
            task = json.loads(output)
            assert task["status"] == "succeeded"
            assert task["output"]["videos"]
        assert upstream.created == 1
        [request] = await hook.wait_for(1)
        assert json.loads(request.body)["data"]["task_id"] == task["task_id"]
        for body, expected in ((request.body, "True"), (request.body + b" ", "False")):
            arguments, stdin = ask_verify(language, request, body)
            text = block(language, "verify") + VERIFY[language]
            status, output = await run(tmp_path, language, text, *arguments, stdin=stdin)
            assert (status, output.strip()) == (0, expected)


@pytest.mark.parametrize("language", FOUND)
async def test_a_refusal_ends_the_example(tmp_path: Path, language: str) -> None:
    async with sandbox.running_sandbox() as upstream, harness.running(tmp_path, upstream) as relay:
        status, output = await run(
            tmp_path, language, block(language, "client"), RELAY_URL=relay.url, RELAY_API_KEY="rk_unknown"
        )
        assert status != 0
        assert "401" in output
        assert upstream.created == 0
