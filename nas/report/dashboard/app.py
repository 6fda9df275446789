"""The web application over one record: pages for people, JSON for programs, nothing that changes
anything.

Names of studies stand in queries and never in paths, so that a study named `..` or `a%2Fb` is like
any other. Pages have no script of their own text, and their policy allows none: what the record
holds cannot run. The host is checked, so that a page from elsewhere cannot reach a server on this
machine by a name of its own.
"""

import json
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

from nas.core.pareto import front as front_of
from nas.record import Store
from nas.report import fronts
from nas.report.at_work import at_work
from nas.report.contents import Study, contents, read
from nas.report.dashboard.pages import compare_page, list_page, study_page, trial_page
from nas.report.history import finished, front_at
from nas.report.page import asset, plotly
from nas.report.svg import STYLE, draw_svg

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
StudyName = Annotated[str, Query(description="The study's name")]
TrialNumber = Annotated[int, Query(ge=0, description="The trial's number")]


def create_app(
    store: Store, *, database: str, hosts: Sequence[str] = ("127.0.0.1", "localhost", "[::1]")
) -> FastAPI:
    """The application over an open record; `database` is how commands on its pages name it.

    `hosts` are the names under which it may be asked for, `*` for all.
    """
    app = FastAPI(
        title="osa-nas",
        description="What a record of architecture searches holds; read-only.",
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_exception_handler(NasError, _refuse)
    app.middleware("http")(_with_headers)
    _add_pages(app, store, database)
    _add_api(app, store, database)
    return app


class _Latest:
    """Contents of the studies that were asked for, made anew only when a trial has begun or ended
    since, but for what is being done now.
    """

    def __init__(self, store: Store, database: str) -> None:
        self._store, self._database = store, database
        self._known: dict[str, tuple[Any, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str) -> dict[str, Any]:
        """As `nas.report.contents.contents`."""
        record = self._store.study(name)
        state = (record.counts, len(self._store.fronts(name)))
        with self._lock:
            if name not in self._known or self._known[name][0] != state:
                self._known[name] = (state, contents(read(self._store, name, self._database)))
            known = self._known[name][1]
        working = at_work(self._store, record, self._store.summary(name).running)
        return {**known, "at_work": working.to_dict()}


def _add_pages(app: FastAPI, store: Store, database: str) -> None:
    """What a browser shows."""
    latest = _Latest(store, database)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def studies() -> str:
        return list_page(store.studies())

    @app.get("/study", response_class=HTMLResponse, include_in_schema=False)
    def study(study: StudyName) -> str:
        return study_page(study, latest(study))

    @app.get("/trial", response_class=HTMLResponse, include_in_schema=False)
    def trial(study: StudyName, trial: TrialNumber) -> str:
        return trial_page(read(store, study, database), store.trial(study, trial))

    @app.get("/compare", response_class=HTMLResponse, include_in_schema=False)
    def compare(study: StudyName, a: TrialNumber, b: TrialNumber) -> str:
        return compare_page(store.study(study), store.trial(study, a), store.trial(study, b))

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        kinds = {
            "page.css": "text/css",
            "theme.js": "text/javascript",
            "study.js": "text/javascript",
            "plotly.js": "text/javascript",
        }
        if name not in kinds:
            raise UnknownNameError("the files of the page", name, list(kinds))
        text = (
            plotly() if name == "plotly.js" else asset(name) + (STYLE if name == "page.css" else "")
        )
        return Response(text, media_type=kinds[name])

    @app.get("/api/contents", tags=["pages"])
    def page_contents(study: StudyName) -> dict[str, Any]:
        """All that the study's page shows, as columns."""
        return latest(study)


def _add_api(app: FastAPI, store: Store, database: str) -> None:
    """What a program asks for. Numbers are SI."""

    @app.get("/api/studies")
    def studies() -> list[dict[str, Any]]:
        """Every study with its trials by state."""
        return [
            {
                "name": r.name,
                "counts": r.counts,
                "dataset": r.dataset,
                "created_at": r.created_at,
                "objectives": [asdict(o) for o in r.spec.objectives],
            }
            for r in store.studies()
        ]

    @app.get("/api/front")
    def front(study: StudyName, at: Annotated[int | None, Query(ge=1)] = None) -> Any:
        """The front now, or as it was after `at` finished trials."""
        known: Study = read(store, study, database)
        trials = {t.number: t for t in known.trials}
        found = (
            front_of(known.trials, known.objectives)
            if at is None
            else front_at(known.fronts, at, len(finished(known.trials)))
        )
        return json.loads(fronts.as_json(known.record.spec, trials, found))

    @app.get("/api/trial")
    def trial(study: StudyName, trial: TrialNumber) -> dict[str, Any]:
        """One trial with all its figures and samples."""
        found = store.trial(study, trial)
        values: dict[str, Any] = asdict(found)
        values["evaluation"]["rungs"] = [
            {**asdict(rung), "train_loss": str(rung.train_loss)} for rung in found.evaluation.rungs
        ]  # it may be no number
        return values | {"digest": found.architecture.digest}

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


def _refuse(request: Request, error: Exception) -> Response:
    """Our errors as one line: 404 for what is not there, 503 for a record that cannot be read."""
    status = 404 if isinstance(error, UnknownNameError) else 503
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": str(error)}, status_code=status)
    return Response(f"error: {error}\n", status_code=status, media_type="text/plain; charset=utf-8")
