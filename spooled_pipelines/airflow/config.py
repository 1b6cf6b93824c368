"""The section `[spooled]` of Airflow's configuration, read when it is needed."""

from __future__ import annotations

from airflow.sdk import conf

from spooled_pipelines.airflow.provider_info import CONFIG_OPTIONS, CONFIG_SECTION
from spooled_pipelines.errors import InvalidArgumentError


def queue_poll_seconds() -> float:
    """How often a queue is looked at that somebody waits for."""
    return _at_least("queue_poll_seconds", 0.1)


def xcom_rows_max() -> int:
    """How many rows of results a task may return."""
    return int(_at_least("xcom_rows_max", 0))


def cancel_on_kill() -> bool:
    """Whether a task that is marked failed or success cancels what has not started."""
    return _switch("cancel_on_kill")


def batch_tab() -> bool:
    """Whether Airflow's pages of tasks have a tab with the batch."""
    return _switch("batch_tab")


_WORDS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


def _switch(option: str) -> bool:
    text = _text(option).strip().lower()
    if text not in _WORDS:
        raise InvalidArgumentError(f"[spooled] {option} is {text!r}: say True or False")
    return _WORDS[text]


def _at_least(option: str, least: float) -> float:
    text = _text(option)
    try:
        value = float(text)
    except ValueError:
        value = least - 1
    if not value >= least:
        raise InvalidArgumentError(
            f"[spooled] {option} is {text!r}, and must be a number from {least:g} on"
        )
    return value


def _text(option: str) -> str:
    # Not every process of Airflow has read the providers' defaults.
    return str(conf.get(CONFIG_SECTION, option, fallback=CONFIG_OPTIONS[option]["default"]))
