"""Creates forwarded to an upstream: stored with their key before they are sent, then resolved.

A lost answer must never become a second task and a second charge. So the upstream is asked with a
random key of relay's own that is stored first and never changes, and asking again is always with
that key. A definite refusal releases the caller's key; without a definite answer relay goes on
asking in the background for ``idempotency_window`` and then leaves it to the operator.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from relay import metrics
from relay.catalogue import media
from relay.domain import backoff, errors, ids, lifecycle, model, wording
from relay.engine import clock as clocks
from relay.engine import intake, poller, supervisor
from relay.store import base as store_base
from relay.upstreams import base

log = structlog.get_logger(__name__)

RETRY_BASE: Final = 1.0
RETRY_CAP: Final = 30.0
"""Seconds between two tries of a create without a definite answer: doubled, up to the cap."""

DATA_KEPT_MAX: Final = 64 * 1024
"""Characters of data URIs that are stored while a create has no answer. A create with more of them
cannot be asked again after a restart, unless its caller does."""

PROMPT_KEPT: Final = 500
"""Characters of the prompt kept with the task, for the excerpt in messages."""


Changes = frozenset[model.Change]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One upstream's settings, seconds."""

    submit_timeout: float
    idempotency_window: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitting:
    """A create as the caller wants it. ``extra`` are members that relay does not know; passed on.

    ``client_key`` is the caller's ``Idempotency-Key`` or ``None``.
    """

    upstream: str
    model: str
    input: dict[str, object]
    extra: Mapping[str, object]
    notify: tuple[str, ...] = ()
    statuses: Changes | None = None
    metadata: dict[str, object] | None = None
    client_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """``answer`` holds the upstream's members; ``replayed`` says that it was given before."""

    answer: dict[str, object]
    replayed: bool


