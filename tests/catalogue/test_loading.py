"""The operator's catalogue files: what they add, replace and retire, and how mistakes are told."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from relay.catalogue import loading
from relay.domain import errors

ENTRY: dict[str, Any] = {
    "slug": "house-model-1.0",
    "output_kind": "images",
    "cost_estimate": 0.10125,
    "example_input": {"prompt": "x"},
}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(*entries: object, name: str = "extra.json") -> Path:
        path = tmp_path / name
        path.write_text(json.dumps({"models": entries}), encoding="utf-8")
        return path

    return written


def test_a_file_adds_replaces_and_retires(write: Any) -> None:
    schema = {"type": "object", "properties": {"prompt": {"type": "string", "x-playground": {"rows": 3}}}}
    path = write(
        ENTRY,
        {**ENTRY, "slug": "kling-v3", "title": "Ours", "input_schema": schema, "schema_complete": True},
        {"slug": "viduq3", "retired": True},
        {**ENTRY, "slug": "gone", "retired": True},
    )
    shipped, found = loading.load(), loading.load([path])
    assert len(found) == len(shipped) + 2
    added, replaced, marked = found.find("house-model-1.0"), found.find("kling-v3"), found.find("viduq3")
    assert added is not None
    assert (added.cost_estimate, added.title, added.schema, added.schema_complete, added.retired) == (
        Decimal("0.10125"),
        None,
        None,
        False,
        False,
    )
    assert replaced is not None
    assert (replaced.title, replaced.schema, replaced.schema_complete) == ("Ours", schema, True)
    assert marked is not None
    assert marked.retired
    assert marked.example_input  # the rest of it stays
    assert {model.slug for model in found if model.retired} == {"viduq3", "gone"}
    assert "viduq3" not in found.nearest("viduq-3")
    assert "viduq3" in shipped.nearest("viduq-3")


def test_later_files_win_and_take_a_retirement_back(write: Any) -> None:
    first = write({"slug": "viduq3", "retired": True}, {**ENTRY, "title": "one"}, name="1.json")
    second = write({"slug": "viduq3", "retired": False}, {**ENTRY, "title": "two"}, name="2.json")
    found = loading.load([first, second])
    assert not [model for model in found if model.retired]
    model = found.find(ENTRY["slug"])
    assert model is not None
    assert model.title == "two"


def test_slugs_can_be_retired_without_a_file() -> None:
    found = loading.load(retired=["viduq3"])
    assert [model.slug for model in found if model.retired] == ["viduq3"]
    with pytest.raises(errors.ConfigurationError, match="'vidu-q3' to retire; the nearest is 'viduq3'"):
        loading.load(retired=["vidu-q3"])


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({**ENTRY, "cost_estimat": 1}, "unknown member 'cost_estimat'; the nearest is 'cost_estimate'"),
        ({**ENTRY, "slug": "No Spaces"}, "/slug: give 1 to 100 of"),
        ({**ENTRY, "slug": "x\n"}, "/slug: give 1 to 100 of"),
        ({**ENTRY, "output_kind": "sounds"}, "/output_kind"),
        ({**ENTRY, "cost_estimate": "0.1"}, "/cost_estimate"),
        ({**ENTRY, "cost_estimate": -1}, "/cost_estimate"),
        ({**ENTRY, "schema_complete": True}, "/schema_complete: is true without an input_schema"),
        ({**ENTRY, "input_schema": {"type": "nonsense"}}, "/input_schema/type"),
        (
            {**ENTRY, "input_schema": {"properties": {"a": {"pattern": "("}}}},
            "/input_schema/properties/a/pattern",
        ),
        (
            {**ENTRY, "input_schema": {"$ref": "http://127.0.0.1:9/x.json"}},
            "may not refer to http://127.0.0.1:9/x",
        ),
        (
            {**ENTRY, "input_schema": {"$ref": "file:///etc/hostname"}},
            "may not refer to file:///etc/hostname",
        ),
        ({**ENTRY, "input_schema": {"required": ["size"]}}, "/example_input: does not suit the input_schema"),
        (
            {**ENTRY, "input_schema": {"properties": {"prompt": False}}},
            "/example_input/prompt: does not suit",
        ),
        ({"slug": "viduq3", "retired": 1}, "/retired: give true or false"),
        ({"slug": "vidu-q3", "retired": True}, "only where it is known; the nearest is 'viduq3'"),
        ({"output_kind": "images"}, "entry 2: "),
        (7, "entry 2: "),
    ],
)
def test_a_bad_entry_is_named_with_file_place_and_reason(write: Any, entry: Any, said: str) -> None:
    path = write({**ENTRY, "slug": "good"}, entry)
    with pytest.raises(errors.ConfigurationError) as caught:
        loading.load([path])
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert said in text
    assert "\n" not in text
    if isinstance(entry, dict) and "slug" in entry:
        assert repr(entry["slug"]) in text


def test_references_within_a_schema_work(write: Any) -> None:
    schema = {"properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}
    model = loading.load([write({**ENTRY, "input_schema": schema})]).find(ENTRY["slug"])
    assert model is not None
    assert [fault.pointer for fault in model.faults({"n": "1"})] == ["/input/n"]


def test_an_entry_twice_in_one_file(write: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="is there twice"):
        loading.load([write(ENTRY, ENTRY)])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not JSON: .* \\(line 1, column 2\\)"),
        (b"[]", "give an object"),
        (b'{"models": {}}', "give an object"),
        (b'{"models": [], "model": []}', "unknown member 'model'; the nearest is 'models'"),
        (b'{"models": [{"cost_estimate": NaN}]}', "NaN is not JSON"),
        (b"[" * 200_000, "not usable JSON"),
        (b"\xff", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "give an object"),
    ],
)
def test_a_file_that_is_no_catalogue(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "models.json"
    path.write_bytes(content)
    with pytest.raises(errors.ConfigurationError, match=said) as caught:
        loading.load([path])
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match="No such file"):
        loading.load([tmp_path / "none.json"])
    with pytest.raises(errors.ConfigurationError, match="directory"):
        loading.load([tmp_path])
