"""Why a delivery or an attempt stands as it does, where relay itself has the word for it.

Beside these there are ``model.HoldReason``, the faults on the way (``apprise_jobs.Fault``), what is made
of a peer's code (``http_503``, ``smtp_550``), and the services' own words (``words.KNOWN``). They are
stored, shown, filtered by and metric labels, so none is ever renamed. docs/destinations.md explains all
of them to users; a test compares.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A reason of relay's own."""

    ABORTED_BY_RECEIVER = "aborted_by_receiver"
    ADDRESS_REFUSED = "address_refused"
    DISABLED_BY_RECEIVER = "disabled_by_receiver"
    """Also why a destination is disabled that accepted a message and wants no more."""
    INTERNAL_ERROR = "internal_error"
    NEWER_TOLD = "newer_told"
    """What came after it in its task is told instead."""
    NOT_ATTEMPTED = "not_attempted"
    NOT_RESUMED = "not_resumed"
    """Its destination was resumed without what it was owed."""
    REDIRECT = "redirect"
    SERVICE_REFUSED = "service_refused"
    TOO_OLD = "too_old"
    """It could not be told before its destination's ``age_max``."""
    UNCLEAR_ANSWER = "unclear_answer"
    UNKNOWN = "unknown"
    """It may have arrived, as often as that is risked."""
    UNUSABLE_URL = "unusable_url"
