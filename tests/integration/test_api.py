"""The public Python API on real studies: search, look, export, measure, ask and tell."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

import nas
from nas.core.tasks import Trained
from nas.core.trial import Rung
from nas.record import Store
from nas.searching.retry import retry

STUDY = """
name: small
space: osa_tiny
sampler: random
objectives:
  - {metric: error, reference: 95 %}
  - {metric: parameters, reference: 100 k}
rungs: {epochs: [0.2]}
data: {dataset: digits, validation_images: 200}
training: {batch_size: 64, precision: fp32, channels_last: false}
budget: {trials: 3}
workers: {kind: local}
"""
OWN = nas.StudySpec(
    name="own",
    space="osa_tiny",
    sampler="random",
    objectives=(
        nas.Objective(metric="error", reference=1.0),
        nas.Objective(metric="macs", reference=1e9),
    ),
    budget=nas.Budget(trials=4),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a finished study of three networks in nas.db."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "study.yaml").write_text(STUDY)
    seen = []
    nas.search(folder / "study.yaml", database=folder / "nas.db", on_event=seen.append)
    assert {trial.number for trial in seen} >= {0, 1, 2}
    return folder


@pytest.fixture
def study(folder):
    return nas.open(folder / "nas.db").study()


def test_importing_nas_loads_no_framework():
    """`import nas` is quick: torch, optuna, ray, sqlalchemy and pandas come with first use."""
    code = "import sys, nas; print(sorted({'torch', 'optuna', 'ray', 'pandas'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nas.nothing


def test_every_public_name_is_there():
    """Also with a docstring, and `dir` lists it."""
    assert [name for name in nas.__all__ if not getattr(nas, name).__doc__] == []
    assert dir(nas) == sorted(nas.__all__)


def test_trials_are_a_frame_with_units(study):
    """One row a trial; errors, counts and choices are columns."""
    frame = study.trials()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) >= 3
    assert set(frame.columns) >= {"state", "error", "parameters", "epochs", "training_s"}
    assert (frame["state"] == "complete").any()


def test_the_front_is_that_of_the_record(study):
    """No member is dominated by another trial, and the hypervolume is that of its members."""
    front, trials = study.front(), study.trials()
    assert set(front.index) <= set(trials.index)
    for _, member in front.iterrows():
        better = trials[
            (trials["error"] < member["error"]) & (trials["parameters"] < member["parameters"])
        ]
        assert better.empty
    ordered = front.sort_values("error")
    volume, before = 0.0, 100e3
    for _, member in ordered.iterrows():
        volume += (0.95 - member["error"]) * (before - member["parameters"])
        before = member["parameters"]
    assert study.hypervolume() == pytest.approx(volume)


def test_figures_are_plotly(study):
    """The front's members are one trace, the other trials another."""
    figure = study.plot_front()
    shown = {trace.name: len(trace.x) for trace in figure.data}
    assert shown["on the front"] == len(study.front())
    assert figure.layout.xaxis.title.text == "parameters"
    history = study.plot_hypervolume()
    assert history.data[0].y[-1] == pytest.approx(study.hypervolume())


def test_measuring_returns_figures(folder, study):
    """A recorded trial and a module; a latency has its interval, or a reason why there is none."""
    number = int(study.front().index[0])
    frame = nas.measure(
        f"small:{number}",
        torch.nn.Conv2d(3, 8, 3),
        database=folder / "nas.db",
        image_size=32,
        max_half_width=0.5,
    )
    latencies = frame[frame["metric"] == "latency"]
    assert list(latencies["network"]) == [f"small:{number}", "Conv2d"]
    for _, latency in latencies.iterrows():
        assert latency["unit"] == "s"
        if latency["status"] in {"ok", "noisy"}:
            assert latency["low"] <= latency["value"] <= latency["high"]
        else:
            assert latency["reason"]


def test_a_callback_that_raises_harms_no_record(tmp_path):
    """Its exception comes out of the search, what was recorded stays, and the search resumes."""
    (tmp_path / "study.yaml").write_text(STUDY)

    def on_event(trial):
        if str(trial.state) == "complete":
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        nas.search(tmp_path / "study.yaml", database=tmp_path / "nas.db", on_event=on_event)
    before = nas.open(tmp_path / "nas.db").study().trials()
    assert list(before["state"]) == ["complete"]
    after = nas.search(tmp_path / "study.yaml", database=tmp_path / "nas.db").trials()
    assert (after["duplicate_of"].isna()).sum() == 3
    assert after.loc[0, "error"] == before.loc[0, "error"]


