"""What a task's observations mean. The only place where a status is decided.

``fold`` takes a task and what was seen of it and gives the task as it is now, the changes to be
told, and whether an end is certain. Rules, in the order in which they are applied:

1. A task whose verdict is final never changes its status again; later observations only fill in
   what was missing (a late actual cost, a late output).
2. Statuses only go forward: queued, processing, an end. A later ``queued`` is old news. Between
   two different ends in one look, the first one counts, unless the task endpoint says otherwise.
3. An unknown status means processing (and is reported once by the caller).
4. An end is certain when the task endpoint said it (a success: with its output), or when the
   event that said it carries what the end is worth (output and actual cost). Otherwise
   ``Fold.unconfirmed`` names it, the task is returned with its status unmoved, and the caller asks
   the task endpoint.
5. A success has no error but its own: what went wrong on the way was overcome.

Duplicates need no rule: folding the same observation twice changes nothing. Storage removes
duplicate rows; it never hides a status from this module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.domain import model

_Found = dict[str, Any]
"""Members of a task that are to change, by their names."""

_FILLED: Final = ("request_id", "model", "cost_estimate", "cost_actual", "error")
"""Members that a snapshot fills in as they are."""

_RANK: Final = {
    model.Status.QUEUED: 0,
    model.Status.PROCESSING: 1,
    model.Status.SUCCEEDED: 2,
    model.Status.FAILED: 2,
    model.Status.CANCELLED: 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """What folding gave.

    ``changes`` are in the order in which they happened, each at most once in a task's life.
    ``unconfirmed`` is an end that was seen but is not certain yet, or ``None``.
    ``unknown_statuses`` are raw words that are none of the five.
    """

    task: model.Task
    changes: tuple[model.Change, ...] = ()
    unconfirmed: model.Status | None = None
    unknown_statuses: tuple[str, ...] = ()


def complete(status: model.Status, snapshot: model.Snapshot) -> bool:
    """Whether ``snapshot`` carries all that an end in ``status`` is worth.

    A success is worth its output and its actual cost; a failure or cancellation has no output
    to wait for, but its cost is still to be known.
    """
    if snapshot.cost_actual is None:
        return False
    return status is not model.Status.SUCCEEDED or not _empty(snapshot.output)


def fold(task: model.Task, page: model.Page, *, now: float) -> Fold:
    """Apply what one look saw. Pure: ``now`` (epoch seconds) only stamps ``finished_at``."""
    observed = [event.snapshot for event in page.events]
    if page.snapshot is not None:
        observed.append(page.snapshot)
    unknown = tuple(dict.fromkeys(s.raw_status for s in observed if s.unknown_status and s.raw_status))

    found = _missing(task, observed)
    if task.verdict.final:
        return Fold(task=_with(task, found), unknown_statuses=unknown)

    changes: list[model.Change] = []
    status = task.status
    end: model.Snapshot | None = None
    for snapshot in observed:
        seen = _status_of(snapshot)
        if seen is None or _RANK[seen] <= _RANK[status]:
            continue
        if seen.terminal:
            end = end or snapshot
        else:
            status = seen
            changes.append(model.Change(seen))
    if page.authoritative and page.snapshot is not None and page.snapshot.status is not None:
        end = page.snapshot if page.snapshot.status.terminal else end

    if status is not task.status:
        found["status"] = status
    if end is None or end.status is None:
        return Fold(task=_with(task, found), changes=tuple(changes), unknown_statuses=unknown)
    said_by_endpoint = page.authoritative and end is page.snapshot and not _awaits_output(end)
    if not (said_by_endpoint or complete(end.status, end)):
        return Fold(
            task=_with(task, found),
            changes=tuple(changes),
            unconfirmed=end.status,
            unknown_statuses=unknown,
        )
    changes.append(model.Change(end.status))
    ended = _finish(task, end, found, now=now)
    return Fold(task=ended, changes=tuple(changes), unknown_statuses=unknown)


def finish(task: model.Task, end: model.Snapshot, *, now: float) -> model.Task:
    """The task, ended as ``end`` says. ``end.status`` must be terminal.

    What the end itself carries wins over what was seen before it.
    """
    return _finish(task, end, {}, now=now)


def _finish(task: model.Task, end: model.Snapshot, found: _Found, *, now: float) -> model.Task:
    """``finish`` of the task with ``found`` in it, which is used up: a copy of a task costs as much as
    all that is decided here."""
    assert end.status is not None
    assert end.status.terminal
    assert not task.verdict.final
    found["status"] = end.status
    found["verdict"] = model.Verdict.ENDED
    found["finished_at"] = now
    if end.cost_actual is not None:
        found["cost_actual"] = end.cost_actual
    if not _empty(end.output):
        found["output"] = end.output
    if end.error is not None or end.status is model.Status.SUCCEEDED:
        found["error"] = end.error
    return _with(task, found)


def settle(
    task: model.Task, end: model.Status, authority: model.Snapshot, *, now: float, out_of_time: bool
) -> Fold:
    """Decide an unconfirmed ``end`` with what the task endpoint says of it.

    The endpoint's own end wins. A success without output is asked for again until ``out_of_time``
    (outputs may be attached a moment after the status). While the endpoint says that the task
    still runs, the end stays unconfirmed until ``out_of_time``, and is then believed.
    """
    if authority.status is not None and authority.status.terminal:
        if _awaits_output(authority) and not out_of_time:
            return Fold(task=_with(task, _missing(task, [authority])), unconfirmed=authority.status)
        ended = finish(task, authority, now=now)
        return Fold(task=ended, changes=(model.Change(authority.status),))
    if not out_of_time:
        return Fold(task=_with(task, _missing(task, [authority])), unconfirmed=end)
    ended = finish(task, dataclasses.replace(authority, status=end), now=now)
    return Fold(task=ended, changes=(model.Change(end),))


def stall(task: model.Task, *, now: float) -> Fold:
    """The deadline passed. Told once in a task's life; the watch goes on, slowly."""
    if task.verdict is not model.Verdict.RUNNING:
        return Fold(task=task)
    stalled = dataclasses.replace(task, verdict=model.Verdict.STALLED, stalled_at=now)
    return Fold(task=stalled, changes=(model.Change.STALLED,))


