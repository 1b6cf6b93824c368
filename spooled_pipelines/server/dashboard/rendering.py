"""Pages from templates; everything in them is escaped unless a template says otherwise."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from spooled_pipelines.error_shapes import text_in_all
from spooled_pipelines.server.dashboard import formatting, view_models
from spooled_pipelines.text import plain
from spooled_pipelines.version import __version__

HERE = Path(__file__).parent
STATIC = HERE / "static"


class Pages:
    """The templates, with what they may use."""

    def __init__(self) -> None:
        environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(
            plain=plain,
            sentence=_sentence,
            in_all=text_in_all,
            number=formatting.number,
            rate=formatting.rate,
            duration=formatting.duration,
            moment=formatting.moment,
            ms=formatting.milliseconds,
        )
        environment.globals.update(
            static=_static,
            segments=view_models.segments,
            counts_of=view_models.counts_of,
            batch_state=view_models.batch_state,
            queue_state=view_models.queue_state,
            job_state=view_models.job_state,
            version=__version__,
        )
        self._environment = environment

    def render(self, template: str, **values: Any) -> str:
        """Return a whole page as text."""
        return self._environment.get_template(template).render(**values)


# Browsers may cache them, since their address changes with their content.
_MARKS = {
    path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in STATIC.iterdir()
}


def _sentence(text: str) -> Markup:
    """Return a sentence with the command lines in it, which stand between backticks, as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(plain(text)))))  # noqa: S704


def _static(name: str) -> str:
    return f"/static/{name}?v={_MARKS[name]}"
