"""`@task.enqueue_batch`, or `@enqueue_batch`: a function whose table becomes jobs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory

from spooled_pipelines.airflow.arguments.templates import refuse_templates
from spooled_pipelines.airflow.operators import EnqueueBatchOperator
from spooled_pipelines.errors import InvalidArgumentError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator


class EnqueueBatchDecoratedOperator(DecoratedOperator, EnqueueBatchOperator):
    """An `EnqueueBatchOperator` whose data is what the decorated function returns or yields."""

    custom_operator_name = "@task.enqueue_batch"
    template_fields: Sequence[str] = EnqueueBatchOperator.template_fields
    template_fields_renderers = EnqueueBatchOperator.template_fields_renderers
    shallow_copy_attrs: Sequence[str] = (
        *EnqueueBatchOperator.shallow_copy_attrs,
        "python_callable",
    )

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for argument in ("data", "sql", "sql_conn_id"):
            if kwargs.pop(argument, None) is not None:
                raise InvalidArgumentError(
                    f"@task.enqueue_batch takes no {argument}=: the function returns the table"
                )
        # By name, so that they are wrapped like all arguments that may be tables.
        named = inspect.signature(python_callable).bind_partial(*(op_args or ())).arguments
        arguments = {**named, **(op_kwargs or {})}
        super().__init__(
            python_callable=python_callable,
            op_args=(),
            op_kwargs=arguments,
            kwargs_to_upstream={"data": python_callable, "op_kwargs": arguments},
            **kwargs,
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """As `EnqueueBatchOperator.execute`, which calls the function when it needs the table."""
        return EnqueueBatchOperator.execute(self, context)


def enqueue_batch(
    python_callable: Callable[..., Any] | None = None, **kwargs: Any
) -> TaskDecorator:
    """Make a task of a function that returns a table or yields tables: its rows become jobs.

    Takes the arguments of `EnqueueBatchOperator` except ``data``. The function gets its arguments,
    and those of the task's context that its signature names::

        @enqueue_batch(queue_name="orders", key="order_id")
        def orders(ds):
            yield read_orders(ds)
    """
    refuse_templates(EnqueueBatchDecoratedOperator, kwargs)
    return task_decorator_factory(
        python_callable=python_callable,
        # The function's return value is not an XCom, whatever its annotation says.
        multiple_outputs=False,
        decorated_operator_class=EnqueueBatchDecoratedOperator,
        **kwargs,
    )
