"""From changes to deliveries: whom to tell, with which bytes, stored together with the change.

Owns the wording's inputs (destinations, routes, public URL). Never talks to the network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from relay.domain import ids, lifecycle, model, routing, wording

TEST_TYPE: Final = "relay.test"
OPERATOR_TYPE: Final = "relay.operator."

_CANONICAL: Final = json.JSONEncoder(sort_keys=True)


class Outbox:
    """Composes deliveries. Pure but for what it was made with."""

    def __init__(
        self, table: routing.Table, *, operator: Sequence[str] = (), public_url: str | None = None
    ) -> None:
        self._table = table
        self._operator = tuple(operator)
        self._public_url = public_url

    def use(self, table: routing.Table, *, operator: Sequence[str]) -> None:
        """Compose from these from now on."""
        self._table = table
        self._operator = tuple(operator)

    @property
    def table(self) -> routing.Table:
        """Destinations and routes."""
        return self._table

    def owed(
        self,
        task: model.Task,
        changes: Sequence[model.Change],
        registrations: Sequence[model.Registration],
        *,
        now: float,
    ) -> list[model.NewDelivery]:
        """A delivery for each destination that must hear of each change."""
        return [
            model.NewDelivery(
                id=ids.delivery_id(task.upstream, task.task_id, one.change.value, one.destination),
                task=task.id,
                destination=one.destination,
                type=one.change.type,
                notification=self._notification(task, one, now=now),
                created_at=now,
                task_id=task.task_id,
                upstream=task.upstream,
            )
            for one in routing.owed(task, changes, registrations, self._table)
        ]

    def _notification(self, task: model.Task, owed: routing.Owed, *, now: float) -> model.Notification:
        destination = self._table.destinations.get(owed.destination)
        # A destination that is not configured (any more) is most likely a webhook of somebody's.
        form = destination.format if destination else model.Format.WEBHOOK
        parts = [task.upstream, task.task_id, owed.change.value, form.value]
        at = lifecycle.happened_at(task, owed.change, now=now)
        if form is model.Format.WEBHOOK:
            parts.append(_CANONICAL.encode(owed.metadata))
            body = wording.webhook_body(task, owed.change, metadata=owed.metadata, at=at)
        else:
            prompt = destination is None or destination.prompt
            parts.append(str(prompt))
            body = wording.chat_body(task, owed.change, prompt=prompt, public_url=self._public_url)
        return model.Notification(id=ids.derive("ntf", *parts), format=form, type=owed.change.type, body=body)

    def change_again(
        self, claim: model.Claim, task: model.Task, registrations: Sequence[model.Registration]
    ) -> bytes:
        """The body of ``claim``, which tells a change of ``task``, for what its destination is now."""
        change = next(each for each in model.Change if each.type == claim.type)
        owed = routing.owed(task, [change], registrations, self._table)
        metadata = next((one.metadata for one in owed if one.destination == claim.destination), None)
        one = routing.Owed(destination=claim.destination, change=change, metadata=metadata)
        return self._notification(task, one, now=claim.created_at).body

    def notice_again(self, claim: model.Claim) -> bytes:
        """The same of a test or an operator notice. ``KeyError`` for a body that is neither."""
        said = json.loads(claim.body)
        said = said.get("data", said)
        return self._notice(
            claim.destination,
            claim.delivery_id,
            type_=claim.type,
            title=said["title"],
            text=said["text"],
            now=claim.created_at,
        ).notification.body

    def test(self, destination: str, delivery_id: str, *, now: float) -> model.NewDelivery:
        """A test send: the real path with a body of its own."""
        return self._notice(
            destination,
            delivery_id,
            type_=TEST_TYPE,
            title="🔔 relay test",
            text=f"This is a test of the destination {destination}. It works if you can read this.",
            now=now,
        )

    def operator_notices(self, kind: str, *, key: str, text: str, now: float) -> list[model.NewDelivery]:
        """One notice per operator destination. The same ``kind`` and ``key`` are told once, for ever."""
        return [
            self._notice(
                name,
                ids.derive("msg", OPERATOR_TYPE, kind, key, name),
                type_=OPERATOR_TYPE + kind,
                title=f"⚠️ relay: {kind.replace('_', ' ')}",
                text=text,
                now=now,
            )
            for name in self._operator
        ]

    def _notice(
        self, destination: str, delivery_id: str, *, type_: str, title: str, text: str, now: float
    ) -> model.NewDelivery:
        configured = self._table.destinations.get(destination)
        form = configured.format if configured else model.Format.WEBHOOK
        body = wording.notice_body(form, type_=type_, at=now, title=title, text=text)
        notification = model.Notification(
            id=ids.derive("ntf", delivery_id, form.value), format=form, type=type_, body=body
        )
        return model.NewDelivery(
            id=delivery_id,
            task=None,
            destination=destination,
            type=type_,
            notification=notification,
            created_at=now,
        )