class Submissions:
    """Creates, and those of them that still wait for a definite answer."""

    def __init__(
        self,
        *,
        store: store_base.Store,
        upstreams: Mapping[str, base.Upstream],
        options: Mapping[str, Options],
        intake: intake.Intake,
        supervisor: supervisor.Supervisor,
        clock: clocks.Clock,
        randomness: Callable[[int], bytes],
        notice: poller.Notice,
    ) -> None:
        self._store = store
        self._upstreams = upstreams
        self._options = options
        self._intake = intake
        self._supervisor = supervisor
        self._clock = clock
        self._randomness = randomness
        self._notice = notice
        self._resolving: dict[str, asyncio.Task[bytes]] = {}
        self._draining = asyncio.Event()

    async def submit(self, key_id: str, wanted: Submitting) -> Submitted:
        """Create the task once, watch it, and answer as the upstream did.

        Raises ``errors.RequestRefused``, ``errors.IdempotencyConflict``,
        ``errors.SubmissionUnresolved`` (relay goes on asking), ``errors.UpstreamRejected``,
        ``errors.UpstreamUnauthorized`` and ``errors.StoreUnavailable``.
        """
        self._intake.check(wanted.upstream, wanted.notify, key_id=key_id)
        made = self._new(key_id, wanted)
        stored = await self._open(made, wanted)
        if (stored.fingerprint, stored.upstream) != (made.fingerprint, made.upstream):
            raise errors.IdempotencyConflict(
                "this Idempotency-Key was used before with another model, input or upstream; use a new key"
            )
        if stored.answer is not None:
            await self._add_destinations(key_id, wanted, stored)
            return Submitted(answer=json.loads(stored.answer), replayed=True)
        if self._too_old(stored) and stored.id not in self._resolving:
            raise errors.SubmissionUnresolved(
                "the upstream never gave a definite answer and may have forgotten the key since, so it is "
                "not asked again; look for the task there, and use a new Idempotency-Key for another",
                idempotency_key=stored.client_key or "",
            )
        resolving = self._resolve(stored)
        try:
            async with asyncio.timeout(self._options[wanted.upstream].submit_timeout):
                answer = await asyncio.shield(resolving)
        except TimeoutError:
            raise errors.SubmissionUnresolved(
                "the upstream gave no definite answer in time; relay goes on asking, and asking again with "
                "the same Idempotency-Key is safe",
                idempotency_key=stored.client_key or "",
            ) from None
        except asyncio.CancelledError:
            if not resolving.cancelled():
                raise
            raise _stopping(stored) from None
        replayed = stored.id != made.id
        if replayed:
            await self._add_destinations(key_id, wanted, stored)
        return Submitted(answer=json.loads(answer), replayed=replayed)

    async def _open(self, made: model.Submission, wanted: Submitting) -> model.Submission:
        """``made`` if it is new, else the one that has its key, fit to be sent either way."""
        kept = redacted(made)
        small = kept is None or len(made.request) - len(kept) <= DATA_KEPT_MAX
        row = made if small else dataclasses.replace(made, request=kept or b"", request_whole=False)
        stored = await self._store.open_submission(row)
        if stored.id == made.id:
            return made
        if stored.request_whole or stored.fingerprint != made.fingerprint:
            return stored
        # Large media were not kept; who asks again brings them, and all else is as it was asked first.
        request = {**json.loads(stored.request), "input": wanted.input}
        return dataclasses.replace(stored, request=_encoded(request), request_whole=True)

    def _new(self, key_id: str, wanted: Submitting) -> model.Submission:
        request = {"model": wanted.model, "input": wanted.input, **wanted.extra}
        # Without a key of the caller's one is made, so that a 504 can name what to ask again with.
        made_key = f"relay-{ids.make('sub', self._randomness(ids.RANDOM_BYTES))}"
        return model.Submission(
            id=ids.make("sub", self._randomness(ids.RANDOM_BYTES)),
            key_id=key_id,
            client_key=wanted.client_key or made_key,
            upstream=wanted.upstream,
            upstream_key=ids.make("relay", self._randomness(ids.RANDOM_BYTES)),
            fingerprint=fingerprint(wanted.model, wanted.input),
            model=wanted.model,
            request=_encoded(request),
            notify=wanted.notify,
            statuses=wanted.statuses,
            metadata=wanted.metadata,
            state=model.SubmissionState.PENDING,
            answer=None,
            created_at=self._clock.now(),
            key_made=wanted.client_key is None,
        )

    async def _add_destinations(self, key_id: str, wanted: Submitting, stored: model.Submission) -> None:
        """A replay adds its destinations: they are no part of the fingerprint."""
        if stored.answer is None:
            stored = await self._store.submission(stored.id) or stored
        task_id = json.loads(stored.answer or b"{}").get("task_id")
        if isinstance(task_id, str) and (wanted.notify or wanted.metadata or wanted.statuses):
            asked = intake.Wanted(
                upstream=stored.upstream,
                task_id=task_id,
                notify=wanted.notify,
                statuses=wanted.statuses,
                metadata=wanted.metadata,
            )
            await self._intake.register(key_id, [asked])

    # -- resolving ------------------------------------------------------------------------------

    def _resolve(self, submission: model.Submission) -> asyncio.Task[bytes]:
        """The job that resolves it; concurrent copies share one."""
        job = self._resolving.get(submission.id)
        if job is None:
            work = self._until_definite(submission)
            job = self._supervisor.spawn(work, name=f"submit {submission.id}", awaited=True, patient=True)
            self._resolving[submission.id] = job
            job.add_done_callback(lambda _: self._resolving.pop(submission.id, None))
        return job

    async def _until_definite(self, submission: model.Submission) -> bytes:
        """Ask, with the same key, until there is a definite answer or the window closes."""
        failures = 0
        while True:
            try:
                created = await self._upstreams[submission.upstream].create(
                    submission.request, idempotency_key=submission.upstream_key
                )
                break
            except (errors.UpstreamRejected, errors.UpstreamUnauthorized) as exc:
                if exc.reason == base.BAD_ANSWER:
                    await self._leave(submission)
                    raise
                self._count(submission, exc.reason)
                log.warning("create refused", submission=submission.id, reason=exc.reason, error=str(exc))
                await self._reject(submission)
                raise
            except errors.UpstreamTransient as exc:
                failures += 1
                log.warning(
                    "create not answered", submission=submission.id, reason=exc.reason, failures=failures
                )
                if self._too_old(submission):
                    await self._leave(submission)
                    raise errors.SubmissionUnresolved(
                        "the upstream never gave a definite answer; the operator was told",
                        idempotency_key=submission.client_key or "",
                    ) from None
                delay = backoff.restart(failures, base=RETRY_BASE, cap=RETRY_CAP)
                await self._pause(max(delay, exc.retry_after or 0.0), submission)
        answer = json.dumps(created.body, ensure_ascii=False).encode("utf-8")
        await self._watch(submission, created, answer)
        self._count(submission, "created")
        return answer

    async def _pause(self, seconds: float, submission: model.Submission) -> None:
        """Wait before asking again; a drain ends it: the row stays pending for the next start."""
        try:
            async with asyncio.timeout(seconds):
                await self._draining.wait()
        except TimeoutError:
            return
        raise _stopping(submission)

    def drain(self) -> None:
        """Ask nothing again. A create in flight goes on."""
        self._draining.set()

    async def _watch(self, submission: model.Submission, created: base.Created, answer: bytes) -> None:
        """Store task, registration and answer as one fact, however long the database is away."""
        wanted = intake.Wanted(
            upstream=submission.upstream,
            task_id=created.task_id,
            notify=submission.notify,
            statuses=submission.statuses,
            metadata=submission.metadata,
        )
        failures = 0
        while True:
            try:
                [watch] = await self._store.watches([(submission.upstream, created.task_id)])
                task, changes = self._task(submission, created, watch)
                joined = await self._intake.join(
                    submission.key_id,
                    wanted,
                    watch,
                    task=task,
                    changes=changes,
                    resolve=store_base.Resolution(submission.id, answer, redacted(submission)),
                )
            except errors.StoreUnavailable as exc:
                failures += 1
                await self._unwritten(submission, failures, exc)
                continue
            except errors.StoreRejected as exc:
                log.error("created task cannot be recorded", task=created.task_id, error=str(exc))
                await self._leave(submission)
                raise errors.SubmissionUnresolved(
                    f"the upstream created the task {created.task_id}, but its answer cannot be stored; "
                    "the operator was told",
                    idempotency_key=submission.client_key or "",
                ) from None
            if joined is not None:
                return

    async def _reject(self, submission: model.Submission) -> None:
        """A refusal that is not stored would be asked again at the next start, and might be granted."""
        failures = 0
        while True:
            try:
                await self._store.reject_submission(
                    submission.id, now=self._clock.now(), request=redacted(submission)
                )
                return
            except errors.StoreUnavailable as exc:
                failures += 1
                await self._unwritten(submission, failures, exc)

    async def _unwritten(
        self, submission: model.Submission, failures: int, exc: errors.StoreUnavailable
    ) -> None:
        delay = backoff.restart(failures, base=0.5, cap=10.0)
        log.error("answer not recorded yet", submission=submission.id, error=str(exc), retry_in=delay)
        await asyncio.sleep(delay)

    def _too_old(self, submission: model.Submission) -> bool:
        """Whether the upstream may have forgotten the key: asking again could create a second task."""
        options = self._options.get(submission.upstream)
        return options is None or self._clock.now() - submission.created_at >= options.idempotency_window

    def _task(
        self, submission: model.Submission, created: base.Created, watch: model.Watch | None
    ) -> tuple[model.Task, tuple[model.Change, ...]]:
        """The created task as far as the answer says, and what that means for who listens."""
        if watch is not None:
            return watch.task, ()
        prompt = json.loads(submission.request).get("input", {}).get("prompt")
        now = self._clock.now()
        task = model.Task(
            id=ids.make("tsk", ids.stamp(now, self._randomness(ids.RANDOM_BYTES))),
            upstream=submission.upstream,
            task_id=created.task_id,
            request_id=created.snapshot.request_id,
            model=submission.model,
            cost_estimate=created.snapshot.cost_estimate,
            prompt=wording.excerpt(prompt, limit=PROMPT_KEPT) if isinstance(prompt, str) else None,
            created_at=now,
            submitted_at=submission.created_at,
        )
        fold = lifecycle.fold(task, model.Page(snapshot=created.snapshot), now=self._clock.now())
        changes = fold.changes
        if fold.task.status is model.Status.QUEUED:
            changes = (model.Change.QUEUED, *changes)
        return fold.task, changes

    async def _leave(self, submission: model.Submission) -> None:
        self._count(submission, "unresolved")
        log.error("submission unresolved", submission=submission.id, upstream=submission.upstream)
        text = (
            f"relay could not learn whether the create {submission.id} (model {submission.model}) reached "
            f"{submission.upstream}. It may have been charged. Look for it in the upstream's own list; "
            + (
                "its caller sent no Idempotency-Key, so relay does not ask again by itself."
                if submission.key_made
                else "asking relay again with the same Idempotency-Key is safe."
            )
        )
        # In this order: after a crash between the two it is left, and told, once more.
        await self._notice("submission_unresolved", submission.id, text)
        await self._store.leave_unresolved([submission.id])

    async def resume(self) -> None:
        """At start: ask again where somebody may come back for it, leave the rest to the operator.

        Left are those that are too old, those whose caller sent no key (nobody waits for the answer,
        and what it would cost is for the operator to decide), and those whose media were not kept.
        Their callers may still ask again, while they are young enough.
        """
        for submission in await self._store.open_submissions():
            if self._too_old(submission) or submission.key_made or not submission.request_whole:
                await self._leave(submission)
            else:
                self._resolve(submission)

    def _count(self, submission: model.Submission, outcome: str) -> None:
        metrics.SUBMISSIONS.labels(submission.upstream, outcome).inc()


def _stopping(submission: model.Submission) -> errors.SubmissionUnresolved:
    return errors.SubmissionUnresolved(
        "relay is stopping and has no definite answer yet; ask again with the same Idempotency-Key",
        idempotency_key=submission.client_key or "",
    )


def redacted(submission: model.Submission) -> bytes | None:
    """Its request as it may be kept for long: large data URIs only named; ``None`` if it is so already."""
    request = json.loads(submission.request)
    kept = {**request, "input": media.redacted(request["input"])}
    return None if kept == request else _encoded(kept)


def _encoded(request: Mapping[str, object]) -> bytes:
    return json.dumps(request, ensure_ascii=False, allow_nan=False).encode("utf-8")


def fingerprint(slug: str, inputs: Mapping[str, object]) -> str:
    """SHA-256 of canonical JSON of ``{model, input}``: member order ignored, null not absent."""
    canonical = json.dumps({"model": slug, "input": inputs}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
