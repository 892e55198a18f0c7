"""Faults on demand: the words, who gets which, and what of a create is still to go wrong.

A word in brackets in the prompt (``a cat [fail]``) asks for a fault of that one task; the option
``faults`` of ``app.create_app`` gives faults to all tasks or to a share of them, seeded. What a
word does is decided where it happens: ends and outputs in ``rules.py``, events in ``wire.py``,
refusals and lost replies in ``app.py``. ``docs/sandbox.md`` tells users.
"""

from __future__ import annotations

import collections
import math
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from relay.catalogue import faults as catalogue_faults
from relay.domain import errors


class Word(StrEnum):
    """A fault, as it is spelt in a prompt (in brackets) and as an option."""

    FAIL = "fail"
    CANCEL = "cancel"
    MODERATED = "moderated"
    """Ends failed, with an error of its own code: what most vendors do."""
    STALL = "stall"
    """Processed for ever."""
    RATE_LIMITED = "429"
    """The first create, and the first look at the task, are answered 429."""
    UNAVAILABLE = "5xx"
    """The same with 503."""
    DROP_REPLY = "drop-reply"
    """The task is made and the connection closed unanswered."""
    DUPLICATE_EVENTS = "duplicate-events"
    OUT_OF_ORDER = "out-of-order"
    REUSED_IDS = "reused-ids"
    LATE_OUTPUT = "late-output"
    EXPIRED_URL = "expired-url"
    NO_OUTPUT = "no-output"


Words = tuple[Word, ...]
"""Distinct words in the order of their weight: of those that exclude each other the first counts."""

CREATE_REFUSALS: Final = (Word.RATE_LIMITED, Word.UNAVAILABLE, Word.DROP_REPLY)
"""What may go wrong with a create, in the order in which it does."""

LOOK_REFUSALS: Final = (Word.RATE_LIMITED, Word.UNAVAILABLE)
"""What may go wrong with the first look at a task, in the order in which it does."""

ATTEMPTS_MAX: Final = 10_000
"""Creates remembered that were refused and not tried again; the oldest are forgotten."""

_IN_PROMPT: Final = re.compile(rf"\[({'|'.join(re.escape(word) for word in Word)})\]")


def in_prompt(task_input: Mapping[str, object]) -> Words:
    """The words in the prompt of an input, in order, each once."""
    prompt = task_input.get("prompt")
    if not isinstance(prompt, str):
        return ()
    return tuple(dict.fromkeys(Word(match[1]) for match in _IN_PROMPT.finditer(prompt)))


def rates(options: Iterable[str]) -> dict[Word, float]:
    """The share of tasks that gets each fault, from texts like ``429`` (all) or ``429:0.1``.

    Raises ``errors.ConfigurationError``.
    """
    found: dict[Word, float] = {}
    for option in options:
        name, colon, share = option.partition(":")
        if name not in list(Word):
            near = catalogue_faults.nearest(name, Word)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(Word)}"
            raise errors.ConfigurationError(f"--fault: no fault is called {name[:80]!r}; {hint}")
        try:
            rate = float(share) if colon else 1.0
        except ValueError:
            rate = math.nan
        if not 0.0 <= rate <= 1.0:
            raise errors.ConfigurationError(f"--fault {name}: give a share from 0 to 1, such as {name}:0.1")
        found[Word(name)] = rate
    return found


@dataclass(slots=True)
class Attempt:
    """A create on its way: the words of its task, and what is still to go wrong before it works."""

    words: Words
    refusals: list[Word]


class Attempts:
    """Creates by who asks for what: the same create, tried again, is the same attempt.

    Deterministic for a ``seed`` and an order of creates.
    """

    def __init__(self, *, seed: str, rates: Mapping[Word, float]) -> None:
        self._seed = seed
        self._rates = rates
        self._begun = 0
        self._open: collections.OrderedDict[tuple[bytes, str | bytes], Attempt] = collections.OrderedDict()

    def of(self, identity: tuple[bytes, str | bytes], task_input: Mapping[str, object]) -> Attempt:
        """The attempt of the caller and the idempotency key, or where there is none the payload."""
        attempt = self._open.get(identity)
        if attempt is None:
            words = tuple(dict.fromkeys((*in_prompt(task_input), *self._drawn())))
            attempt = Attempt(words, [word for word in CREATE_REFUSALS if word in words])
            self._open[identity] = attempt
            if len(self._open) > ATTEMPTS_MAX:
                self._open.popitem(last=False)
        return attempt

    def done(self, identity: tuple[bytes, str | bytes]) -> None:
        """The create was answered; the next of the same identity is another."""
        self._open.pop(identity, None)

    def _drawn(self) -> list[Word]:
        if not self._rates:
            return []
        self._begun += 1
        rng = random.Random(f"{self._seed}:faults:{self._begun}")  # noqa: S311 - repeatable, not secret
        # One draw each, whether it counts or not: the rate of one fault does not move the others.
        return [word for word in Word if rng.random() < self._rates.get(word, 0.0)]
