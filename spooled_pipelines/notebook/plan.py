"""What a call is about to do, and whether somebody has to say yes to it."""

from __future__ import annotations

import json

from spooled_pipelines.batch.plan import BatchPlan
from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.notebook.html_card import Card, duration, size
from spooled_pipelines.rpc.settings import ConnectionSettings

# More jobs than one makes by mistake.
MANY = 100_000
_REASONS_SHOWN = 5
# A payload may be a megabyte, and a notebook keeps what it shows.
_SAMPLE_SIGNS = 400


class ConfirmationNeededError(InvalidArgumentError):
    """Nothing was sent yet: it is much, or it goes to another machine. ``plan`` says what it is."""

    def __init__(self, message: str, plan: BatchPlan) -> None:
        super().__init__(message)
        self.plan = plan

    def _render_traceback_(self) -> list[str]:
        # Where the call was made is in the cell above; the sentence is what is worth reading.
        return [f"ConfirmationNeededError: {self.message}"]


def plan_card(plan: BatchPlan, settings: ConnectionSettings, note: str = "") -> Card:
    """The plan as a table."""
    there = "this server cannot be asked" if plan.there is None else f"{plan.there:,}"
    facts = [
        ("to", f"queue {plan.queue_name} on {settings.name}"),
        ("rows", f"{plan.rows:,}"),
        ("new jobs", f"{plan.created:,}"),
        ("there already", there),
        ("with the key of a row before", f"{plan.repeated:,}"),
        ("rejected", f"{plan.rejected:,}"),
        ("size", f"{size(plan.bytes)} on the wire"),
    ]
    if not plan.repeated:
        facts = [fact for fact in facts if fact[0] != "with the key of a row before"]
    if plan.seconds is not None:
        facts.append(("will take", duration(plan.seconds)))
    reasons = sorted(plan.reasons.items(), key=lambda reason: -reason[1])[:_REASONS_SHOWN]
    lines = [f"{count:,} rejected: {reason}" for reason, count in reasons]
    samples = [
        _short(json.dumps(sample, ensure_ascii=False, sort_keys=True)) for sample in plan.samples
    ]
    return Card(
        "What this call does",
        facts,
        [*lines, note] if note else lines,
        details=("The first payloads", samples),
    )


def check_confirmed(
    plan: BatchPlan, settings: ConnectionSettings, *, confirm: bool, retries: bool
) -> None:
    """ConfirmationNeededError where it takes a yes that was not given.

    `retries` says that more than what is new in the plan will be done.
    """
    if confirm or not (plan.created or retries):
        return
    local = settings.file is not None or settings.endpoint.is_local
    if not local:
        why = f"{settings.name} is not on this machine"
    elif plan.created > MANY:
        why = f"{plan.created:,} new jobs are more than {MANY:,}"
    else:
        return
    raise ConfirmationNeededError(
        f"nothing was sent: {why}. If what you see above is what you want, call again with "
        "confirm=True (%enqueue: --confirm).",
        plan,
    )


def _short(text: str) -> str:
    return text if len(text) <= _SAMPLE_SIGNS else text[: _SAMPLE_SIGNS - 1] + "…"
