"""What a notification says: the webhook's JSON and the words for chat and mail.

Bodies are made once per change and stored, then sent byte for byte. Foreign text (prompts, errors)
is made safe here: no mentions, no markup, no invisible control characters, bounded length.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

from relay.domain import model

PAYLOAD_MAX: Final = 20_000
"""Bytes of a webhook's body (Standard Webhooks: "keep it under 20 kB")."""

OUTPUT_MAX: Final = 12_000
"""Bytes of output in a webhook; a longer one is left to be fetched."""

ERROR_MAX: Final = 2_000
"""Characters of an upstream's error text that are told."""

ERROR_JSON_MAX: Final = 4_000
"""Bytes of an error in a webhook; a longer one is told as text."""

NAME_MAX: Final = 200
"""Characters of foreign names (model, request id): what the adapters let in."""

PROMPT_MAX: Final = 200
"""Characters of a prompt that are quoted: enough to recognise one's own."""

LINKS_MAX: Final = 4
"""Output links in one message; the rest is counted."""

LINKS_DEPTH: Final = 8
"""Levels of an output that are searched for links; the usual ones have three."""

_LINK: Final = re.compile(r"https?://[^\s<>|\"`\\]{1,2000}", re.IGNORECASE)
# A dot before a letter: "evil.example" is a link to some channels, "0.5" to none.
_DOMAIN_DOT: Final = re.compile(r"(?<=\w)\.(?=[^\W\d_])")
_SIGNS: Final = {
    model.Change.QUEUED: "🕓",
    model.Change.PROCESSING: "⏳",
    model.Change.SUCCEEDED: "✅",
    model.Change.FAILED: "❌",
    model.Change.CANCELLED: "🚫",
    model.Change.STALLED: "🐌",
    model.Change.LOST: "❓",
}
_ZERO_WIDTH: Final = "\u200b"


