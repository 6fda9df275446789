"""A study as one HTML file that needs nothing else: style, scripts, plotly.js, data and drawings
are inside.

Nothing is fetched, and the page's own policy forbids it. Whatever comes from the record is escaped.
Drawings are packed by the hundred and unpacked by the browser when one is looked at.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from nas.core.errors import MissingDependencyError
from nas.report.contents import Study, contents
from nas.report.history import finished
from nas.report.svg import STYLE, draw_svg

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
CHUNK = 100


def report(study: Study, made_at: datetime) -> str:
    """The study's page. Raises `MissingDependencyError` without plotly or Jinja."""
    inline = {
        "style": asset("page.css") + STYLE,
        "theme": asset("theme.js"),
        "study": asset("study.js"),
        "plotly": plotly(),
    }
    return page(
        "study.html",
        title=f"Study {study.record.name}",
        policy=POLICY,
        contents=embedded(contents(study)),
        drawings=embedded(drawings(study)),
        inline={name: trusted(text) for name, text in inline.items()},
        made_at=f"made {made_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
    )


def page(template: str, **values: Any) -> str:
    """A page made from one of this package's templates; every value is escaped unless it is
    `trusted`.
    """
    text: str = _environment().get_template(template).render(version=version("osa-nas"), **values)
    return text


def embedded(value: Any) -> Any:
    """JSON for a script element: no character that could end it, or begin anything else."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return trusted(text)


def trusted(text: str) -> Any:
    """Text of this program's own, not to be escaped."""
    _needs("markupsafe")
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - callers give their own text, or what `embedded` escaped


def drawings(study: Study) -> Mapping[str, Any]:
    """Every finished trial's drawing in the order of `contents`: base64 of deflated JSON lists of
    `size` texts.
    """
    record = study.record
    ended = sorted(finished(study.trials), key=lambda trial: trial.number)
    every = [
        draw_svg(t.architecture, record.spec.measurement.image_size, record.classes) for t in ended
    ]
    packed = [
        zlib.compress(json.dumps(every[start : start + CHUNK]).encode())
        for start in range(0, len(every), CHUNK)
    ]
    return {"size": CHUNK, "chunks": [base64.b64encode(chunk).decode() for chunk in packed]}


@cache
def asset(name: str) -> str:
    """A style sheet or script of this package."""
    return (files("nas.report") / "assets" / name).read_text(encoding="utf-8")


@cache
def plotly() -> str:
    """plotly.js as the package plotly brings it. Raises `MissingDependencyError`."""
    _needs("plotly")
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    _needs("jinja2")
    from jinja2 import Environment, PackageLoader

    return Environment(loader=PackageLoader("nas.report"), autoescape=True)


def _needs(package: str) -> None:
    if find_spec(package) is None:
        raise MissingDependencyError(package, "report")
