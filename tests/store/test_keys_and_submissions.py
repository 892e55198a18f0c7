"""Conformance: API keys and submissions."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from relay.domain import errors, model
from relay.store import base
from tests.store import making

NOW = making.NOW


def key(name: str, **changes: object) -> model.Key:
    made = model.Key(id=f"key_{name}", name=name, role=model.Role.CLIENT, enabled=True, created_at=NOW)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


async def test_keys_are_created_listed_disabled_and_deleted(store: base.Store) -> None:
    alice, bob = key("alice", role=model.Role.ADMIN), key("bob", created_at=NOW - 1)
    await store.create_key(alice, secret_hash=b"\x00\xff")
    await store.create_key(bob, secret_hash=b"b")
    with pytest.raises(errors.StoreRejected):
        await store.create_key(alice, secret_hash=b"c")
    assert await store.key("key_alice") == (alice, b"\x00\xff")
    assert await store.key("key_nobody") is None
    assert await store.keys() == [bob, alice]
    disabled = dataclasses.replace(bob, enabled=False)
    assert await store.enable_key(bob.id, enabled=False) == disabled
    assert await store.enable_key("key_nobody", enabled=False) is None
    assert await store.keys() == [disabled, alice]
    assert await store.enable_key(bob.id, enabled=True) == bob
    assert await store.delete_key(bob.id) is True
    assert await store.delete_key(bob.id) is False
    assert await store.keys() == [alice]


async def test_the_registrations_of_a_deleted_key_stay(store: base.Store) -> None:
    await store.create_key(key("alice"), secret_hash=b"a")
    await store.record([making.new("t", register=making.registration("key_alice"))])
    await store.delete_key("key_alice")
    assert len(await store.running(after=None, limit=10)) == 1


async def test_last_uses_only_move_forward(store: base.Store) -> None:
    await store.create_key(key("alice"), secret_hash=b"a")
    await store.touch_keys({"key_alice": NOW + 5, "key_nobody": NOW})
    await store.touch_keys({"key_alice": NOW + 3})
    await store.touch_keys({})
    assert [found.last_used_at for found in await store.keys()] == [NOW + 5]


async def test_a_submission_comes_back_as_it_was_stored(store: base.Store) -> None:
    first = making.submission("a", client_key="order-1")
    assert await store.open_submission(first) == first
    assert await store.submission(first.id) == first
    assert await store.submission("sub_unknown") is None
    plain = dataclasses.replace(making.submission("b"), notify=(), statuses=None, metadata=None)
    await store.open_submission(plain)
    assert await store.submission(plain.id) == plain


async def test_equal_client_keys_collide_within_one_caller_only(store: base.Store) -> None:
    first = await store.open_submission(making.submission("a", client_key="order-1"))
    again = making.submission("b", client_key="order-1")
    assert await store.open_submission(again) == first
    assert await store.submission(again.id) is None
    other = making.submission("c", key_id=making.OTHER_KEY, client_key="order-1")
    assert await store.open_submission(other) == other
    for name in ("d", "e"):
        assert (await store.open_submission(making.submission(name))).id == f"sub_{name}"


async def test_of_racing_submissions_all_get_the_same(store: base.Store) -> None:
    made = [making.submission(f"{number}", client_key="order-1") for number in range(8)]
    answers = await asyncio.gather(*(store.open_submission(submission) for submission in made))
    assert len({answer.id for answer in answers}) == 1
    assert len(await store.open_submissions()) == 1


async def test_a_refusal_frees_the_client_key(store: base.Store) -> None:
    first = await store.open_submission(making.submission("a", client_key="order-1"))
    await store.reject_submission(first.id, now=NOW)
    await store.reject_submission("sub_unknown", now=NOW)
    rejected = await store.submission(first.id)
    assert rejected is not None
    assert rejected.state is model.SubmissionState.REJECTED
    again = making.submission("b", client_key="order-1")
    assert await store.open_submission(again) == again


async def test_an_answer_is_stored_with_its_task(store: base.Store) -> None:
    first = await store.open_submission(making.submission("a", client_key="order-1"))
    answer = '{"task_id":"t","note":"é"}'.encode()
    write = dataclasses.replace(making.new("t"), resolve=base.Resolution(first.id, answer))
    await store.record([write])
    resolved = await store.submission(first.id)
    assert resolved == dataclasses.replace(first, state=model.SubmissionState.SUCCEEDED, answer=answer)
    assert await store.open_submission(making.submission("b", client_key="order-1")) == resolved
    await store.reject_submission(first.id, now=NOW)
    await store.leave_unresolved([first.id])
    assert await store.submission(first.id) == resolved


async def test_a_write_that_lost_resolves_nothing(store: base.Store) -> None:
    first = await store.open_submission(making.submission("a"))
    await store.record([making.new("t")])
    assert await store.record(
        [dataclasses.replace(making.new("t"), resolve=base.Resolution(first.id, b"{}"))]
    ) == [None]
    assert await store.open_submissions() == [first]


async def test_the_unresolved_are_left_and_may_still_succeed(store: base.Store) -> None:
    made = [await store.open_submission(making.submission(name)) for name in ("a", "b", "c")]
    assert await store.open_submissions() == made
    await store.leave_unresolved([made[0].id, made[1].id])
    await store.leave_unresolved([])
    assert await store.open_submissions() == [made[2]]
    await store.record([dataclasses.replace(making.new("t"), resolve=base.Resolution(made[0].id, b"{}"))])
    states = [await store.submission(submission.id) for submission in made]
    assert [found.state for found in states if found] == ["succeeded", "unresolved", "pending"]
