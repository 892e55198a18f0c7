"""How many requests one API key may make: a token bucket for each, told in every answer.

The headers are those of the IETF draft on RateLimit header fields. What a stranger sends is not
counted here: it is refused before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from aiohttp import web

from relay.domain import schedule
from relay.web import problems

BURST_SECONDS: Final = 2.0
"""A key that was quiet may send so many seconds' worth at once."""

KEYS_MAX: Final = 10_000
"""Buckets kept; when there are more, those that are full again are forgotten, which changes nothing."""

STANDING: Final = web.RequestKey("rate_limit", str)
"""The ``RateLimit`` header of the answer to this request."""


class Limiter:
    """The buckets. ``rate`` is requests per second and key; ``monotonic()`` is read with each."""

    def __init__(self, rate: float, *, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = max(1.0, math.floor(rate * BURST_SECONDS))
        self._monotonic = monotonic
        self._buckets: dict[str, schedule.Budget] = {}
        self.policy = f'"key";q={self._burst:.0f};w={math.ceil(self._burst / rate)}'

    def take(self, request: web.Request, key_id: str) -> None:
        """Count ``request``. Raises ``problems.Problem`` 429 when it is one too many."""
        now = self._monotonic()
        bucket = self._buckets.get(key_id) or self._add(key_id, now)
        wait = bucket.take(now)
        until_full = math.ceil((self._burst - bucket.left) / self._rate)
        request[STANDING] = f'"key";r={max(0, math.floor(bucket.left))};t={until_full}'
        if wait:
            raise problems.Problem(
                429,
                f"This key made more than {self._rate:g} requests per second; slow down and try again.",
                headers={"Retry-After": str(math.ceil(wait))},
            )

    async def tell(self, request: web.Request, response: web.StreamResponse) -> None:
        """For the application's ``on_response_prepare``: say in every answer how the key stands."""
        standing = request.get(STANDING)
        if standing is not None:
            response.headers["RateLimit"] = standing
            response.headers["RateLimit-Policy"] = self.policy

    def _add(self, key_id: str, now: float) -> schedule.Budget:
        if len(self._buckets) >= KEYS_MAX:
            idle = now - self._burst / self._rate
            self._buckets = {key: each for key, each in self._buckets.items() if each.updated_at > idle}
        bucket = self._buckets[key_id] = schedule.Budget(self._rate, burst=self._burst, now=now)
        return bucket
