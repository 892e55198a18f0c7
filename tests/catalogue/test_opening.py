"""When a catalogue is read: at the start what the operator says of it, the shipped one when it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from relay.catalogue import opening
from relay.domain import errors

LOADED = "print('jsonschema_rs' in sys.modules)"


def run(*lines: str) -> list[str]:
    """What a fresh interpreter prints."""
    code = "\n".join(["import sys", "from relay.catalogue import opening", *lines])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_nothing_is_loaded_before_the_first_question() -> None:
    lines = ("found = opening.open_catalogue([], [])", LOADED, "print(len(found))", LOADED)
    assert run(*lines) == ["False", "33", "True"]


def test_the_first_question_may_be_any() -> None:
    assert opening.open_catalogue([], []).nearest("viduq33")[0] == "viduq3"
    assert opening.open_catalogue([], []).find("viduq3") is not None
    assert len(list(opening.open_catalogue([], []))) == 33


@pytest.fixture
def entry() -> dict[str, Any]:
    return {"slug": "ours-1", "output_kind": "images", "cost_estimate": 0.1, "example_input": {"text": "x"}}


def test_a_file_is_checked_before_it_is_asked_for_anything(tmp_path: Path, entry: Mapping[str, Any]) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"models": [{**entry, "input_schema": {"required": ["none"]}}]}))
    with pytest.raises(errors.ConfigurationError, match="/example_input"):
        opening.open_catalogue([file], [])


def test_a_file_that_was_checked_is_not_read_again(tmp_path: Path, entry: Mapping[str, Any]) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"models": [entry]}))
    found = opening.open_catalogue([file], ["viduq3"])
    file.unlink()
    assert found.find("ours-1") is not None
    assert [model.slug for model in found if model.retired] == ["viduq3"]


def test_a_slug_to_retire_is_checked_at_once() -> None:
    with pytest.raises(errors.ConfigurationError, match="vidu-q3"):
        opening.open_catalogue([], ["vidu-q3"])
