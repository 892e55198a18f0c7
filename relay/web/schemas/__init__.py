"""The shapes of the API: what comes in (strict, unknown members refused) and what goes out.

A module per resource; what several share is in ``common.py``. Handlers name these in their
signatures, so a description of the API can be made from them, under the names that they have here: no
two may be alike. Times go out as RFC 3339 UTC with milliseconds, money as JSON numbers, members that
do not apply as ``null``.
"""
