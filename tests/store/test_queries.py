"""The named statements: each is used, each used one exists, and SQLite reads them by index."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import relay.store
from relay.store import migrate
from relay.store.sql import queries

SOURCE = Path(relay.store.__file__).parent


def test_every_query_is_used_and_every_used_one_exists() -> None:
    used = {
        name
        for file in SOURCE.rglob("*.py")
        for name in re.findall(r'QUERIES\["(\w+)"\]', file.read_text("utf-8"))
    }
    assert used == set(queries.QUERIES)


def test_every_query_has_a_purpose_in_a_line() -> None:
    for file in (SOURCE / "queries").iterdir():
        text = file.read_text("utf-8")
        assert text.count("-- name:") == len(queries.parse(text)), file.name


def test_a_name_used_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="twice"):
        queries.parse("-- name: a\n-- Why.\nSELECT 1;\n-- name: a\n-- Why.\nSELECT 2;\n")


@pytest.fixture(scope="module")
def schema() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.execute(queries.QUERIES["create_migrations"])
    for migration in migrate.shipped():
        for statement in migration.statements():
            connection.execute(statement)
    yield connection
    connection.close()


def plan(schema: sqlite3.Connection, name: str) -> list[str]:
    statement = queries.QUERIES[name]
    parameters = dict.fromkeys(re.findall(r":(\w+)", statement))
    return [row[3] for row in schema.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]


def without_plan(name: str) -> bool:
    return name.split("_")[0] in ("savepoint", "rollback", "release", "create") and name != "release_leases"


SMALL = {"api_keys", "destination_health", "destinations", "migrations"}
"""Tables that hold a handful of rows."""

WHOLE = {"count_open_deliveries": "deliveries_open", "count_redeliveries": "redeliveries_by_state"}
"""Statements that read all of a small index."""


@pytest.mark.parametrize("name", sorted(name for name in queries.QUERIES if not without_plan(name)))
def test_no_statement_reads_a_table_whole(schema: sqlite3.Connection, name: str) -> None:
    tables = {row[0] for row in schema.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    aliases = {
        alias: table
        for table, alias in re.findall(r"(?:FROM|JOIN|UPDATE) (\w+) AS (\w+)", queries.QUERIES[name])
        if table in tables
    }
    for step in plan(schema, name):
        if scanned := re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", step):
            table = aliases.get(scanned[1], scanned[1])
            limited = "LIMIT" in queries.QUERIES[name] and (scanned[2] or name == "purge_events")
            by_index = scanned[2] and (scanned[2] == WHOLE.get(name) or scanned[2] == "deliveries_due")
            assert table not in tables or table in SMALL or limited or by_index, step


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("select_due", "deliveries_due"),
        ("select_due_fresh", "deliveries_fresh"),
        ("page_deliveries", "deliveries_by_age"),
        ("page_open_deliveries", "deliveries_open"),
        ("page_deliveries_of_task", "deliveries_by_task"),
        ("page_deliveries_of_destination", "deliveries_by_destination"),
        ("scan_deliveries", "deliveries_by_age"),
        ("scan_open_deliveries", "deliveries_open"),
        ("scan_deliveries_of_task", "deliveries_by_task"),
        ("scan_deliveries_of_destination", "deliveries_by_destination"),
        ("list_redeliveries", "redeliveries_by_age"),
        ("list_redeliveries_in_state", "redeliveries_by_state"),
        ("list_running_redeliveries", "redeliveries_by_state"),
        ("page_tasks", "tasks_by_age"),
        ("page_tasks_of_key", "registrations_by_key"),
        ("page_tasks_in_status", "tasks_by_status"),
        ("page_tasks_of_verdict", "tasks_by_verdict"),
        ("page_tasks_of_model", "tasks_by_model"),
        ("page_tasks_of_upstream", "tasks_by_upstream"),
        ("list_events", "events_by_task"),
        ("select_running", "tasks_running"),
        ("list_submissions", "submissions_by_age"),
        ("list_submissions_in_state", "submissions_by_state"),
        ("list_pending_submissions", "submissions_by_state"),
        ("void_leases", "deliveries_open"),
        ("expire_leases", "deliveries_open"),
        ("select_addressed", "deliveries_by_destination"),
        ("unhold_deliveries", "deliveries_open"),
        ("hold_pending", "deliveries_due"),
        ("hold_otherwise", "deliveries_open"),
        ("supersede_deliveries", "deliveries_by_task"),
        ("supersede_held", "deliveries_open"),
        ("release_held", "deliveries_open"),
        ("release_strays", "deliveries_open"),
        ("drop_held", "deliveries_open"),
    ],
)
def test_what_runs_often_is_searched_in_its_index(schema: sqlite3.Connection, name: str, index: str) -> None:
    steps = plan(schema, name)
    searched = next(number for number, step in enumerate(steps) if step.startswith("SEARCH"))
    assert f"INDEX {index} (" in steps[searched]
    # Only a page that is already limited may be sorted, to put rows of one task together.
    for step in steps[: searched + 1]:
        assert "TEMP B-TREE" not in step
    if not any(step.startswith(("CO-ROUTINE", "MATERIALIZE")) for step in steps):
        assert not any("TEMP B-TREE" in step for step in steps)
