"""The real nvidia-ml-py on a C stub of the driver's library, in a child process with a virtual
clock.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="no gcc to compile the stub of libnvidia-ml"
)

HERE = Path(__file__).parent
J_PER_FRAME = 250 * 0.002 / 4
"""True energy of a frame: 250 W, 2 ms for a batch of 4."""

RNG = random.Random(0)
COUNTER, INSTANT, AVERAGE = (
    {name: error}
    for name, error in (("ENERGY_ERROR", "3"), ("INSTANT_ERROR", "3"), ("AVERAGE_ERROR", "3"))
)

UNAVAILABLE = {  # settings under which energy cannot be measured, and a part of the reason
    "driver not loaded": ({"INIT_ERROR": "9"}, "driver is not loaded"),
    "driver and library differ": ({"INIT_ERROR": "18"}, "different versions"),
    "unknown GPU": ({"uuid": "GPU-other"}, "has no such GPU"),
    "nothing is offered": ({**COUNTER, **INSTANT, **AVERAGE}, "does not offer it"),
    "no permission": (
        {"ENERGY_ERROR": "4", "INSTANT_ERROR": "4", "AVERAGE_ERROR": "4"},
        "permission denied",
    ),
    "lost": (
        {"ENERGY_ERROR": "15", "INSTANT_ERROR": "15", "AVERAGE_ERROR": "15"},
        "fallen off the bus",
    ),
    "an error of its own": (
        {"ENERGY_ERROR": "999", "INSTANT_ERROR": "999", "AVERAGE_ERROR": "999"},
        "Unknown Error",
    ),
    "everything reads zero": ({"POWER_W": "0"}, "reads 0"),
    "partitioned": ({"MIG": "1"}, "partitioned (MIG)"),
    "counter stops": ({"STUCK_AT_S": "107"}, "stood still"),
    "counter reset": ({"RESET_AT_S": "107"}, "went back by"),
    "counter jumps": ({"JUMP_AT_S": "107"}, "counter jumped"),
    "power reads too much": ({**COUNTER, "POWER_W": "2000"}, "instant power jumped: 2000 W"),
}
OTHER_METHODS = {  # settings, the method taken, a part of the reason against better ones
    "counter not offered": (COUNTER, "nvml instant power, board, summed", "does not offer it"),
    "counter forbidden": (
        {"ENERGY_ERROR": "4"},
        "nvml instant power, board, summed",
        "permission denied",
    ),
    "counter reads zero": (
        {"RESET_AT_S": "1e9", "LOSS_MJ": "1e9"},
        "nvml instant power, board, summed",
        "reads 0",
    ),
    "counter stuck from the start": (
        {"STUCK_AT_S": "50"},
        "nvml instant power, board, summed",
        "stood still",
    ),
    "counter reset at the start": (
        {"RESET_AT_S": "101.05"},
        "nvml instant power, board, summed",
        "went back",
    ),
    "neither counter nor instant power": (
        {**COUNTER, **INSTANT},
        "nvml power averaged over 1 s, board, summed",
        "does not offer it",
    ),
    "reading disturbs the counter": (
        {"LOSS_MJ": "300"},
        "nvml counter, board, windows from step to step",
        "loses energy",
    ),
}
SPOILED = {  # settings, status, a part of the reason
    "hardware slowdown": ({"REASONS": "0x8"}, "throttled", "hardware slowdown"),
    "software thermal": ({"REASONS": "0x20"}, "throttled", "software thermal slowdown"),
    "hardware thermal": (
        {"REASONS": "0x40", "TEMPERATURE_C": "91"},
        "throttled",
        "hardware thermal slowdown in .* looks, at up to 91 °C",
    ),
    "power brake": ({"REASONS": "0x84"}, "throttled", "power brake"),
    "clock jumps again and again": (
        {
            "CLOCK_MHZ": ",".join(
                f"{100 + n / 10}:{RNG.randrange(900, 1981, 120)}" for n in range(3000)
            )
        },
        "throttled",
        "clock moved between [0-9]+ and [0-9]+ MHz",
    ),
    "a neighbour works": (
        {"PROGRAMS": "self+7", "BUSY": "7=40+self=60"},
        "contended",
        "process 7 used up to 40 %",
    ),
    "a neighbour in another container": (
        {"PROGRAMS": "31", "UTILISATION": "35"},
        "contended",
        "35 % busy",
    ),
    "the driver hides processes": (
        {"PROGRAMS_ERROR": "3", "UTILISATION": "36"},
        "contended",
        "36 % busy",
    ),
    "the driver hides their share": (
        {"PROGRAMS": "self+7", "BUSY_ERROR": "3", "UTILISATION": "37"},
        "contended",
        "37 % busy",
    ),
    "a program that draws works": (
        {"PROGRAMS": "self", "GRAPHICS": "9", "BUSY": "9=41+self=59"},
        "contended",
        "process 9 used up to 41 %",
    ),
    "an impossible share of a neighbour": (
        {"PROGRAMS": "self+7", "BUSY": "7=2147483632+self=50", "UTILISATION": "38"},
        "contended",
        "38 % busy",
    ),
    "others start again and again": (
        {
            "PROGRAMS": ",".join(
                f"{100 + n / 4}:self" + (f"+{n + 7}" if n else "") for n in range(600)
            )
        },
        "contended",
        "started on the device meanwhile",
    ),
}
FINE = {  # settings under which there is a figure in the end
    "at the power limit": {"REASONS": "0x4", "CLOCK_MHZ": "0:1980,100.7:1600"},
    "idle bit": {"REASONS": "0:1,100.1:0", "CLOCK_MHZ": "0:345,100.1:1980"},
    "an idle neighbour": {"PROGRAMS": "self+7", "BUSY": "self=90"},
    "an impossible share of a process that does not run": {
        "PROGRAMS": "self",
        "BUSY": "7=2147483632+self=50",
    },
    "an impossible share of an idle neighbour": {
        "PROGRAMS": "self+7",
        "BUSY": "7=2147483632+self=50",
    },
    "an impossible utilisation": {"PROGRAMS_ERROR": "3", "UTILISATION": "2147483632"},
    "a display": {"PROGRAMS": "self", "GRAPHICS": "9", "BUSY": "9=2+self=50"},
    "clocks not reported": {"CLOCK_ERROR": "3", "REASONS_ERROR": "3"},
    "a slowdown that ends": {"REASONS": "0:0x40,103:0"},
    "a neighbour that ends": {"PROGRAMS": "self+7", "BUSY": "0:7=90,103:self=90"},
    "one program that starts": {"PROGRAMS": "0:self,100.7:self+7"},
}
DOCTOR = {  # settings, and the findings of nas doctor: whether available, and a part of the detail
    "sound": (
        {},
        {
            "whole": (True, "not split"),
            "energy counter": (True, "steps every 100.0 ms"),
            "instant power": (True, "250 W now, at most 700 W"),
            "average power": (True, "250 W now"),
            "full speed": (True, "no slowdown now, 1980 MHz, 55 °C"),
            "to itself": (True, "other processes: none; 0 % busy"),
        },
    ),
    "faulty": (
        {"MIG": "1", "REASONS": "0x44", "PROGRAMS": "4194999", "UTILISATION": "12"},
        {
            "whole": (False, "split by MIG"),
            "energy counter": (False, "partitioned (MIG)"),
            "instant power": (False, "partitioned (MIG)"),
            "average power": (False, "partitioned (MIG)"),
            "full speed": (
                False,
                "hardware thermal slowdown now, 1980 MHz, 55 °C, at its power limit",
            ),
            "to itself": (
                False,
                "other processes: 4194999 (of another container or user); 12 % busy",
            ),
        },
    ),
    "silent": (
        {
            **COUNTER,
            "REASONS_ERROR": "3",
            "PROGRAMS_ERROR": "3",
            "UTILISATION_ERROR": "3",
            "AVERAGE_ERROR": "4",
        },
        {
            "energy counter": (False, "does not offer it"),
            "instant power": (True, "250 W"),
            "average power": (False, "permission denied"),
            "full speed": (False, "does not report"),
            "to itself": (True, "the driver hides processes; utilisation not reported"),
        },
    ),
    "stuck": ({"STUCK_AT_S": "50"}, {"energy counter": (False, "stood still for 0.5 s")}),
}
WITHOUT = {  # functions missing in an old driver's library, the method taken, a part of the reason
    "counter": (
        ["nvmlDeviceGetTotalEnergyConsumption"],
        "nvml instant power, board, summed",
        "too old",
    ),
    "counter and fields": (
        ["nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetFieldValues"],
        "nvml power averaged over 1 s, board, summed",
        "too old",
    ),
    "every sensor": (
        [
            "nvmlDeviceGetTotalEnergyConsumption",
            "nvmlDeviceGetFieldValues",
            "nvmlDeviceGetPowerUsage",
        ],
        None,
        "too old",
    ),
    "processes": (
        ["nvmlDeviceGetComputeRunningProcesses_v3"],
        "nvml counter, board, windows from step to step",
        "",
    ),
    "every state": (
        [
            "nvmlDeviceGetClockInfo",
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetMigMode",
            "nvmlDeviceGetProcessUtilization",
            "nvmlDeviceGetUtilizationRates",
        ],
        "nvml counter, board, windows from step to step",
        "",
    ),
}
CERTIFIED = {
    "sound": {},
    "no counter": COUNTER,
    "nothing": {**COUNTER, **INSTANT, **AVERAGE},
    "reset": {"RESET_AT_S": "125"},
    "brake": {"REASONS": "0x80"},
}
"""Settings for energy interleaved with a reference network."""

ALIGNMENTS = {0.002: "watched", 0.03: "phase-locked"}
"""The alignment by the length of a piece of work in seconds."""

RHYTHMS = [("20", "3"), ("33.3", "0"), ("100", "77"), ("200", "150")]
"""Period and phase of the counter in milliseconds."""


def compiled(folder, without=()):
    """Compile the stub into the folder and return the library's path."""
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(
        [
            "gcc",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
            "-Wl,-soname,libnvidia-ml.so.1",
            *(f"-D{name}=nowhere{number}" for number, name in enumerate(without)),
            "-o",
            library,
            HERE / "nvml_stub.c",
            "-lm",
        ],
        check=True,
    )
    return str(library)


