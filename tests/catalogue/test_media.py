"""Hosted URLs and data URIs in inputs: what is let through, what is refused and where."""

from __future__ import annotations

import base64
import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.catalogue import loading, media

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
UPLOAD = {"widget": "file-upload", "uploadKind": "image", "accept": "image/*"}
SCHEMA = {
    "properties": {
        "prompt": {"type": "string", "x-playground": {"widget": "textarea"}},
        "picture": {"type": "string", "x-playground": UPLOAD},
        "pictures": {"type": "array", "items": {"type": "string"}, "x-playground": UPLOAD},
        "frames": {"items": {"properties": {"url": {"x-playground": {"uploadKind": "video"}}}}},
        "exact": {"x-playground": {"widget": "file-upload", "accept": "image/png, image/jpeg"}},
        "by_ending": {"x-playground": {"widget": "file-upload", "accept": ".png"}},
    }
}


def data_uri(content: bytes = PNG, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def pointers(task_input: dict[str, object], bytes_max: int = media.DATA_URI_BYTES_MAX) -> list[str]:
    return [fault.pointer for fault in media.check(task_input, SCHEMA, bytes_max=bytes_max)]


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/a.png",
        "http://user:pass@example.com:8080/a?b=c#d",
        "HTTPS://[::1]/a.png",
        "https://example.com/" + "a" * (media.URL_MAX - 20),
        data_uri(),
        data_uri().replace("data:image/png", "DATA:Image/PNG"),
        "data:image/png;name=a.png;base64,AAAA",
        "data:image/svg+xml,%3Csvg%2F%3E",
        "data:image/png;base64,AA%3D%3D",
        "data:image/png,",
    ],
)
def test_media_that_pass(text: str) -> None:
    assert pointers({"picture": text, "pictures": [text]}) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "picture.png",
        "ftp://example.com/a.png",
        "file:///etc/hostname",
        "https://",
        "https:///a.png",
        "https://example.com:99999/",
        "https://[::1/",
        "https://example.com/a b",
        "https://example.com/a\nb",
        "https://example.com/" + "a" * media.URL_MAX,
        "data:",
        "data:image/png;base64",
        "data:image/png;base64,A",
        "data:image/png;base64,AAA",
        "data:image/png;base64,AA==AA==",
        "data:image/png;base64,AA A",
        "data:image/png;base64,AA-_",
        "data:image/png;base64,ü",
        "data:image/png,%zz",
        "data:image/png,100%",
        "data:image/png,\udc80",
        "data:nonsense,abc",
        "data:image/png" + ";a=b" * 100 + ",abc",
        "data:video/mp4;base64,AAAA",
        "data:,text",
    ],
)
def test_media_that_are_refused_each_at_its_place(text: str) -> None:
    assert pointers({"picture": text, "pictures": ["https://example.com/", text]}) == [
        "/input/picture",
        "/input/pictures/1",
    ]


def test_the_type_is_held_against_the_hint() -> None:
    video = data_uri(media_type="video/mp4")
    assert pointers({"frames": [{"url": video, "role": "first"}]}) == []
    assert pointers({"frames": [{"url": data_uri()}]}) == ["/input/frames/0/url"]
    assert pointers({"exact": data_uri(), "by_ending": video}) == []
    assert pointers({"exact": data_uri(media_type="image/webp")}) == ["/input/exact"]


def test_without_a_hint_only_what_looks_like_a_data_uri_is_looked_at() -> None:
    prose = {"prompt": "data:image/png;base64,§", "title": "data: the new oil, they say", "size": "16:9"}
    assert pointers({**prose, "anything": {"url": "picture.png"}}) == []
    assert pointers({"anything": {"url": [data_uri(), "data:image/png;base64,A"]}}) == [
        "/input/anything/url/1"
    ]
    assert list(media.check({"a": data_uri(), "b": 7, "c": None}, None)) == []


@pytest.mark.parametrize("encode", [data_uri, lambda content: "data:image/png," + "%41" * len(content)])
def test_size_is_bounded_to_the_byte(encode: object) -> None:
    assert callable(encode)
    assert pointers({"picture": encode(b"A" * 1000)}, bytes_max=1000) == []
    assert pointers({"picture": encode(b"A" * 1001)}, bytes_max=1000) == ["/input/picture"]
    [fault] = media.check({"picture": encode(b"A" * 1_000_000)}, SCHEMA)
    assert fault.detail == "The data URI is over 700,000 bytes; give large media as a hosted URL."


def test_a_model_judges_media_by_its_own_schema_and_the_limit_it_is_given() -> None:
    model = loading.load().find("minimax-hailuo-2-3")
    assert model is not None
    task_input = {"prompt": "x", "first_frame_image": data_uri()}
    assert model.faults(task_input) == []
    [fault] = model.faults(task_input, data_uri_bytes_max=1000)
    assert fault.pointer == "/input/first_frame_image"


@given(st.binary(max_size=200), st.sampled_from(["image/png", "application/x.y+z", ""]))
def test_what_was_encoded_is_what_is_parsed(content: bytes, media_type: str) -> None:
    parsed = media.parse(data_uri(content, media_type))
    assert parsed == media.DataURI(media_type or "text/plain", content)


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_malformed(text: str) -> None:
    for uri in (text, f"data:{text}", f"data:image/png;base64,{text}"):
        with contextlib.suppress(media.Malformed):
            assert "/" in media.parse(uri).media_type


def test_large_data_uris_are_named_and_the_rest_is_kept() -> None:
    small = data_uri(b"small")
    escaped = "data:text/plain;charset=utf-8," + "%41" * 1000
    broken = "data:image/png;base64," + "§" * 2000
    task_input = {
        "prompt": "data: " * 1000,
        "small": small,
        "deep": [{"url": data_uri(), "n": 7}],
        "escaped": escaped,
        "broken": broken,
    }
    shown = media.redacted(task_input)
    digest = hashlib.sha256(PNG).hexdigest()
    assert shown["prompt"] == task_input["prompt"]
    assert shown["small"] == small
    assert shown["deep"] == [{"url": f"data:image/png;sha256={digest};bytes={len(PNG)}", "n": 7}]
    expected = hashlib.sha256(b"A" * 1000).hexdigest()
    assert shown["escaped"] == f"data:text/plain;sha256={expected};bytes=1000"
    assert str(shown["broken"]).startswith("data:application/octet-stream;sha256=")
    assert task_input["deep"] == [{"url": data_uri(), "n": 7}]
