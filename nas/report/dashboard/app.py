"""The web application for one record: pages for people and JSON for programs, all read-only.

Names of studies are query values and never parts of a path, therefore a study may be called `..` or
`a%2Fb`. Pages contain no inline scripts, and their security policy allows none, therefore no value
of the record can run. The host name is checked, so that a page from another site cannot reach this
server under its own name (DNS rebinding).
"""

import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from nas.core.errors import MissingDependencyError, NasError, UnknownNameError

try:
    from fastapi import FastAPI, Query, Request, Response
    from fastapi.middleware.trustedhost import TrustedHostMiddleware
    from fastapi.responses import HTMLResponse, JSONResponse
except ImportError as error:  # pragma: no cover - depends on what is installed
    raise MissingDependencyError(error.name or "fastapi", "serve") from error

from nas.record import Store
from nas.report import fronts
from nas.report.at_work import at_work
from nas.report.contents import contents, read
from nas.report.dashboard.pages import compare_page, list_page, study_page, trial_page
from nas.report.page import asset, plotly
from nas.report.svg import STYLE, draw_svg

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Headers of every response."""
STATIC_FILES = {
    "page.css": "text/css",
    "theme.js": "text/javascript",
    "study.js": "text/javascript",
    "plotly.js": "text/javascript",
}
"""Files of the pages and their types."""
StudyName = Annotated[str, Query(description="The study's name")]
TrialNumber = Annotated[int, Query(ge=0, description="The trial's number")]


def create_app(
    store: Store, *, database: str, hosts: Sequence[str] = ("127.0.0.1", "localhost", "[::1]")
) -> FastAPI:
    """Return the application for an open record.

    `database` is the record's address in the commands on the pages. `hosts` are the host names that
    requests may use, `*` for all.
    """
    app = FastAPI(
        title="osa-nas",
        description="A record of architecture searches, read-only.",
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_exception_handler(NasError, _error_response)
    app.middleware("http")(_with_headers)
    _add_pages(app, store, database)
    _add_api(app, store)
    return app


class _Contents:
    """Cached contents of the requested studies.

    They are computed again when the record of the study has changed. The current work is read each
    time.
    """

    def __init__(self, store: Store, database: str) -> None:
        self._store, self._database = store, database
        self._cache: dict[str, tuple[Any, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str) -> dict[str, Any]:
        """Return `nas.report.contents.contents` of a study."""
        record, summary = self._store.study(name), self._store.summary(name)
        state = (record, summary, self._store.row_counts(name))
        with self._lock:
            if name not in self._cache or self._cache[name][0] != state:
                self._cache[name] = (state, contents(read(self._store, name, self._database)))
            values = self._cache[name][1]
        work = at_work(self._store, record, summary.running)
        return {**values, "at_work": work.to_dict()}


def _add_pages(app: FastAPI, store: Store, database: str) -> None:
    """Add the pages and their files."""
    contents_of = _Contents(store, database)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def studies() -> str:
        return list_page(store.listed_studies())

    @app.get("/study", response_class=HTMLResponse, include_in_schema=False)
    def study(study: StudyName) -> str:
        return study_page(study, contents_of(study))

    @app.get("/trial", response_class=HTMLResponse, include_in_schema=False)
    def trial(study: StudyName, trial: TrialNumber) -> str:
        return trial_page(read(store, study, database), store.trial(study, trial))

    @app.get("/compare", response_class=HTMLResponse, include_in_schema=False)
    def compare(study: StudyName, a: TrialNumber, b: TrialNumber) -> str:
        return compare_page(store.study(study), store.trial(study, a), store.trial(study, b))

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        if name not in STATIC_FILES:
            raise UnknownNameError("the files of the page", name, list(STATIC_FILES))
        text = plotly() if name == "plotly.js" else asset(name)
        if name == "page.css":
            text += STYLE
        return Response(text, media_type=STATIC_FILES[name])

    @app.get("/api/contents", tags=["pages"])
    def page_contents(study: StudyName) -> dict[str, Any]:
        """Everything on the study's page, as columns."""
        return contents_of(study)


def _add_api(app: FastAPI, store: Store) -> None:
    """Add the JSON interface. Numbers are in SI units."""

    @app.get("/api/studies")
    def studies() -> list[dict[str, Any]]:
        """Every study with the number of its trials by state."""
        return [
            {
                "name": r.name,
                "counts": r.counts,
                "dataset": r.dataset,
                "created_at": r.created_at,
                "objectives": [asdict(o) for o in r.spec.objectives],
            }
            for r in store.listed_studies()
        ]

    @app.get("/api/front")
    def front(study: StudyName, at: Annotated[int | None, Query(ge=1)] = None) -> Any:
        """The front now, or as it was after `at` finished trials."""
        record = store.study(study)
        shown = fronts.read_front(store, record, at)
        return fronts.front_values(record.spec, shown, baselines=store.baselines(study))

    @app.get("/api/trial")
    def trial(study: StudyName, trial: TrialNumber) -> dict[str, Any]:
        """One trial with all its figures and samples."""
        recorded = store.trial(study, trial)
        values: dict[str, Any] = asdict(recorded)
        return values | {"digest": recorded.architecture.digest}

    @app.get(
        "/api/drawing", response_class=Response, responses={200: {"content": {"image/svg+xml": {}}}}
    )
    def drawing(study: StudyName, trial: TrialNumber) -> Response:
        """A trial's network as SVG."""
        record = store.study(study)
        text = draw_svg(
            store.trial(study, trial).architecture,
            record.spec.measurement.image_size,
            record.classes,
        )
        return Response(text, media_type="image/svg+xml")


async def _with_headers(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers.update(HEADERS)
    return response


def _error_response(request: Request, error: Exception) -> Response:
    """Answer an error as text or JSON: 404 for an unknown name, 503 for any other error."""
    status = 404 if isinstance(error, UnknownNameError) else 503
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": str(error)}, status_code=status)
    return Response(f"error: {error}\n", status_code=status, media_type="text/plain; charset=utf-8")