def figures(folder, *scenarios):
    """Return the result of each scenario from a child process that finds the driver's library in
    this folder.
    """
    child = subprocess.run(
        [sys.executable, "-W", "error", HERE / "nvml_child.py"],
        input=json.dumps(scenarios),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run all scenarios in one child, since loading torch takes seconds; those of the watch for
    latency and for energy.
    """
    folder = tmp_path_factory.mktemp("nvml")
    compiled(folder)
    named = {
        name: settings
        for table in (UNAVAILABLE, OTHER_METHODS)
        for name, (settings, *_) in table.items()
    }
    named |= {
        (name, metric): {**settings, "metric": metric}
        for metric in ("latency", "energy")
        for name, settings in ({name: row[0] for name, row in SPOILED.items()} | FINE).items()
    }
    named |= {
        ("errors", piece_s): {"errors_of_w": 250, "piece_s": piece_s, "PHASE_MS": "37"}
        for piece_s in ALIGNMENTS
    }
    named |= {rhythm: {"PERIOD_MS": rhythm[0], "PHASE_MS": rhythm[1]} for rhythm in RHYTHMS}
    named |= {
        ("doctor", name): {**settings, "metric": "doctor"} for name, (settings, _) in DOCTOR.items()
    }
    named |= {
        ("certified", name): {**settings, "metric": "certified"}
        for name, settings in CERTIFIED.items()
    }
    named["drop"] = {"CLOCK_MHZ": "0:1980,104:1780"}
    named["gain"] = {"GAIN": "0.57"}
    named["always idle"] = {"REASONS": "0x1"}
    named["a partition"] = {"uuid": "GPU-slice", "MIG": "1"}
    named["queries"] = {"metric": "queries"}
    named["survey"] = {"metric": "survey"}
    named["survey, throttled"] = {"metric": "survey", "REASONS": "0x40"}
    named["sound"] = {}
    for name, (missing, *_) in WITHOUT.items():  # last, since they change the library
        named["without", name] = {"library": compiled(tmp_path_factory.mktemp("old"), missing)}
    return dict(zip(named, figures(folder, *named.values()), strict=True))


@pytest.mark.parametrize("piece_s", ALIGNMENTS)
def test_windows_are_exact_under_conditions_where_two_bare_readings_are_not(results, piece_s):
    """Each of fifty windows of random length from 1.0 to 1.1 s, on a counter that steps every
    100 ms, is within 0.5 % of the truth. Two bare readings are off by more than 3 % rms, near the
    T / (sqrt(6) W) of theory.
    """
    errors = results["errors", piece_s]
    assert errors["alignment"] == ALIGNMENTS[piece_s]
    assert max(map(abs, errors["reader"])) <= 0.005
    assert len(errors["reader"]) == len(errors["naive"]) == 50
    assert (sum(error**2 for error in errors["naive"]) / 50) ** 0.5 > 0.03


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_any_rhythm_is_found(results, rhythm):
    """The period that the reader stores is the stub's within 1 %, and the energy per frame is right
    to 0.5 %.
    """
    assert results[rhythm]["details"]["counter_period_s"] == pytest.approx(
        float(rhythm[0]) / 1000, rel=0.01
    )
    assert results[rhythm]["value"] == pytest.approx(J_PER_FRAME, rel=0.005)


def test_a_sound_board_has_a_sound_figure(results):
    """The status is ok, the driver's version is right, and no method was rejected."""
    figure = results["sound"]
    assert (figure["status"], figure["driver"], figure["details"]["passed_over"]) == (
        "ok",
        "999.1",
        [],
    )
    assert figure["value"] == pytest.approx(J_PER_FRAME, rel=0.005)


def test_a_counter_that_disagrees_with_power_is_noisy(results):
    """A counter that shows 57 % of the power has a noisy figure with both powers. One that agrees
    is not doubted.
    """
    figure = results["gain"]
    assert figure["status"] == "noisy"
    assert re.search("14[23] W by this method, 250 W by .*instant power", figure["reason"])
    assert results["sound"]["details"]["instant_power_w"] == pytest.approx(250)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("sound", "nvml counter, board, windows from step to step"),
        ("no counter", "nvml instant power, board, summed"),
    ],
)
def test_energy_interleaved_with_a_reference(results, name, method):
    """For a network of twice the reference's energy, the ratio and the energy per frame are right
    to 0.5 %, and the method is named.
    """
    figure = results["certified", name]
    assert (figure["status"], figure["method"]) == (
        "ok",
        f"cycles against a reference network, {method}, eager",
    )
    assert figure["details"]["ratio"] == pytest.approx(2, rel=0.005)
    assert figure["value"] == pytest.approx(J_PER_FRAME, rel=0.005)


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("nothing", "unavailable", "does not offer it"),
        ("reset", "unavailable", "went back by"),
        ("brake", "throttled", "power brake"),
    ],
)
def test_faults_leave_no_interleaved_energy_either(results, name, status, reason):
    """The figure has a status and a reason and no value."""
    figure = results["certified", name]
    assert (figure["status"], figure["value"]) == (status, None)
    assert reason in figure["reason"]


