"""A real browser, and studies that were really searched, for the tests of pages."""

import shutil
from dataclasses import replace

import pytest

from nas import plugins
from nas.search.launch import open_search
from nas.store import Store
from nas.study import Budget, Objective, RungSpec, StudySpec

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update")
SPEC = StudySpec(name="pages", space="osa_cifar", sampler="random", rungs=RungSpec(epochs=(1, 2, 4), keep=0.5),
                 budget=Budget(trials=60), objectives=(
                     Objective(metric="error", reference=1.0),
                     Objective(metric="latency", reference=0.01, limit=0.003)))


@pytest.fixture(scope="session")
def chromium():
    """A running Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no chromium here; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=[*FLAGS])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium):
    """A new tab of 1440 x 1000 pixels; `tab.asked` are all URLs it asked for, `tab.errors` what went wrong in it."""
    context = chromium.new_context(viewport={"width": 1440, "height": 1000}, color_scheme="light")
    page = context.new_page()
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    yield page
    context.close()


def searched(database, spec):
    """The study of this spec, searched with figures that are arithmetic."""
    with Store.open(database) as store, open_search(
        spec, store=store, workers=plugins.load("nas.workers", "local")(), folder=database.parent,
        artifacts=database.parent, evaluator="nas.testing.evaluators:ArithmeticEvaluator",
    ) as found:
        found.run()


@pytest.fixture(scope="session")
def record(tmp_path_factory):
    """A record with the study `pages` of 60 trials and studies of hostile names."""
    database = tmp_path_factory.mktemp("record") / "nas.db"
    searched(database, SPEC)
    for name in HOSTILE:
        searched(database, replace(SPEC, name=name, budget=Budget(trials=2)))
    return database


HOSTILE = ("<img src=x onerror=alert(1)>", "'\"><svg onload=alert(1)>", "{{7*7}}{% if", "..", "%2e%2e&a=1#b",
           "</script><script>alert(1)<".replace("/", "\\"), "$(touch pwned) `id`;")
