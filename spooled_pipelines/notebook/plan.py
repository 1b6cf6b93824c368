"""The plan of a call, and whether it needs a confirmation."""

from __future__ import annotations

import json

from spooled_pipelines.batch.display.html_card import Card, duration, size
from spooled_pipelines.batch.plan import BatchPlan
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.text import shorten

# More jobs than somebody enqueues by mistake.
MANY = 100_000
_REASONS_SHOWN = 5
# A payload may be a megabyte, and a notebook keeps what it shows.
_SAMPLE_SIGNS = 400


class ConfirmationNeededError(InvalidArgumentError):
    """Nothing was sent: it is a lot, or for another machine; ``plan`` says what it would be."""

    def __init__(self, message: str, plan: BatchPlan) -> None:
        super().__init__(message)
        self.plan = plan

    def _render_traceback_(self) -> list[str]:
        # The cell above shows where the call was made.
        return [f"ConfirmationNeededError: {self.message}"]


def plan_card(plan: BatchPlan, settings: ConnectionSettings, note: str = "") -> Card:
    """Return the plan as a card."""
    duplicates = (
        "unknown (this server cannot be asked)"
        if plan.duplicates is None
        else f"{plan.duplicates:,}"
    )
    facts = [
        ("to", f"queue {plan.queue_name} on {settings.name}"),
        ("rows", f"{plan.rows:,}"),
        ("new jobs", f"{plan.created:,}"),
        ("duplicates", duplicates),
        ("changed", f"{plan.changed or 0:,} (another payload than their job)"),
        ("repeated keys", f"{plan.repeated:,}"),
        ("rejected", f"{plan.rejected:,}"),
        ("size", f"{size(plan.bytes)} on the wire"),
    ]
    shown = {"changed": plan.changed, "repeated keys": plan.repeated}
    facts = [fact for fact in facts if shown.get(fact[0], True)]
    if plan.seconds is not None:
        facts.append(("will take", duration(plan.seconds)))
    reasons = sorted(plan.reasons.items(), key=lambda reason: -reason[1])[:_REASONS_SHOWN]
    lines = [*plan.notes, *(f"{count:,} rejected: {reason}" for reason, count in reasons)]
    samples = [
        shorten(json.dumps(sample, ensure_ascii=False, sort_keys=True), _SAMPLE_SIGNS)
        for sample in plan.samples
    ]
    return Card(
        "What this call does",
        facts,
        [*lines, note] if note else lines,
        details=("The first payloads", samples),
    )


def check_confirmed(
    plan: BatchPlan, settings: ConnectionSettings, *, confirm: bool, more: bool
) -> None:
    """Raise ConfirmationNeededError if a confirmation is needed and was not given.

    `more` says that more will be done than the plan's new jobs.
    """
    if confirm or not (plan.created or more):
        return
    local = settings.file is not None or settings.endpoint.is_local
    if not local:
        why = f"{settings.name} is not on this machine"
    elif plan.created > MANY:
        why = f"{plan.created:,} new jobs are more than {MANY:,}"
    else:
        return
    raise ConfirmationNeededError(
        f"nothing was sent: {why}. If the plan above is what you want, call again with "
        "confirm=True (%enqueue: --confirm).",
        plan,
    )