@pytest.mark.parametrize("name", UNAVAILABLE)
def test_every_fault_has_its_reason(results, name):
    """No fault reads as an energy."""
    assert (results[name]["status"], results[name]["value"]) == ("unavailable", None)
    assert UNAVAILABLE[name][1] in results[name]["reason"]


def test_no_two_faults_look_alike(results):
    """Each injected fault has a reason that no other fault has."""
    reasons = [results[name]["reason"] for name in UNAVAILABLE]
    reasons += [results[name, "energy"]["reason"] for name in SPOILED]
    assert len(set(reasons)) == len(UNAVAILABLE) + len(SPOILED)


@pytest.mark.parametrize("name", OTHER_METHODS)
def test_the_next_best_method_is_taken_and_named(results, name):
    """The figure names the method and the reasons against better ones."""
    _, method, reason = OTHER_METHODS[name]
    figure = results[name]
    assert (figure["status"], figure["method"]) == ("ok", method)
    assert reason in " ".join(figure["details"]["passed_over"])
    assert figure["value"] == pytest.approx(J_PER_FRAME, rel=0.005)


@pytest.mark.parametrize("metric", ["latency", "energy"])
@pytest.mark.parametrize("name", SPOILED)
def test_a_disturbed_device_gives_no_number(results, name, metric):
    """After six tries the figure has a status and a reason and no value."""
    _, status, reason = SPOILED[name]
    figure = results[name, metric]
    assert (figure["status"], figure["value"]) == (status, None)
    assert re.search(reason, figure["reason"])
    assert len(figure["details"]["spoiled"]) == 5