def test_ask_and_tell(tmp_path):
    """Several are outstanding at once, and the front is that of the told figures."""
    with nas.AskTell(OWN, database=tmp_path / "nas.db") as loop:
        first, second = loop.ask(), loop.ask()
        assert loop.outstanding == (first.number, second.number)
        assert first.build(10)(torch.rand(1, 3, 32, 32)).shape == (1, 10)
        loop.tell(second.number, error=0.25)
        loop.fail(first.number, "my device burned down")
        with pytest.raises(nas.NasError, match="trial 1 is not outstanding"):
            loop.tell(1, error=0.2)
        with pytest.raises(nas.NasError, match="latency: no objective of own"):
            loop.tell(loop.ask().number, latency=1.0)
        loop.tell(loop.outstanding[0], error=0.5)
        loop.tell(loop.ask().number, error=0.5)
        assert loop.ask() is None
    study = nas.open(tmp_path / "nas.db").study("own")
    trials = study.trials()
    assert trials.loc[first.number, "reason"] == "my device burned down"
    assert second.number in study.front().index


def test_the_whole_budget_is_asked_for(tmp_path):
    """Nothing is reserved for new seeds, which the caller's loop does not train."""
    spec = replace(OWN, sampler="random", budget=nas.Budget(trials=20))
    with nas.AskTell(spec, database=tmp_path / "nas.db") as loop:
        while (proposal := loop.ask()) is not None:
            loop.tell(proposal.number, error=0.5)
    trials = nas.open(tmp_path / "nas.db").study().trials()
    assert (trials["duplicate_of"].isna()).sum() == 20


def test_networks_over_a_limit_are_not_proposed(tmp_path):
    """Counts are known before anything is trained."""
    spec = nas.StudySpec(
        name="own",
        space="osa_tiny",
        sampler="random",
        objectives=(
            nas.Objective(metric="error"),
            nas.Objective(metric="parameters", limit=1.0),
        ),
        budget=nas.Budget(trials=3),
    )
    with nas.AskTell(spec, database=tmp_path / "nas.db") as loop:
        assert loop.ask() is None
    assert set(nas.open(tmp_path / "nas.db").study().trials()["state"]) == {"stopped"}


@pytest.fixture
def measured_loop(tmp_path):
    """A loop with a limit on a latency that is told."""
    latency = nas.Objective(metric="latency", limit=0.01)
    spec = replace(OWN, objectives=(OWN.objectives[0], latency))
    with nas.AskTell(spec, database=tmp_path / "nas.db") as loop:
        yield loop


def test_a_training_that_is_told_is_recorded_over_a_limit_too(measured_loop, tmp_path):
    """It is done already, so that no limit can save it. A latency alone ends the trial there."""
    both, alone = measured_loop.ask(), measured_loop.ask()
    measured_loop.tell(both.number, error=0.25, latency=0.5)
    measured_loop.tell(alone.number, latency=0.5)
    assert measured_loop.outstanding == ()
    trials = nas.open(tmp_path / "nas.db").study().trials()
    assert trials["state"].tolist() == ["complete", "stopped"]
    assert trials.loc[both.number, "error"] == 0.25


def test_a_trained_network_ends_with_its_last_figure(tmp_path):
    """A record may hold a training without the latency: the trial failed, is tried again, and
    completes when the latency is told.
    """
    latency = nas.Objective(metric="latency", limit=0.01)
    spec = replace(OWN, objectives=(OWN.objectives[0], latency))
    database = tmp_path / "nas.db"
    with nas.AskTell(spec, database=database) as loop:
        number = loop.ask().number
        loop._engine.report(number, Trained(rung=Rung(epochs=1.0, metrics={"error": 0.25})))
        assert loop.outstanding == ()
    with Store.open(database) as store:
        retry(store, "own")
    with nas.AskTell(spec, database=database) as loop:
        assert loop.ask().number == number
        loop.tell(number, latency=0.005)
        assert loop.outstanding == ()
    trial = nas.open(database).study().trials().loc[number]
    assert (trial["state"], trial["error"]) == ("complete", 0.25)


def test_a_training_without_a_measured_objective_is_refused(measured_loop):
    """Nothing is recorded, and the figures can be told together."""
    proposal = measured_loop.ask()
    with pytest.raises(nas.NasError, match="trial 0 ends with its training: tell latency before"):
        measured_loop.tell(proposal.number, error=0.25)
    measured_loop.tell(proposal.number, latency=0.005)
    measured_loop.tell(proposal.number, error=0.25)
    assert measured_loop.outstanding == ()