def lose(task: model.Task, *, now: float) -> Fold:
    """The upstream no longer knows the task. Told like an end; its status is the last one known."""
    if task.verdict.final:
        return Fold(task=task)
    lost = dataclasses.replace(task, verdict=model.Verdict.LOST, finished_at=now)
    return Fold(task=lost, changes=(model.Change.LOST,))


def changes_so_far(task: model.Task) -> tuple[model.Change, ...]:
    """What a destination that is added now has to be told: the end, if there was one.

    A stall that still stands is told too. Statuses passed on the way are old news.
    """
    if task.verdict is model.Verdict.ENDED:
        return (model.Change(task.status),)
    if task.verdict is model.Verdict.LOST:
        return (model.Change.LOST,)
    if task.verdict is model.Verdict.STALLED:
        return (model.Change.STALLED,)
    return ()


def happened_at(task: model.Task, change: model.Change, *, now: float) -> float:
    """Epoch seconds at which ``change`` happened: the same for whoever hears of it later."""
    if change is model.Change.STALLED:
        at = task.stalled_at
    elif change is model.Change.LOST or model.Status(change).terminal:
        at = task.finished_at
    else:
        at = None
    return now if at is None else at


def _status_of(snapshot: model.Snapshot) -> model.Status | None:
    return model.Status.PROCESSING if snapshot.unknown_status else snapshot.status


def _awaits_output(end: model.Snapshot) -> bool:
    """A success without output: it may be attached a moment after the status."""
    return end.status is model.Status.SUCCEEDED and _empty(end.output)


def _empty(output: object) -> bool:
    """No output: absent, or lists and objects of nothing (``{"videos": [{"url": null}]}``)."""
    if isinstance(output, dict | list):
        for value in output.values() if isinstance(output, dict) else output:  # noqa: SIM110 - runs for every end
            if not _empty(value):
                return False
        return True
    return output is None or output == ""


def _missing(task: model.Task, observed: Sequence[model.Snapshot]) -> _Found:
    """What was observed of members that the task has nothing in yet; the latest observation first."""
    found: _Found = {}
    for name in _FILLED:
        if getattr(task, name) is None:
            for snapshot in reversed(observed):
                if (value := getattr(snapshot, name)) is not None:
                    found[name] = value
                    break
    if task.output is None:
        for snapshot in reversed(observed):
            if not _empty(snapshot.output):
                found["output"] = snapshot.output
                break
    if task.verdict is model.Verdict.ENDED and task.status is model.Status.SUCCEEDED:
        found.pop("error", None)
    return found


def _with(task: model.Task, found: _Found) -> model.Task:
    return dataclasses.replace(task, **found) if found else task
