"""Counters and gauges, in one registry. Names follow Prometheus' own advice; labels are bounded.

Label values are configured names (upstream, destination) or short reasons from our own code, never
anything that a peer wrote. Destinations that registrations name by URL are all called ``(inline)``, those
that are not known (any more) ``(missing)``.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry()

LOOP_RESTARTS: Final = Counter(
    "relay_loop_restarts_total", "Loops that failed and were started again.", ["loop"], registry=REGISTRY
)
POLLS: Final = Counter(
    "relay_polls_total",
    "Looks at a task, by outcome: news, no_news or the reason of a failure.",
    ["upstream", "outcome"],
    registry=REGISTRY,
)
CHANGES: Final = Counter(
    "relay_status_changes_total", "Status changes recorded.", ["upstream", "change"], registry=REGISTRY
)
ATTEMPTS: Final = Counter(
    "relay_delivery_attempts_total",
    "Attempts to tell a destination.",
    ["destination", "outcome", "reason"],
    registry=REGISTRY,
)
DEAD: Final = Counter(
    "relay_deliveries_dead_total",
    "Deliveries given up, but tests, by the reason that the delivery shows.",
    ["destination", "reason"],
    registry=REGISTRY,
)
ATTEMPT_SECONDS: Final = Histogram(
    "relay_delivery_attempt_seconds",
    "Duration of an attempt.",
    ["destination"],
    registry=REGISTRY,
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30),
)
DELIVERY_SECONDS: Final = Histogram(
    "relay_delivery_lag_seconds",
    "From the recorded change to its delivery.",
    ["destination"],
    registry=REGISTRY,
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 30, 300, 3600, 86400),
)
TASKS_WATCHED: Final = Gauge(
    "relay_tasks_watched", "Tasks being asked about.", ["upstream"], registry=REGISTRY
)
CREDENTIAL_PAUSED: Final = Gauge(
    "relay_credential_paused",
    "1 while the upstream refuses the credential.",
    ["upstream"],
    registry=REGISTRY,
)
DELIVERIES: Final = Gauge(
    "relay_deliveries", "Deliveries not delivered, by state.", ["destination", "state"], registry=REGISTRY
)
OLDEST_DUE_SECONDS: Final = Gauge(
    "relay_oldest_due_seconds",
    "Age of the oldest delivery that is due and that no pace, seat, pause or hold keeps back.",
    registry=REGISTRY,
)
DESTINATION_STATE: Final = Gauge(
    "relay_destination_state",
    "1 for the state that the destination is in: active, paused, disabled. Of inline ones, how many.",
    ["destination", "state"],
    registry=REGISTRY,
)
DESTINATION_FAILING_SECONDS: Final = Gauge(
    "relay_destination_failing_seconds",
    "For how long every attempt has failed; 0 while deliveries arrive. Of inline ones, the longest.",
    ["destination"],
    registry=REGISTRY,
)
CONFIG_RELOAD_SUCCESS: Final = Gauge(
    "relay_config_reload_success",
    "1 if the configuration could be used when it was last read, at the start or on SIGHUP; 0 if not.",
    registry=REGISTRY,
)
CONFIG_RELOAD_TIMESTAMP_SECONDS: Final = Gauge(
    "relay_config_reload_timestamp_seconds",
    "When the configuration in force was taken up, in seconds since 1970.",
    registry=REGISTRY,
)
SUBMISSIONS: Final = Counter(
    "relay_submissions_total",
    "Creates forwarded, by outcome.",
    ["upstream", "outcome"],
    registry=REGISTRY,
)
REDELIVERIES: Final = Gauge("relay_redeliveries", "Redeliveries, by state.", ["state"], registry=REGISTRY)
REDELIVERED: Final = Counter(
    "relay_redelivered_total", "Deliveries that redeliveries made due again.", registry=REGISTRY
)
