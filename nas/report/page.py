"""A study as one HTML file that contains style, scripts, plotly.js, data and drawings.

The page loads nothing from anywhere, and its own security policy forbids it. All values from the
record are escaped. Drawings are compressed in chunks, which the browser unpacks when one of them is
shown.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from nas.core.errors import require_package
from nas.report.contents import Study, contents
from nas.report.history import finished
from nas.report.svg import STYLE, draw_svg

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
"""Content security policy of a page in one file."""
CHUNK_SIZE = 100
"""Number of drawings that are compressed together."""


def report(study: Study) -> str:
    """Return the study's page. Raises `MissingDependencyError` without plotly or Jinja."""
    return single_page(
        "study.html",
        title=f"Study {study.record.name}",
        style=STYLE,
        scripts={"study": asset("study.js"), "plotly": plotly()},
        contents=embedded(contents(study)),
        drawings=embedded(drawings(study)),
    )


def single_page(
    template: str,
    *,
    style: str = "",
    scripts: Mapping[str, str] = MappingProxyType({}),
    **values: Any,
) -> str:
    """Render a template as one file, with its time, and with style and scripts beside its own.

    Raises `MissingDependencyError` without Jinja.
    """
    inline = {"style": asset("page.css") + style, "theme": asset("theme.js"), **scripts}
    return page(
        template,
        policy=POLICY,
        inline={name: trusted(text) for name, text in inline.items()},
        made_at=f"made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        **values,
    )


def page(template: str, **values: Any) -> str:
    """Render one of this package's templates. Every value is escaped unless it is `trusted`."""
    text: str = _environment().get_template(template).render(version=version("osa-nas"), **values)
    return text


def embedded(value: Any) -> Any:
    """Return JSON for a script element, without a character that could end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return trusted(text)


def trusted(text: str) -> Any:
    """Mark text as markup that must not be escaped. It must come from this program."""
    require_package("markupsafe", "report")
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - callers pass constant text or text that `embedded` escaped


def drawings(study: Study) -> Mapping[str, Any]:
    """Return the drawings of all finished trials, in the order of `contents`.

    `chunks` are JSON lists of `size` SVG texts each, compressed by zlib and encoded as base64.
    """
    record = study.record
    ended = sorted(finished(study.trials), key=lambda trial: trial.number)
    texts = [
        draw_svg(t.architecture, record.spec.measurement.image_size, record.classes) for t in ended
    ]
    packed = [
        zlib.compress(json.dumps(texts[start : start + CHUNK_SIZE]).encode())
        for start in range(0, len(texts), CHUNK_SIZE)
    ]
    return {"size": CHUNK_SIZE, "chunks": [base64.b64encode(chunk).decode() for chunk in packed]}


@cache
def asset(name: str) -> str:
    """Return a style sheet or script of this package."""
    return (files("nas.report") / "assets" / name).read_text(encoding="utf-8")


@cache
def plotly() -> str:
    """Return plotly.js from the package plotly. Raises `MissingDependencyError`."""
    require_package("plotly", "report")
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    require_package("jinja2", "report")
    from jinja2 import Environment, PackageLoader

    return Environment(loader=PackageLoader("nas.report"), autoescape=True)
