"""Conformance: what becomes of a submission's request, how submissions are listed, and when they go."""

from __future__ import annotations

import dataclasses

import pytest

from relay.domain import model
from relay.store import base
from tests.store import making

NOW = making.NOW
KEPT = b'{"model":"veo3-fast","input":{"image":"data:image/png;sha256=00;bytes=9"}}'


async def test_how_its_key_was_made_and_whether_it_is_whole_are_read_back(store: base.Store) -> None:
    made = dataclasses.replace(making.submission("a"), key_made=True, request_whole=False)
    await store.open_submission(made)
    assert await store.submission(made.id) == made
    assert await store.open_submissions() == [made]


async def test_a_success_keeps_of_the_request_what_it_is_given(store: base.Store) -> None:
    first = await store.open_submission(making.submission("a"))
    resolution = base.Resolution(first.id, b"{}", KEPT)
    await store.record([dataclasses.replace(making.new("t"), resolve=resolution)])
    found = await store.submission(first.id)
    assert found is not None
    assert (found.request, found.request_whole, found.state) == (KEPT, False, "succeeded")


@pytest.mark.parametrize("request_", [None, KEPT])
async def test_so_does_a_refusal(store: base.Store, request_: bytes | None) -> None:
    first = await store.open_submission(making.submission("a"))
    await store.reject_submission(first.id, now=NOW, request=request_)
    found = await store.submission(first.id)
    assert found is not None
    assert (found.request, found.request_whole) == (request_ or first.request, request_ is None)


async def test_they_are_listed_newest_first_in_pages_and_by_state(store: base.Store) -> None:
    names = ["a", "b", "c", "d"]
    for number, name in enumerate(names):
        one = dataclasses.replace(making.submission(name), created_at=NOW + number, client_key=name)
        await store.open_submission(one)
    await store.leave_unresolved(["sub_a", "sub_c"])
    page = await store.submissions(None, before=None, limit=3)
    assert [each.id for each in page.rows] == ["sub_d", "sub_c", "sub_b"]
    assert page.next == (NOW + 1, "sub_b")
    rest = await store.submissions(None, before=page.next, limit=3)
    assert ([each.id for each in rest.rows], rest.next) == (["sub_a"], None)
    unresolved = await store.submissions(model.SubmissionState.UNRESOLVED, before=None, limit=3)
    assert [each.id for each in unresolved.rows] == ["sub_c", "sub_a"]
    assert unresolved.rows[1] == base.SubmissionSummary(
        id="sub_a",
        key_id=making.KEY,
        client_key="a",
        key_made=False,
        upstream=making.UPSTREAM,
        upstream_key="relay-a",
        model="veo3-fast",
        state=model.SubmissionState.UNRESOLVED,
        created_at=NOW,
    )


async def test_keys_are_remembered_whatever_becomes_of_the_task(store: base.Store) -> None:
    first = await store.open_submission(making.submission("a", client_key="order-1"))
    await store.record([dataclasses.replace(making.new("t"), resolve=base.Resolution(first.id, b"{}"))])
    waiting = await store.open_submission(making.submission("b", client_key="order-2"))
    all_tasks = base.Retention(
        tasks_before=NOW + 1e9, events_before=0.0, attempts_before=0.0, submissions_before=NOW
    )
    await store.purge(all_tasks, limit=100)
    assert await store.submission(first.id) is not None
    await store.purge(dataclasses.replace(all_tasks, submissions_before=NOW + 1), limit=100)
    assert await store.submission(first.id) is None
    assert await store.submission(waiting.id) == waiting
    again = making.submission("c", client_key="order-1")
    assert await store.open_submission(again) == again
