"""The section `[spooled]` of Airflow's configuration, read when it is needed."""

from __future__ import annotations

from spooled_pipelines.airflow.platform.versions import conf
from spooled_pipelines.airflow.provider_info import CONFIG_OPTIONS, CONFIG_SECTION
from spooled_pipelines.errors import InvalidArgumentError


def queue_poll_seconds() -> float:
    """Return how often a queue that somebody waits for is looked at."""
    return _at_least("queue_poll_seconds", 0.1)


def xcom_rows_max() -> int:
    """Return how many rows of results a task may return."""
    return int(_at_least("xcom_rows_max", 0))


def cancel_on_kill() -> bool:
    """Return whether a task that is marked failed or success cancels what has not started."""
    return _switch("cancel_on_kill")


def default_deferrable() -> bool:
    """Return whether tasks that do not say wait in the triggerer, as for all providers."""
    return conf.getboolean("operators", "default_deferrable", fallback=False)


# Not every process of Airflow has read the providers' defaults, hence the fallbacks.
def _switch(option: str) -> bool:
    default = CONFIG_OPTIONS[option]["default"] == "True"
    return conf.getboolean(CONFIG_SECTION, option, fallback=default)


def _at_least(option: str, least: float) -> float:
    default = float(CONFIG_OPTIONS[option]["default"])
    value = conf.getfloat(CONFIG_SECTION, option, fallback=default)
    if not value >= least:
        raise InvalidArgumentError(f"[spooled] {option} must be at least {least:g}, got {value:g}")
    return value
