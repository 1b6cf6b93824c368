"""What is not the same in all versions of Airflow that the provider is for: 3.0 and newer.

Everything else is in `airflow.sdk` and `airflow.triggers.base` of each of them. Two things that the
provider does without where Airflow lacks them are from 3.3 on: that a trigger is told of a kill
(`BaseTrigger.on_kill`), and the state of an asset (`asset_state_store`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from airflow import __version__

T = TypeVar("T")

OLDEST = "3.0"
VERSION = tuple(int(part) for part in re.findall(r"\d+", __version__)[:3])
if VERSION < (3, 0):
    raise ImportError(
        f"spooled-pipelines needs Airflow {OLDEST} or newer, and this is {__version__}: "
        "pip install 'spooled-pipelines[airflow]'"
    )

if TYPE_CHECKING or VERSION >= (3, 2):
    from airflow.sdk import BaseHook, conf
    from airflow.sdk.bases.decorator import determine_kwargs
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferred,
    )
else:
    from airflow.configuration import conf
    from airflow.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferred,
    )
    from airflow.utils.operator_helpers import determine_kwargs

    if VERSION >= (3, 1):
        from airflow.sdk import BaseHook
    else:
        from airflow.hooks.base import BaseHook

if TYPE_CHECKING:
    from airflow.sdk import Connection

__all__ = [
    "OLDEST",
    "VERSION",
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseHook",
    "TaskDeferred",
    "conf",
    "connection_of",
    "determine_kwargs",
    "run_in_thread",
]


async def connection_of(hook: BaseHook, conn_id: str) -> Connection:
    """Return an Airflow connection, on the event loop of a triggerer."""
    if VERSION >= (3, 3, 2):
        return await hook.aget_connection(conn_id)
    # 3.0 has no such method, and up to 3.3.1 it masks the secrets by a call that blocks the loop.
    return await run_in_thread(hook.get_connection, conn_id)


async def run_in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Return what a function returns that may ask Airflow's supervisor for something.

    Such a function's questions go over the event loop that awaits this, which a thread of asyncio's
    own does not know: up to 3.1 its answers would get lost.
    """
    from asgiref.sync import sync_to_async

    return await sync_to_async(function)(*arguments)
