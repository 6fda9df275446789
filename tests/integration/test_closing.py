"""Certification of a front at the end of a search, with real measurements on this CPU."""

from dataclasses import replace

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core import plugins
from nas.core.measurement import MeasurementPlan
from nas.core.study import Budget, Objective, StudySpec
from nas.core.tasks import Measured
from nas.core.trial import CERTIFIED_METRICS
from nas.measuring.meters.cpu import CpuMeter
from nas.measuring.methods import prepare
from nas.measuring.methods.certify import Cycles
from nas.measuring.metrics import seeded_network
from nas.measuring.metrics.certified import (
    REFERENCE,
    SMALL_REFERENCE,
    certify_networks,
    reference_for,
)
from nas.record import Store
from nas.searching.closing import uncertified
from nas.searching.evaluators.classification.certifier import Certifier
from nas.searching.launch import open_search
from nas.testing.evaluators import ArithmeticEvaluator

SPEC = StudySpec(
    name="closing",
    space="osa_tiny",
    sampler="random",
    budget=Budget(trials=4),
    objectives=(Objective(metric="error"), Objective(metric="latency")),
)
WATTS = 20.0


class Quick(Certifier):
    """A certifier that takes half a minute less."""

    cycles = Cycles(
        candidate_s=0.2,
        reference_s=0.1,
        dropped_s=0.02,
        min_cycles=2,
        max_cycles=3,
        max_rejected=1,
        max_reference_change=1.0,
        max_half_width=1.0,
        patience_s=1.0,
    )


class WithEnergy(ArithmeticEvaluator):
    """Evaluates the energy too, as that of a device that draws 20 W."""

    def steps(self, task):
        """Add the energy to the figures of the base class."""
        for event in super().steps(task):
            if isinstance(event, Measured):
                latency = event.measurements[-1]
                event = replace(  # noqa: PLW2901
                    event,
                    measurements=(
                        *event.measurements,
                        replace(
                            latency,
                            metric="energy",
                            unit="J",
                            value=latency.value * WATTS,
                            ci_low=None,
                            ci_high=None,
                        ),
                    ),
                )
            yield event


def certify_with_energy(reference, networks, plan, meter, *, cycles, energy):
    assert energy
    latencies = certify_networks(reference, networks, plan, meter, cycles=cycles)
    return {name: (figure, energy_of(figure)) for name, (figure,) in latencies.items()}


def energy_of(latency):
    """Return the energy of a device that draws 20 W."""
    value = WATTS * latency.value if latency.value else None
    return replace(latency, metric="energy", unit="J", value=value)


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Return a function that opens the search, with device locks of its own."""
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))

    def search(store):
        return open_search(
            SPEC,
            store=store,
            workers=plugins.load("nas.workers", "local")(),
            folder=tmp_path,
            artifacts=tmp_path,
            evaluator="nas.testing.evaluators:ArithmeticEvaluator",
        )

    return search


@pytest.mark.slow
def test_members_are_certified_in_one_session_beside_their_screened_figures(opened, tmp_path):
    """Each member gets a figure of one session against the reference. The front and every screened
    latency stay as they were, and the record is sound. A second call has nothing to certify, unless
    a figure had no value.
    """
    with Store.open(tmp_path / "nas.db") as store:
        with opened(store) as found:
            found.run()
            before = {
                trial.number: trial.evaluation.value("latency") for trial in store.trials("closing")
            }
            members = uncertified(found.engine)
            assert members
            assert [trial.number for trial in members] == list(found.engine.state.front.members)
            found.certify(members, evaluator=f"{__name__}:Quick")
            after = found.engine.state.members()
        recorded = {trial.number: trial for trial in store.trials("closing")}
        assert [recorded[trial.number] for trial in after] == after
        assert {
            number: trial.evaluation.value("latency") for number, trial in recorded.items()
        } == before
        figures = [
            recorded[trial.number].evaluation.measurements[CERTIFIED_METRICS["latency"]]
            for trial in members
        ]
        assert len({figure.details["session"] for figure in figures}) == 1
        assert all(figure.details["reference"] == "vovnet27_slim" for figure in figures)
        assert store.problems() == []
        with opened(store) as again:
            complete = all(figure.value is not None for figure in figures)
            assert bool(uncertified(again.engine)) is not complete
    command = ["front", "closing", "--database", str(tmp_path / "nas.db")]
    output = CliRunner().invoke(main, command).output
    assert ("certified" in output) is any(figure.value is not None for figure in figures)


@pytest.mark.slow
def test_energy_is_certified_if_it_is_an_objective(tmp_path, monkeypatch):
    """Each member has its screened and its certified energy of one session.

    The energy is 20 W times the latency, which needs no sensor. Tests of certify_energy measure it.
    """
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    monkeypatch.setattr(
        "nas.searching.evaluators.classification.certifier.certify_networks", certify_with_energy
    )
    spec = replace(SPEC, objectives=(*SPEC.objectives, Objective(metric="energy")))
    with Store.open(tmp_path / "nas.db") as store:
        with open_search(
            spec,
            store=store,
            workers=plugins.load("nas.workers", "local")(),
            folder=tmp_path,
            artifacts=tmp_path,
            evaluator=f"{__name__}:WithEnergy",
        ) as found:
            found.run()
            members = uncertified(found.engine)
            found.certify(members, evaluator=f"{__name__}:Quick")
        recorded = [store.trials("closing")[trial.number] for trial in members]
        assert store.problems() == []
    for trial in recorded:
        latency, energy = (
            trial.evaluation.measurements[CERTIFIED_METRICS[metric]]
            for metric in ("latency", "energy")
        )
        assert energy.value == (
            None if latency.value is None else pytest.approx(20 * latency.value)
        )
        assert (trial.evaluation.certified_session is None) == (latency.value is None)
        assert trial.evaluation.best_figure("energy") is (
            energy if energy.value else trial.evaluation.measurements["energy"]
        )
    energies = [trial.evaluation.measurements[CERTIFIED_METRICS["energy"]] for trial in recorded]
    assert len({energy.details["session"] for energy in energies}) == 1


@pytest.mark.parametrize(
    ("pixels", "runtime", "name"),
    [
        (4, "eager", SMALL_REFERENCE),
        (28, "eager", SMALL_REFERENCE),
        (29, "eager", REFERENCE),
        (224, "eager", REFERENCE),
        (32, "openvino", SMALL_REFERENCE),
        (64, "openvino", REFERENCE),
    ],
)
def test_the_reference_fits_the_images(pixels, runtime, name):
    """MNIST's 28 pixels are too few for VoVNet-27-slim, and OpenVINO needs more than others."""
    plan = MeasurementPlan(image_size=pixels, runtime=runtime)
    found, architecture = reference_for(plan)
    assert found == name
    seeded_network(architecture, 10, pixels, name)


def test_openvino_runs_its_reference():
    """At the smallest size for which it has VoVNet-27-slim itself, and just below."""
    pytest.importorskip("openvino")
    for pixels in (32, 64):
        plan = MeasurementPlan(image_size=pixels, runtime="openvino")
        name, architecture = reference_for(plan)
        network = seeded_network(architecture, 10, pixels, name)
        with prepare(network, plan, CpuMeter()) as run:
            run()
