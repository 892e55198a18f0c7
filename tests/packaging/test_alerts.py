"""The example alert rules speak of metrics, labels and label values that relay really has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

from relay import metrics
from relay.domain import reasons
from relay.engine import lanes

RULES = Path(__file__).parents[2] / "config" / "alerts.example.yml"
SELECTOR = re.compile(r"\b(relay_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
VALUES: dict[tuple[str, str], set[str]] = {
    ("relay_deliveries_dead_total", "reason"): set(reasons.Reason),
    ("relay_destination_state", "destination"): {lanes.INLINE, lanes.MISSING},
    ("relay_destination_state", "state"): set(lanes.STATES),
    ("relay_polls_total", "outcome"): {"news", "no_news"},
    ("relay_submissions_total", "outcome"): {"created", "unresolved"},
}
"""What a rule may ask a label for: those of the values that code gives it which rules need."""


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return list(group["rules"])


def known() -> dict[str, set[str]]:
    """Every series' name and the labels it may have."""
    found: dict[str, set[str]] = {}
    for name, collector in metrics.REGISTRY._names_to_collectors.items():
        labels = (
            set(collector._labelnames)
            if isinstance(collector, prometheus_client.metrics.MetricWrapperBase)
            else set()
        )
        found[name] = labels | ({"le"} if name.endswith("_bucket") else set())
    return found


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_a_rule_names_what_there_is(alert: dict[str, Any]) -> None:
    series = known()
    labels: set[str] = {"job"}
    for name, selector in SELECTOR.findall(alert["expr"]):
        assert name in series, name
        for label, values in LABEL.findall(selector):
            assert label in series[name], selector
            assert set(values.split("|")) <= VALUES[name, label], selector
        labels |= series[name]
    said = " ".join(alert["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", said)) <= labels
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert {"summary", "description"} <= alert["annotations"].keys()
