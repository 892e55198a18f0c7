"""``/docs`` is readable without scripts, loads nothing, and shows all that there is."""

from __future__ import annotations

import re
from html import parser
from typing import Any

from relay.web import app, docs_page, openapi

VOID = {"meta", "br", "link"}


class Page(parser.HTMLParser):
    """What a browser would find."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        assert not {name for name in found if name.startswith("on") or name == "style"}
        if "id" in found:
            self.ids.append(found["id"] or "")
        if tag == "a":
            self.links.append(found["href"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_shows_every_operation_and_schema() -> None:
    document = openapi.document(app.ENDPOINTS)
    page = Page(docs_page.render(document))
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "form"}
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json"}
    for path, methods in document["paths"].items():
        assert path in page.text
        assert {told["operationId"] for told in methods.values()} <= set(page.ids)
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= set(page.ids)


def test_texts_are_escaped() -> None:
    document = openapi.document(app.ENDPOINTS)
    document["info"]["description"] = "<script>alert(1)</script> & `<b>`"
    rendered = docs_page.render(document)
    assert "<script" not in rendered
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; <code>&lt;b&gt;</code>" in rendered


async def test_both_are_served_to_anybody_and_kept_by_who_has_them(api: Any) -> None:
    for path, content_type in (("/openapi.json", "application/json"), ("/docs", "text/html")):
        first = await api.call("GET", path, key=None)
        assert first.status == 200
        assert first.headers["content-type"].startswith(content_type)
        again = {"If-None-Match": f'"other", W/{first.headers["etag"]}'}
        assert (await api.call("GET", path, key=None, headers=again)).status == 304
        other = {"If-None-Match": '"other"'}
        assert (await api.call("GET", path, key=None, headers=other)).status == 200


async def test_the_policy_lets_nothing_in_but_the_style_that_is_there(api: Any) -> None:
    reply = await api.call("GET", "/docs", key=None)
    policy = dict(
        part.strip().partition(" ")[::2] for part in reply.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]+'", policy["style-src"])
    assert "script-src" not in policy
    assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