def timestamp(at: float) -> str:
    """RFC 3339 in UTC with milliseconds, ``2026-01-31T12:00:00.000Z``."""
    moment = datetime.datetime.fromtimestamp(at, tz=datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def number(amount: Decimal | None) -> float | None:
    """Money as a JSON number. Costs have up to five decimals, which a float writes as they are."""
    return None if amount is None else float(amount)


def webhook_body(
    task: model.Task, change: model.Change, *, metadata: Mapping[str, object] | None, at: float
) -> bytes:
    """The Standard Webhooks payload for ``change``, which happened at ``at``.

    An output that makes it too long is left out; what identifies the task and ``metadata`` (4 kB at
    most, by whoever takes it) are always whole.
    """
    body = _json(_payload(task, change, metadata=metadata, at=at, whole=True))
    if len(body) <= OUTPUT_MAX:
        return body  # the usual case: then the output in it is no longer either
    if len(_json(task.output)) > OUTPUT_MAX or (task.output is not None and len(body) > PAYLOAD_MAX):
        body = _json(_payload(task, change, metadata=metadata, at=at, whole=False))
    return body


def _payload(
    task: model.Task,
    change: model.Change,
    *,
    metadata: Mapping[str, object] | None,
    at: float,
    whole: bool,
) -> dict[str, object]:
    happened_at = timestamp(at)
    finished_at = None
    if task.finished_at is not None:  # usually one and the same
        finished_at = happened_at if task.finished_at == at else timestamp(task.finished_at)
    data: dict[str, object] = {
        "task_id": task.task_id,
        "request_id": None if task.request_id is None else task.request_id[:NAME_MAX],
        "upstream": task.upstream,
        "model": None if task.model is None else task.model[:NAME_MAX],
        "status": task.status.value,
        "verdict": task.verdict.value,
        "cost_estimate": number(task.cost_estimate),
        "cost_actual": number(task.cost_actual),
        "output": task.output if whole else None,
        "error": _bounded(task.error),
        "metadata": metadata,
        "submitted_at": None if task.submitted_at is None else timestamp(task.submitted_at),
        "finished_at": finished_at,
    }
    if not whole:
        data["output_truncated"] = True
    return {"type": change.type, "timestamp": happened_at, "data": data}


def _bounded(error: object) -> object:
    """The error as it came where that is short, else its text, within ``ERROR_JSON_MAX``."""
    if error is None or len(_json(error)) <= ERROR_JSON_MAX:
        return error
    text = error_text(error)
    while len(_json(text)) > ERROR_JSON_MAX:  # escapes and letters of several bytes
        text = text[: len(text) * 3 // 4]
    return text


def notice_body(form: model.Format, *, type_: str, at: float, title: str, text: str) -> bytes:
    """A body that is about no task: test sends and operator notices."""
    if form is model.Format.CHAT:
        return _json({"title": title, "text": text})
    return _json({"type": type_, "timestamp": timestamp(at), "data": {"title": title, "text": text}})


def destination_failing(
    name: str, *, share: int, since: float, failures: str, reason: str, disabled_at: float
) -> str:
    """What the operator is told of a destination to which nothing has arrived ``since`` then.

    ``share`` is how much of the time until it is disabled has passed, percent.
    """
    return (
        f"Nothing has reached the destination {name} since {timestamp(since)}: {share} % of the time until it"
        f" is disabled has passed. {failures} failed; the last reason was {reason}. If that goes on it is"
        f" disabled at {timestamp(disabled_at)}, and what it is owed is held."
        f" `relay deliveries ls --destination {name}` shows it."
    )


def destination_disabled(name: str, *, reason: str, since: float | None) -> str:
    """What the operator is told of a destination that was disabled, and what to do."""
    why = reason if since is None else f"nothing has reached it since {timestamp(since)} (last: {reason})"
    return (
        f"The destination {name} was disabled: {why}. What it is owed is held, nothing is lost. Once it is"
        f" mended, `relay destinations test {name}` sends it a test: if that arrives it is enabled, and what"
        f" was held is sent. `relay destinations resume {name}` lets you choose what of it is sent."
    )


def chat_body(task: model.Task, change: model.Change, *, prompt: bool, public_url: str | None) -> bytes:
    """Title and text for chat and mail. The link comes first: channels cut from the end."""
    name = safe(task.model or "task", limit=80)
    title = f"{_SIGNS[change]} {name} {change.value}"
    return _json({"title": title, "text": "\n".join(_lines(task, change, prompt, public_url))})


def _lines(task: model.Task, change: model.Change, prompt: bool, public_url: str | None) -> Iterator[str]:
    links = list(output_links(task.output))
    yield from links[:LINKS_MAX]
    if len(links) > LINKS_MAX:
        yield f"and {len(links) - LINKS_MAX} more"
    if change is model.Change.SUCCEEDED and not links:
        yield "It succeeded without an output link; it may have been filtered."
    if change is model.Change.STALLED:
        yield f"No end after {elapsed(task, now=task.stalled_at)}; relay goes on asking."
    if change is model.Change.LOST:
        yield f"The upstream no longer knows this task; its last known status is {task.status.value}."
    if task.error is not None and change is not model.Change.SUCCEEDED:
        yield f"Error: {safe(error_text(task.error), limit=500)}"
    yield f"Status: {task.status.value}"
    if task.finished_at is not None:
        yield f"Took: {elapsed(task, now=task.finished_at)}"
    if cost := _cost(task):
        yield f"Cost: {cost}"
    if prompt and task.prompt:
        yield f"Prompt: {safe(task.prompt, limit=PROMPT_MAX)}"
    yield f"Task: {task.upstream}:{task.task_id}"
    if public_url is not None:
        yield f"{public_url.rstrip('/')}/api/v1/tasks/{task.upstream}:{task.task_id}"


def _cost(task: model.Task) -> str:
    if task.cost_actual is not None and task.cost_estimate is not None:
        return f"{task.cost_actual:f} (estimated {task.cost_estimate:f})"
    if task.cost_actual is not None:
        return f"{task.cost_actual:f}"
    return f"estimated {task.cost_estimate:f}" if task.cost_estimate is not None else ""


def elapsed(task: model.Task, *, now: float | None) -> str:
    """How long since the task was submitted (or, unknown, since relay knew it): ``2 min 5 s``."""
    since = task.created_at if task.submitted_at is None else task.submitted_at
    seconds = max(0, round((since if now is None else now) - since))
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def output_links(output: object) -> Iterator[str]:
    """Every http(s) URL among the texts of ``output``, each once, in order.

    Texts with spaces, control or invisible characters, quotes or brackets are left out: they are
    no links, whatever they start with.
    """
    yield from dict.fromkeys(text for text in _texts(output, LINKS_DEPTH) if _is_link(text))


def _texts(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth > 0 and isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _texts(member, depth - 1)


def _is_link(text: str) -> bool:
    return _LINK.fullmatch(text) is not None and not any(unicodedata.category(c)[0] == "C" for c in text)


def error_text(error: object) -> str:
    """The readable part of an upstream's error, whatever its shape."""
    if isinstance(error, str):
        return error[:ERROR_MAX]
    if isinstance(error, dict):
        parts = [error[k] for k in ("code", "message", "detail", "reason") if isinstance(error.get(k), str)]
        if parts:
            return ": ".join(parts)[:ERROR_MAX]
    return _json(error).decode("utf-8")[:ERROR_MAX]


def excerpt(text: str, *, limit: int) -> str:
    """``text`` on one line, printable, at most ``limit`` characters, cut with an ellipsis."""
    kept = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[: limit * 8])
    line = " ".join(kept.split())
    whole = len(line) <= limit and len(text) <= limit * 8
    return line if whole else line[: limit - 1].rstrip() + "…"


def safe(text: str, *, limit: int) -> str:
    """An excerpt that no channel takes for a mention, a link or markup.

    Mentions and links are broken by a zero-width space, which reads the same; brackets and
    emphasis are replaced by characters that look like them.
    """
    line = excerpt(text, limit=limit)
    line = line.replace("@", "@" + _ZERO_WIDTH).replace("://", ":" + _ZERO_WIDTH + "//")
    line = _DOMAIN_DOT.sub("." + _ZERO_WIDTH, line)
    return line.translate(_MARKUP)


_MARKUP: Final = str.maketrans(
    {"<": "‹", ">": "›", "`": "ˋ", "*": "∗", "_": "＿", "~": "∼", "|": "∣", "[": "［", "]": "］", "#": "＃"}
)


def _json(value: object) -> bytes:
    """Compact UTF-8 JSON. What the border should have kept out must not keep a change from being told.

    NaN and the infinities become null, lone surrogates question marks.
    """
    try:
        text = _ENCODER.encode(value)
    except ValueError:
        text = _ENCODER.encode(_finite(value))
    return text.encode("utf-8", "replace")


def _decimal(value: object) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_decimal
)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_finite(member) for member in value]
    if isinstance(value, float | Decimal):
        return value if math.isfinite(value) else None
    return value