@pytest.mark.parametrize("metric", ["latency", "energy"])
@pytest.mark.parametrize("name", FINE)
def test_disturbances_that_end_or_do_not_matter_leave_a_right_figure(results, name, metric):
    """The figure is right, and lists the spoiled tries if a slowdown or a neighbour ended."""
    figure = results[name, metric]
    assert figure["status"] == "ok"
    assert figure["value"] == pytest.approx(J_PER_FRAME if metric == "energy" else 0.002, rel=0.005)
    if "ends" in name:
        assert figure["details"]["spoiled"]


def test_a_clock_that_drops_by_a_tenth_spoils_the_windows_of_the_drop(results):
    """They are taken again at the clock that stays."""
    figure = results["drop"]
    assert figure["status"] == "ok"
    assert figure["details"]["spoiled"] == [
        "the device's clock moved between 1780 and 1980 MHz, at up to 55 °C"
    ]
    assert set(figure["details"]["watch"]["sm_clock_mhz"]) == {1780}


def test_the_looks_are_summarised_in_the_details(results):
    """The details show clocks, temperature, the power limit and idle neighbours."""
    assert results["an idle neighbour", "energy"]["details"]["watch"]["other_programs"] == [7]
    watch = results["at the power limit", "energy"]["details"]["watch"]
    assert set(watch["sm_clock_mhz"]) <= {1980, 1600}
    assert watch["power_capped"] == watch["looks"] >= 10
    assert watch["temperature_c"] == 55
    assert results["a display", "energy"]["details"]["watch"]["other_percent"] == {"9": 2}