def test_a_loop_of_several_rungs_is_refused(tmp_path):
    """`tell` has one training for each network."""
    spec = replace(OWN, rungs=(nas.RungSpec(epochs=1.0), nas.RungSpec(epochs=3.0)))
    with pytest.raises(nas.NasError, match="rungs must be one, not 2"):
        nas.AskTell(spec, database=tmp_path / "nas.db")
    assert not list(tmp_path.iterdir())


LOOP = """
import sys, time, nas
sys.path.insert(0, {tests!r})
from test_api import OWN
with nas.AskTell(OWN, database={database!r}) as loop:
    one, two = loop.ask(), loop.ask()
    loop.tell(one.number, error=0.25)
    print(two.number, two.architecture.digest, flush=True)
    time.sleep(60)
"""


def test_kill_9_loses_nothing(tmp_path):
    """What was told stays, and the outstanding network is proposed again."""
    database = str(tmp_path / "nas.db")
    code = LOOP.format(tests=str(Path(__file__).parent), database=database)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    number, digest = process.stdout.readline().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(0.1)
    with nas.AskTell(OWN, database=database) as loop:
        again = loop.ask()
        assert (str(again.number), again.architecture.digest) == (number, digest)
        loop.tell(again.number, error=0.5)
    assert len(nas.open(database).study().trials()) == 2


PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- example: ([\w ]+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))


def run_example(name, folder, place):
    """Run an example of the page as it stands there, beside a finished study of that name."""
    shutil.copytree(folder, place)
    with chdir(place):
        exec(EXAMPLES[name].replace('"quickstart"', '"small"'), {})  # noqa: S102 - our own page
    return place


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"look"}))
def test_the_examples_of_the_page_run(name, folder, tmp_path):
    """Asking and telling leaves a front."""
    place = run_example(name, folder, tmp_path / "here")
    if name == "ask and tell":
        assert len(nas.open(place / "mine.db").study().front()) > 0


@pytest.mark.slow
def test_the_network_of_the_page_has_the_weights_that_it_exports(folder, tmp_path):
    """The example that looks at a study exports the first member of its front."""
    from nas.export import Bundle

    place = run_example("look", folder, tmp_path / "here")
    study = nas.open(place / "nas.db").study()
    network = study.network(int(study.front().index[0]))
    images = torch.rand(2, 3, 32, 32)
    assert network.trained
    with torch.no_grad():
        assert torch.allclose(network(images), Bundle(place / "backbone").model(images), atol=1e-5)


EVALUATOR = """
from nas.searching.evaluators import EvaluatorPlugin
ARITHMETIC = EvaluatorPlugin(
    search="nas.testing.evaluators:ArithmeticEvaluator",
    certify="nas.searching.evaluators.classification.certifier:Certifier",
    replicate="nas.testing.evaluators:ArithmeticEvaluator",
    final="nas.searching.evaluators.classification.full:FullEvaluator",
)
"""


def test_a_study_names_its_evaluator(tmp_path):
    """An object of the study's own folder; another one is another study."""
    (tmp_path / "mine.py").write_text(EVALUATOR)
    study = tmp_path / "study.yaml"
    study.write_text(STUDY + "evaluator: mine:ARITHMETIC\n")
    frame = nas.search(study, database=tmp_path / "nas.db").trials()
    assert (frame["training_s"] == 0).all()
    study.write_text(STUDY + "evaluator: classification\n")
    with pytest.raises(nas.NasError, match="evaluator"):
        nas.search(study, database=tmp_path / "nas.db")
    study.write_text(STUDY + "evaluator: magic\n")
    with pytest.raises(nas.NasError, match=r"no 'magic' in nas.evaluators; there are: classif"):
        nas.search(study, database=tmp_path / "nas.db")


@pytest.mark.slow
@pytest.mark.long
def test_the_notebook_runs(tmp_path, monkeypatch):
    """All code cells of the notebook, one after the other."""
    monkeypatch.chdir(tmp_path)
    page = json.loads((Path(__file__).parents[2] / "docs" / "first-study.ipynb").read_text())
    names = {}
    for cell in page["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # noqa: S102 - our own page
    assert (tmp_path / "digits-backbone" / "manifest.json").exists()
    assert len(names["front"]) > 0
