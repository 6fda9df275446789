"""The live page is read-only, escapes all values of the record, and follows a search."""

import json
import os
import sqlite3
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.trial import CERTIFIED_METRICS
from nas.record import Store

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
from fastapi.testclient import TestClient  # noqa: E402

from nas.report.dashboard import create_app  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture
def store(record):
    """The record, opened for reading."""
    with Store.open(record, read_only=True) as opened:
        yield opened


@pytest.fixture
def client(store):
    """A client of the application."""
    with TestClient(create_app(store, database="nas.db"), base_url="http://127.0.0.1") as opened:
        yield opened


class Elements(HTMLParser):
    """The elements of a page and the names of their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found, self.attributes = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.attributes |= {name for name, _ in attrs}


def pages(name):
    """Return the paths of every page of a study."""
    study = quote(name, safe="")
    return [
        f"/study?study={study}",
        f"/trial?study={study}&trial=0",
        f"/compare?study={study}&a=0&b=1",
    ]


def test_hostile_names_are_only_text(client, store):
    """The pages of every study have the same elements as those of the harmless study, and no event
    handlers.
    """
    hostile = [record.name for record in store.studies() if record.name != "pages"]
    assert len(hostile) > 5
    for name in hostile:
        for page, harmless in zip(pages(name), pages("pages"), strict=True):
            answer, expected = client.get(page), Elements(client.get(harmless).text)
            assert answer.status_code == 200, (name, page)
            found = Elements(answer.text)
            assert set(found.found) == set(expected.found)
            assert not [attribute for attribute in found.attributes if attribute.startswith("on")]
    listed = Elements(client.get("/").text)
    assert {"img", "svg", "script"} & set(listed.found) == {"script"}


def test_nothing_hostile_runs_in_a_browser(tab, server, store):
    """No dialog opens, and nothing is requested from elsewhere."""
    for record in store.studies():
        for page in pages(record.name):
            tab.on("dialog", lambda dialog: pytest.fail(dialog.message))
            tab.goto(server + page)
            assert record.name in tab.title()
    assert tab.errors == []
    assert [url for url in tab.asked if not url.startswith((server, "data:"))] == []


@pytest.mark.parametrize("at", [None, 60])
def test_the_api_gives_the_front_of_the_command_line(client, store, at):
    """The newest front and the one after 60 trials have the same members with the same figures."""
    query, option = ("", ()) if at is None else (f"&at={at}", ("--at", str(at)))
    words = ("front", "pages", "--format", "json", "--database", str(store))
    printed = json.loads(CliRunner().invoke(main, [*words, *option]).stdout)
    shown = client.get(f"/api/front?study=pages{query}").json()
    assert shown["members"] == printed["members"]
    assert len(shown["members"]) > 1


def test_an_earlier_front_holds_only_earlier_trials(client):
    """A front after 0 trials is refused."""
    early = client.get("/api/front?study=pages&at=5").json()
    assert early["after"] <= 5
    assert {member["trial"] for member in early["members"]} <= set(range(10))
    assert client.get("/api/front?study=pages&at=0").status_code == 422


@pytest.mark.parametrize(
    "path", ["/study?study=nobody", "/trial?study=pages&trial=10000", "/api/front?study=nobody"]
)
def test_unknown_names_give_404_in_one_line(client, path):
    """This holds for studies and trials, pages and JSON."""
    answer = client.get(path)
    assert answer.status_code == 404
    assert len(answer.text.splitlines()) == 1


def test_nothing_can_be_changed(client):
    """All paths of the schema are read by GET, and other methods are refused."""
    schema = client.get("/openapi.json").json()
    assert len(schema["paths"]) >= 5
    assert {method for path in schema["paths"].values() for method in path} == {"get"}
    assert client.post("/api/studies").status_code == 405


def test_another_host_name_is_refused(client):
    """A page elsewhere could point its own name at 127.0.0.1 and read the record through the
    visitor's browser.
    """
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


@contextmanager
def served(store):
    """Run a server of this record and return its address."""
    config = uvicorn.Config(
        create_app(store, database="nas.db"), host="127.0.0.1", port=0, log_level="error"
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = True
    thread.join()


@pytest.fixture
def server(store):
    """The address of a running server."""
    with served(store) as address:
        yield address


@pytest.fixture
def copy(record, tmp_path):
    """A copy of the record, for writing into it."""
    path = tmp_path / "nas.db"
    with sqlite3.connect(record) as source, sqlite3.connect(path) as target:
        source.backup(target)
    return path


def test_the_page_shows_what_is_recorded_after_the_last_trial(copy):
    """Certified figures and trainings with new seeds change no count of trials. A new study of the
    same name may even have the same counts.
    """
    with (
        Store.open(copy) as writing,
        Store.open(copy, read_only=True) as reading,
        TestClient(create_app(reading, database="nas.db"), base_url="http://127.0.0.1") as client,
    ):

        def shown(what):
            return client.get("/api/contents?study=pages").json()["trials"][what]

        number = writing.fronts("pages")[-1].members[0]
        member, row, before = (
            writing.trial("pages", number),
            shown("number").index(number),
            shown("values"),
        )
        figure = member.evaluation.measurements["latency"]
        certified = replace(figure, metric=CERTIFIED_METRICS["latency"])
        writing.add_measurements("pages", number, [certified], 0.0)
        assert set(shown("values")) - set(before) == {certified.metric}
        assert shown("seeds")[row] == 1
        for rung in member.evaluation.rungs:
            writing.add_replicate("pages", number, 7, rung)
        assert shown("seeds")[row] == 2
        writing.rename_study("pages", "old")
        assert client.get("/api/contents?study=pages").status_code == 404
        writing.create_study(
            replace(reading.study("old").spec, name="pages"), dataset="", classes=10
        )
        assert shown("number") == []


def test_a_finished_trial_appears_without_a_reload(tab, copy):
    """So do the driver and a figure that is measured later. Another connection writes into the
    record while the page is open.
    """
    with (
        Store.open(copy) as writing,
        Store.open(copy, read_only=True) as reading,
        served(reading) as address,
    ):
        tab.goto(f"{address}/study?study=pages")
        tab.wait_for_selector("#drawing svg.net")
        last = writing.trials("pages")[-1]
        original = last.number if last.duplicate_of is None else last.duplicate_of
        writing.add_trial("pages", replace(last, number=last.number + 1, duplicate_of=original))
        tab.wait_for_selector("#tiles >> text=1 repeated", timeout=30000)
        assert tab.inner_text("#at-work-body p") == "no search is running"
        figure = replace(last.evaluation.measurements["latency"], metric="latency_of_now")
        writing.add_measurements("pages", original, [figure], 0.0)
        tab.wait_for_selector("#x option[value=latency_of_now]", state="attached", timeout=30000)
        with writing.claim("pages"):
            tab.wait_for_selector(
                f"#at-work-body >> text=at work: process {os.getpid()} on", timeout=30000
            )
    assert tab.errors == []