def test_looks_at_an_idle_device_are_counted(results):
    """Their clocks are not compared, so the details show how many looks that leaves."""
    watch = results["always idle"]["details"]["watch"]
    assert watch["idle"] == watch["looks"] >= 10


def test_a_partition_is_identified_by_its_gpu(results):
    """The driver has the UUID of a MIG partition with another prefix, and finds the GPU by it.
    Without energy the reason is the partition, not an unknown GPU.
    """
    assert results["a partition"]["uuid"] == "GPU-stub"
    assert "partitioned (MIG)" in results["a partition"]["reason"]


def test_a_reading_of_power_takes_one_query(results):
    """Whether the GPU is split by MIG is queried once for a meter, and a look has no other query
    twice than that of clocks, of which there are two.
    """
    first, second, look = (Counter(each) for each in results["queries"])
    assert first.pop("nvmlDeviceGetMigMode") == 1
    assert first == second == {"nvmlDeviceGetFieldValues": 1}
    assert look.pop("nvmlDeviceGetClockInfo") == 2
    assert set(look.values()) == {1}
    assert look.total() <= 8


@pytest.mark.parametrize("name", DOCTOR)
def test_doctor_reports_what_is_available_and_why_not_the_rest(results, name):
    """The findings are the counter's rhythm, MIG, power, and present slowdowns and processes."""
    findings = results["doctor", name]
    for what, (available, detail) in DOCTOR[name][1].items():
        assert findings[f"GPU 0 {what}"][0] is available
        assert detail in findings[f"GPU 0 {what}"][1]


def test_the_survey_of_a_gpu_finds_the_properties_of_the_stub(results):
    """They are a counter of 100 ms, 250 W by every sensor at every rate, and a copy that equals the
    network in 20 cycles.
    """
    survey = results["survey"]
    assert survey["rhythm"]["idle"]["period_s"] == pytest.approx(0.1, rel=0.01)
    assert survey["rhythm"]["under_load"]["period_s"] == pytest.approx(0.1, rel=0.01)
    watts = [*survey["reading_disturbs"].values()][:3] + [
        value for row in list(survey["agreement"].values())[:3] for value in row.values()
    ]
    assert len(watts) == 3 + 9
    assert watts == pytest.approx(
        [250] * 12, rel=0.03
    )  # read at random moments within a step, over 5 and 10 s
    for name in ("latency_copy", "energy_copy"):
        assert len(survey[name]["ratios"]) == 20
        assert survey[name]["furthest"] < 0.005
    assert survey["states"]["alone"]["problem"] is None
    assert sum(part["took_s"] for part in survey.values()) < 400


def test_parts_of_the_survey_that_fail_leave_the_others(results):
    """On a device that slows itself down the copy has no ratios of latency, and this is recorded
    with its reason.
    """
    survey = results["survey, throttled"]
    assert survey["latency_copy"]["status"] == "throttled"
    assert survey["latency_copy"]["ratios"] == []
    assert survey["states"]["alone"]["problem"]["status"] == "throttled"
    assert survey["rhythm"]["idle"]["period_s"] == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("name", WITHOUT)
def test_an_old_library_has_another_method_or_a_reason(results, name):
    """Missing functions reject a method or leave a state unknown. Without any sensor there is no
    number.
    """
    _, method, reason = WITHOUT[name]
    figure = results["without", name]
    if method is None:
        assert (figure["status"], figure["value"]) == ("unavailable", None)
        assert reason in figure["reason"]
        return
    assert (figure["status"], figure["method"]) == ("ok", method)
    assert figure["value"] == pytest.approx(J_PER_FRAME, rel=0.005)
    assert reason in "".join(figure["details"]["passed_over"])


@pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="there is an NVIDIA driver")
def test_a_missing_library_is_a_reason(tmp_path):
    """Without the driver's library there is a reason and no number."""
    [figure] = figures(tmp_path, {})
    assert figure["value"] is None
    assert "libnvidia-ml.so.1 is not installed" in figure["reason"]
