"""Foreign JSON made safe: decoding, cleaning, money, times. Pure functions, no I/O.

Owns what may come in from an upstream's body: everything that leaves here can be stored as text
and JSON in any engine and written out again. It never guesses meanings; that is ``events.py``.

What is changed on the way in, because stores and JSON writers cannot hold it:

- NUL and lone surrogates in text (member names too) become U+FFFD
- an integer outside 64 bits becomes its digits as text (the first 100)
- NaN, Infinity and numbers too large for a double become ``None``
- bytes that are not UTF-8 become U+FFFD

Nesting deeper than ``DEPTH_MAX`` is refused whole.
"""

from __future__ import annotations

import functools
import json
import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

DEPTH_MAX: Final = 64
"""Levels of arrays and objects. A task body has about five; writers downstream recurse as well."""

MONEY_MAX: Final = Decimal(10) ** 9
"""More than that for one task is an error of the upstream, not a price."""

_INTEGER_MIN: Final = -(2**63)
_INTEGER_MAX: Final = 2**63 - 1
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_MONEY: Final = re.compile(r"\+?[0-9]{1,18}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?")
_MONEY_LENGTH_MAX: Final = 200
"""Characters that an amount has at most, blanks around it included: what is kept stays small."""
_AMOUNTS_MAX: Final = 1_024
"""Amounts kept as they were read: tasks of one model cost the same."""
_NUMBER: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")
_EPOCH_MIN: Final = 946_684_800.0  # 2000-01-01: earlier than any such API
_EPOCH_MAX: Final = 4_102_444_800.0  # 2100-01-01


class Unreadable(ValueError):
    """The body is not JSON, is nested too deeply, or has none of the known shapes."""


class Numeral(str):
    """A JSON number as it was written, so that money is read exactly and huge ones cost nothing."""

    __slots__ = ()


def _constant(_: str) -> None:
    """NaN and the infinities, which Python's parser accepts, carry no value."""


_DECODER: Final = json.JSONDecoder(
    parse_float=Numeral, parse_int=Numeral, parse_constant=_constant, strict=False
)


def decode(body: bytes | str) -> object:
    """The JSON value in ``body``, with numbers as ``Numeral``. Raises ``Unreadable``."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    try:
        return _DECODER.decode(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        raise Unreadable("not JSON") from None


def clean(value: object, *, depth: int = 0) -> object:
    """A copy of a decoded value that any store and any JSON writer can hold (see the module).

    Raises ``Unreadable`` where it is nested deeper than ``DEPTH_MAX``.
    """
    if isinstance(value, str):
        return _number(value) if isinstance(value, Numeral) else clean_text(value)
    if value is None or isinstance(value, bool):
        return value
    if depth >= DEPTH_MAX:
        raise Unreadable(f"nested deeper than {DEPTH_MAX} levels")
    if isinstance(value, dict):
        return {
            # Most members are plain text: a call for each would be most of what cleaning costs.
            clean_text(name if type(name) is str else str(name)): member
            if type(member) is str and member.isascii() and "\x00" not in member
            else clean(member, depth=depth + 1)
            for name, member in value.items()
        }
    if isinstance(value, list | tuple):
        return [clean(member, depth=depth + 1) for member in value]
    if isinstance(value, int):
        return value if _INTEGER_MIN <= value <= _INTEGER_MAX else str(Decimal(value))[:100]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None


def _number(numeral: Numeral) -> object:
    if numeral.lstrip("-").isdigit():
        if len(numeral) <= 20 and _INTEGER_MIN <= (integer := int(numeral)) <= _INTEGER_MAX:
            return integer
        return str(numeral[:100])
    number = float(numeral)
    return number if math.isfinite(number) else None


def clean_text(text: str) -> str:
    """``text`` without NUL and lone surrogates."""
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def short_text(value: object, *, length_max: int) -> str | None:
    """``value`` as non-empty text of at most ``length_max`` characters, numbers included; else ``None``."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = clean(value)
        return str(value)[:length_max]
    if not isinstance(value, str):
        return None
    return clean_text(value.strip())[:length_max] or None


def money(value: object) -> Decimal | None:
    """An amount exactly as written, from a number or numeric text.

    ``None`` for what is no amount: not numeric, not finite, negative, above ``MONEY_MAX``, or with
    more than 18 digits before or after the point.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        if not 0 <= value <= MONEY_MAX:
            return None
        value = repr(value)  # the shortest text that means this float: what the upstream wrote
    return _amount(value) if isinstance(value, str) else None


@functools.lru_cache(maxsize=_AMOUNTS_MAX)
def _amount(numeral: str) -> Decimal | None:
    if len(numeral) > _MONEY_LENGTH_MAX or _MONEY.fullmatch(text := numeral.strip()) is None:
        return None
    amount = Decimal(text)
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -18 or amount > MONEY_MAX:
        return None
    return amount


def timestamp(value: object) -> float | None:
    """A point in time as epoch seconds, from epoch seconds, milliseconds or microseconds, or ISO 8601.

    Text without an offset is taken as UTC. ``None`` for anything outside the years 2000 to 2099.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        value = Numeral(repr(value))
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _NUMBER.fullmatch(text):
        epoch = float(text)
        while epoch >= _EPOCH_MAX:
            epoch /= 1000.0
    else:
        try:
            moment = datetime.fromisoformat(text[:64])
            epoch = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    return epoch if _EPOCH_MIN <= epoch < _EPOCH_MAX else None
