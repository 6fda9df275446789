"""A real browser and studies that were really searched, for the tests of pages; exported networks,
made once; agents in an environment without torch.
"""

import fcntl
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import venv
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.core import plugins
from nas.core.architecture import Architecture, Attention, OsaStage, PoolPadding, Stem
from nas.core.study import Budget, Objective, StudySpec, rungs_at
from nas.export import Manifest, export_bundle
from nas.measuring.devices.archive import write_agent
from nas.measuring.devices.book import Entry
from nas.model import build
from nas.record import Artifact, ArtifactKind, Store
from nas.searching.launch import open_search

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
)
SPEC = StudySpec(
    name="pages",
    space="osa_cifar",
    sampler="random",
    rungs=rungs_at(1, 2, 4),
    budget=Budget(trials=60, proposals=60, fresh=0),
    objectives=(
        Objective(metric="error", reference=1.0),
        Objective(metric="latency", reference=0.01, limit=0.003),
    ),
)


@pytest.fixture(scope="session")
def chromium():
    """A running Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if program is None:
        pytest.skip("there is no chromium here; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=[*FLAGS])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium, request):
    """A new tab of 1440 x 1000 pixels; `tab.asked` are all URLs it asked for, `tab.errors` what
    went wrong in it.

    Where $NAS_TEST_PICTURES names a folder, what it shows at the end of the test is kept there as a
    picture.
    """
    context = chromium.new_context(viewport={"width": 1440, "height": 1000}, color_scheme="light")
    page = context.new_page()
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on(
        "console",
        lambda message: page.errors.append(message.text) if message.type == "error" else None,
    )
    yield page
    if folder := os.environ.get("NAS_TEST_PICTURES"):
        page.screenshot(path=Path(folder) / f"{request.node.name}.png")
    context.close()


ARITHMETIC = "nas.testing.evaluators:ArithmeticEvaluator"


def searched(database, spec, *, artifacts=None, evaluator=ARITHMETIC):
    """The study of this spec, searched in this process, by default with figures that are
    arithmetic.
    """
    with (
        Store.open(database) as store,
        open_search(
            spec,
            store=store,
            workers=plugins.load("nas.workers", "local")(),
            folder=database.parent,
            artifacts=artifacts or database.parent,
            evaluator=evaluator,
        ) as found,
    ):
        found.run()


@pytest.fixture(scope="session")
def search_study():
    """A function that searches a study in this process into a folder: the record `nas.db` and the
    folder `checkpoints`. The trainings are real ones unless it is given another evaluator.
    """

    def search(folder, spec, evaluator=None):
        artifacts = folder / "checkpoints"
        searched(folder / "nas.db", spec, artifacts=artifacts, evaluator=evaluator)

    return search


@pytest.fixture(scope="session")
def copy_study():
    """A function that copies a folder of `search_study` with its only study."""

    def copy(searched, folder):
        shutil.copytree(searched, folder)
        with Store.open(folder / "nas.db") as store:
            (study,) = store.studies()
            store.set_artifacts(study.name, folder / "checkpoints")
        return folder

    return copy


@pytest.fixture(scope="session")
def record(tmp_path_factory):
    """A record with the study `pages` of 60 trials and studies of hostile names."""
    database = tmp_path_factory.mktemp("record") / "nas.db"
    searched(database, SPEC)
    with Store.open(
        database
    ) as store:  # as if their weights were kept, which arithmetic has none of
        for number in store.fronts("pages")[-1].members:
            store.add_artifact(
                "pages",
                Artifact(
                    path=f"{number}.safetensors",
                    sha256="0" * 64,
                    size_bytes=1,
                    kind=ArtifactKind.CHECKPOINT,
                    trial=number,
                ),
            )
    for name in HOSTILE:
        searched(database, replace(SPEC, name=name, budget=Budget(trials=2, proposals=2)))
    for name in FORMERLY_ACCEPTED:
        searched(database, replace(SPEC, name="renamed", budget=Budget(trials=2, proposals=2)))
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(
                "UPDATE study SET name = ?, spec = json_set(spec, '$.name', ?) WHERE name = ?",
                (name, name, "renamed"),
            )
    return database


HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "'\"><svg onload=alert(1)>",
    "{{7*7}}{% if",
    "%2e%2e&a=1#b",
    "$(touch pwned) `id`;",
)
FORMERLY_ACCEPTED = ("..", "<\\script><script>alert(1)<")
"""Names that new studies may not have; records of older versions hold them."""


@dataclass(frozen=True)
class Exported:
    """A network and the folder it was exported to."""

    architecture: Architecture
    folder: Path
    manifest: Manifest


NETWORKS = {
    # small, because exporting takes about 0.1 s per convolution; one that stock timm builds, one
    # that it does not
    "stock": Architecture(
        stem_channels=(8, 6, 12),
        attention=Attention.LAST,
        residual=False,
        depthwise=False,
        stem=Stem.CODE,
        pool_padding=PoolPadding.CEIL,
        stages=tuple(
            OsaStage(mid_channels=mid, out_channels=out, num_layers=1)
            for mid, out in ((8, 16), (9, 20), (10, 24), (12, 36))
        ),
    ),
    "registered": Architecture(
        stem_channels=(5, 7, 4),
        attention=Attention.ALL,
        residual=True,
        depthwise=True,
        stem=Stem.CIFAR,
        pool_padding=PoolPadding.SAME,
        stages=(
            OsaStage(mid_channels=6, out_channels=12, num_layers=1),
            OsaStage(mid_channels=8, out_channels=16, num_layers=2, num_blocks=2),
            OsaStage(mid_channels=7, out_channels=13, num_layers=1, kernel_size=5),
        ),
    ),
    "paper": Architecture(
        stem_channels=(4, 6, 8),
        attention=Attention.NONE,
        residual=True,
        depthwise=False,
        stem=Stem.PAPER,
        pool_padding=PoolPadding.CEIL,
        stages=(
            OsaStage(mid_channels=6, out_channels=12, num_layers=1, num_blocks=2),
            OsaStage(mid_channels=7, out_channels=13, num_layers=2, kernel_size=5),
            OsaStage(mid_channels=5, out_channels=11, num_layers=1),
        ),
    ),
}
CLASSES = ("cat", "dog", "ñandú")
IMAGE_SIZE = 33  # odd, so that both paddings of the pool round
RECORD = {
    "study": "tiny",
    "trial": 7,
    "params": {"stem_mid": 8},
    "dataset": "digits",
    "rungs": [
        {"epochs": 1.0, "metrics": {"error": 0.5}},
        {"epochs": 3.0, "metrics": {"error": 0.125}},
    ],
    "measurements": [
        {
            "metric": "latency",
            "unit": "s",
            "value": 0.0031,
            "ci_low": 0.003,
            "ci_high": 0.0032,
            "kind": "measured",
            "method": "wall clock",
            "status": "ok",
            "reason": "",
            "samples": [0.003, 0.0031, 0.0032],
            "device": {"name": "A CPU", "device_class": "A CPU, 1 thread"},
            "plan": {
                "batch_size": 1,
                "image_size": IMAGE_SIZE,
                "precision": "fp32",
                "runtime": "eager",
                "max_time_s": 0.5,
            },
        },
        {
            "metric": "energy",
            "unit": "J",
            "value": None,
            "ci_low": None,
            "ci_high": None,
            "kind": "measured",
            "method": "none",
            "status": "unavailable",
            "reason": "no energy sensor",
        },
    ],
}


@torch.no_grad()
def trained(architecture):
    """The network with BatchNorms that are far from the identity."""
    torch.manual_seed(1)
    model = build(architecture, len(CLASSES)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.get_buffer("running_mean").normal_()
            module.get_buffer("running_var").uniform_(0.3, 3)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_()
    return model


def arguments_of(network, **changes):
    architecture = NETWORKS[network]
    model = trained(architecture)
    counted = {
        "metric": "parameters",
        "unit": "1",
        "kind": "counted",
        "method": "arithmetic",
        "status": "ok",
        "value": sum(p.numel() for p in model.parameters()),
    }
    return {
        "architecture": architecture,
        "weights": model.state_dict(),
        "classes": CLASSES,
        "mean": (0.49, 0.48, 0.45),
        "std": (0.25, 0.24, 0.26),
        "image_size": IMAGE_SIZE,
        "record": {**RECORD, "measurements": [*RECORD["measurements"], counted]},
        "measure": False,
        **changes,
    }


@pytest.fixture(scope="session")
def export_arguments():
    """A function from the name of a network and changes to the arguments of `export_bundle` without
    a destination.
    """
    return arguments_of


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """The folder that the processes of one run of pytest have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def bundle_of(shared_folder):
    """A function from the name of a network to its bundle, which nobody changes. It is exported at
    the first call in any process of this run, since an export takes some twenty seconds.
    """
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    pytest.importorskip("timm")

    @cache
    def exported(network):
        place = shared_folder / f"export-{network}"
        place.mkdir(exist_ok=True)
        folder, result = place / "parent" / "bundle", place / "manifest.pickle"
        with (place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not result.exists():
                manifest = export_bundle(**arguments_of(network), destination=folder)
                result.write_bytes(pickle.dumps(manifest))
        manifest = pickle.loads(result.read_bytes())  # noqa: S301 - written above
        return Exported(NETWORKS[network], folder, manifest)

    return exported


DEVICE_PACKAGES = ("numpy", "onnxruntime", "flatbuffers", "protobuf", "packaging")
"""The packages of a device. Its environment borrows them from the one of the tests."""
TOKEN = "for the tests of agents only"  # noqa: S105 - no secret


def make_device_environment(folder: Path, runtime: str = "onnxruntime") -> Path:
    """Make an environment with NumPy, a package of ONNX Runtime and what they need, and return its
    Python. Another package than the usual one is installed; the test is skipped where it cannot be.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    borrowed_packages = set(DEVICE_PACKAGES)
    if runtime not in borrowed_packages:
        borrowed_packages.remove("onnxruntime")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        wanted = ["--no-deps", "--only-binary", ":all:", "--target", str(site), runtime]
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{runtime} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    for package in sorted(borrowed_packages):
        borrowed = distribution(package)
        for name in {file.parts[0] for file in borrowed.files or []} - {"..", "__pycache__"}:
            (site / name).symlink_to(Path(str(borrowed.locate_file(name))))
    return folder / "bin/python"


class Agents:
    """Starts agents from their one file, in an environment without torch."""

    def __init__(self, folder: Path, runtime: str = "onnxruntime") -> None:
        self.python = make_device_environment(folder / "environment", runtime)
        self.file = folder / "agent.pyz"
        write_agent(self.file)
        self.token_file = folder / "token"
        self.token_file.write_text(f"{TOKEN}\n")

    def start(self, *options: object) -> subprocess.Popen[str]:
        """Start an agent, and return its process when it listens."""
        environment = {key: value for key, value in os.environ.items() if key[:6] != "PYTHON"}
        process = subprocess.Popen(
            [str(word) for word in (self.python, self.file, "serve", *options)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        process.first_line = process.stderr.readline()
        assert "listens on" in process.first_line, process.first_line + process.stderr.read()
        return process

    @contextmanager
    def unix(self, folder: Path, *options: object):
        """Run an agent on a Unix socket; yield its entry in a device book, and its process."""
        socket = folder / "agent.sock"
        process = self.start("--socket", socket, "--folder", folder / "cache", *options)
        try:
            yield Entry(address=f"unix:{socket}"), process
        finally:
            self.stop(process)

    @contextmanager
    def tcp(self, folder: Path, *options: object):
        """Run an agent on a free port; yield its entry in a device book, and its process."""
        place = ("--port", 0, "--token-file", self.token_file)
        process = self.start(*place, "--folder", folder / "cache", *options)
        try:
            address = process.first_line.split()[-1]
            yield Entry(address=address, token_file=str(self.token_file)), process
        finally:
            self.stop(process)

    @staticmethod
    def stop(process: subprocess.Popen[str]) -> str:
        """End an agent, and return what it logged."""
        process.terminate()
        if process.stderr.closed:
            process.wait(20)
            return ""
        return process.communicate(timeout=20)[1]


@pytest.fixture(scope="session")
def agents(tmp_path_factory):
    """What starts agents; the environment is made once."""
    pytest.importorskip("onnxruntime")
    return Agents(tmp_path_factory.mktemp("device"))
