"""The real nvidia-ml-py on a C stub of the driver's library, in a child process; its clock is
virtual.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="no gcc to compile the stub of libnvidia-ml"
)

HERE = Path(__file__).parent
J_PER_FRAME = 250 * 0.002 / 4
"""250 W, 2 ms for a batch of 4."""

RNG = random.Random(0)
COUNTER, INSTANT, AVERAGE = (
    {name: error}
    for name, error in (("ENERGY_ERROR", "3"), ("INSTANT_ERROR", "3"), ("AVERAGE_ERROR", "3"))
)

UNAVAILABLE = {  # settings that leave no way to joules, and what is said
    "driver not loaded": ({"INIT_ERROR": "9"}, "driver is not loaded"),
    "driver and library differ": ({"INIT_ERROR": "18"}, "different versions"),
    "unknown GPU": ({"uuid": "GPU-other"}, "knows no such GPU"),
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
    "counter stops": ({"STUCK_AT_S": "105"}, "stood still"),
    "counter reset": ({"RESET_AT_S": "105"}, "went back by"),
    "counter jumps": ({"JUMP_AT_S": "105"}, "counter jumped"),
}
OTHER_WAYS = {  # settings, the way taken, why better ones were not
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
SPOILED = {  # settings, status, what is said
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
FINE = {  # settings that spoil nothing in the end
    "at the power limit": {"REASONS": "0x4", "CLOCK_MHZ": "0:1980,100.7:1600"},
    "idle bit": {"REASONS": "0:1,100.1:0", "CLOCK_MHZ": "0:345,100.1:1980"},
    "an idle neighbour": {"PROGRAMS": "self+7", "BUSY": "self=90"},
    "clocks not told": {"CLOCK_ERROR": "3", "REASONS_ERROR": "3"},
    "a slowdown that ends": {"REASONS": "0:0x40,103:0"},
    "a neighbour that ends": {"PROGRAMS": "self+7", "BUSY": "0:7=90,103:self=90"},
    "one program that starts": {"PROGRAMS": "0:self,100.7:self+7"},
}
DOCTOR = {  # settings, and what nas doctor finds: whether it can be had, and a part of what is said
    "sound": (
        {},
        {
            "whole": (True, "not split"),
            "energy counter": (True, "steps each 100.0 ms"),
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
            "full speed": (False, "does not tell"),
            "to itself": (True, "the driver hides processes; how busy it is is not told"),
        },
    ),
    "stuck": ({"STUCK_AT_S": "50"}, {"energy counter": (False, "stood still for 0.5 s")}),
}
WITHOUT = {  # functions that an old driver's library lacks, the way then taken, and what is said
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
    "what is watched": (
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
"""Settings for joules in turns with a reference."""

ALIGNMENTS = {0.002: "watched", 0.03: "phase-locked"}
"""By the length of a piece of work."""

RHYTHMS = [("20", "3"), ("33.3", "0"), ("100", "77"), ("200", "150")]
"""Period and phase of the counter in milliseconds."""


def compiled(folder, without=()):
    """The stub, compiled into the folder."""
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
    """What became of each scenario in a child process that finds the driver's library in this
    folder.
    """
    told = subprocess.run(
        [sys.executable, "-W", "error", HERE / "nvml_child.py"],
        input=json.dumps(scenarios),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
    )
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """All scenarios in one child, since loading torch takes seconds; those that spoil for latency
    and for energy.
    """
    folder = tmp_path_factory.mktemp("nvml")
    compiled(folder)
    named = {
        name: settings
        for table in (UNAVAILABLE, OTHER_WAYS)
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
    named["survey"] = {"metric": "survey"}
    named["sound"] = {}
    for name, (missing, *_) in WITHOUT.items():  # last, since they change the library
        named["without", name] = {"library": compiled(tmp_path_factory.mktemp("old"), missing)}
    return dict(zip(named, figures(folder, *named.values()), strict=True))


@pytest.mark.parametrize("piece_s", ALIGNMENTS)
def test_windows_are_right_where_naive_ones_are_not(found, piece_s):
    """Fifty windows of 1.0 to 1.1 s at random on a counter that steps each 100 ms: every one within
    0.5 % of the truth. Two bare readings are off by more than 3 % rms, near the T / (sqrt(6) W) of
    theory.
    """
    errors = found["errors", piece_s]
    assert errors["alignment"] == ALIGNMENTS[piece_s]
    assert max(map(abs, errors["reader"])) <= 0.005
    assert len(errors["reader"]) == len(errors["naive"]) == 50
    assert (sum(error**2 for error in errors["naive"]) / 50) ** 0.5 > 0.03


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_any_rhythm_is_found(found, rhythm):
    """The period that the reader stores is the stub's within 1 %, and the joules per frame are
    right to 0.5 %.
    """
    assert found[rhythm]["details"]["counter_period_s"] == pytest.approx(
        float(rhythm[0]) / 1000, rel=0.01
    )
    assert found[rhythm]["value"] == pytest.approx(J_PER_FRAME, rel=0.005)


def test_a_sound_board_has_a_sound_figure(found):
    """Status ok, the method, and nothing passed over."""
    figure = found["sound"]
    assert (figure["status"], figure["driver"], figure["details"]["passed_over"]) == (
        "ok",
        "999.1",
        [],
    )
    assert figure["value"] == pytest.approx(J_PER_FRAME, rel=0.005)


def test_a_counter_that_power_contradicts_is_doubted(found):
    """A counter that shows 57 % of the power has a noisy figure that says so; one that agrees is
    not doubted.
    """
    figure = found["gain"]
    assert figure["status"] == "noisy"
    assert re.search("14[23] W by this method, 250 W by instant power", figure["reason"])
    assert found["sound"]["details"]["instant_power_w"] == pytest.approx(250)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("sound", "nvml counter, board, windows from step to step"),
        ("no counter", "nvml instant power, board, summed"),
    ],
)
def test_joules_in_turns_with_a_reference(found, name, method):
    """A network of twice the reference's joules: ratio and joules per frame are right to 0.5 %, the
    method is named.
    """
    figure = found["certified", name]
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
def test_faults_leave_no_joules_in_turns_either(found, name, status, reason):
    """A status, a reason, no value."""
    figure = found["certified", name]
    assert (figure["status"], figure["value"]) == (status, None)
    assert reason in figure["reason"]


@pytest.mark.parametrize("name", UNAVAILABLE)
def test_every_fault_has_its_own_reason(found, name):
    """No fault reads as joules."""
    assert (found[name]["status"], found[name]["value"]) == ("unavailable", None)
    assert UNAVAILABLE[name][1] in found[name]["reason"]


def test_no_two_faults_look_alike(found):
    """Each of all injected faults has a reason that no other has."""
    reasons = [found[name]["reason"] for name in UNAVAILABLE]
    reasons += [found[name, "energy"]["reason"] for name in SPOILED]
    assert len(set(reasons)) == len(UNAVAILABLE) + len(SPOILED)


@pytest.mark.parametrize("name", OTHER_WAYS)
def test_the_next_best_way_is_taken_and_named(found, name):
    """The method says which, and why better ones were passed over is kept."""
    _, method, reason = OTHER_WAYS[name]
    figure = found[name]
    assert (figure["status"], figure["method"]) == ("ok", method)
    assert reason in " ".join(figure["details"]["passed_over"])
    assert figure["value"] == pytest.approx(J_PER_FRAME, rel=0.005)


@pytest.mark.parametrize("metric", ["latency", "energy"])
@pytest.mark.parametrize("name", SPOILED)
def test_a_device_that_is_not_itself_gives_no_number(found, name, metric):
    """After six tries there are a status, a reason and no value."""
    _, status, reason = SPOILED[name]
    figure = found[name, metric]
    assert (figure["status"], figure["value"]) == (status, None)
    assert re.search(reason, figure["reason"])
    assert len(figure["details"]["spoiled"]) == 5


@pytest.mark.parametrize("metric", ["latency", "energy"])
@pytest.mark.parametrize("name", FINE)
def test_what_ends_or_only_looks_bad_costs_no_number(found, name, metric):
    """The figure is right, and it says how often it was taken again where a slowdown or a neighbour
    ended.
    """
    figure = found[name, metric]
    assert figure["status"] == "ok"
    assert figure["value"] == pytest.approx(J_PER_FRAME if metric == "energy" else 0.002, rel=0.005)
    if "ends" in name:
        assert figure["details"]["spoiled"]


def test_a_clock_that_drops_by_a_tenth_spoils_the_windows_it_falls_in(found):
    """They are taken again, at the pace that stays."""
    assert found["drop"]["status"] == "ok"
    assert found["drop"]["details"]["spoiled"] == [
        "the device's clock moved between 1780 and 1980 MHz, at up to 55 °C"
    ]
    assert set(found["drop"]["details"]["watch"]["sm_clock_mhz"]) == {1780}


def test_what_was_watched_is_kept(found):
    """Clocks, temperature, the power limit and idle neighbours stand in the figure's details."""
    assert found["an idle neighbour", "energy"]["details"]["watch"]["other_programs"] == [7]
    watched = found["at the power limit", "energy"]["details"]["watch"]
    assert set(watched["sm_clock_mhz"]) <= {1980, 1600}
    assert watched["power_capped"] == watched["looks"] >= 10
    assert watched["temperature_c"] == 55


@pytest.mark.parametrize("name", DOCTOR)
def test_doctor_says_what_can_be_had_and_why_not_the_rest(found, name):
    """The counter's rhythm, MIG, power, slowdowns and other processes now."""
    findings = found["doctor", name]
    for what, (available, told) in DOCTOR[name][1].items():
        assert findings[f"GPU 0 {what}"][0] is available
        assert told in findings[f"GPU 0 {what}"][1]


def test_the_survey_of_a_gpu_finds_what_the_stub_is(found):
    """A counter of 100 ms, 250 W by every sensor at every rate, and a copy that is the network, in
    20 cycles.
    """
    survey = found["survey"]
    assert survey["rhythm"]["idle"]["period_s"] == pytest.approx(0.1, rel=0.01)
    assert survey["rhythm"]["under_load"]["period_s"] == pytest.approx(0.1, rel=0.01)
    watts = [*survey["reading_disturbs"].values()][:3] + [
        value for row in list(survey["agreement"].values())[:3] for value in row.values()
    ]
    assert len(watts) == 3 + 9
    assert watts == pytest.approx(
        [250] * 12, rel=0.03
    )  # read by chance within a step, over 5 and 10 s
    for name in ("latency_copy", "energy_copy"):
        assert len(survey[name]["ratios"]) == 20
        assert survey[name]["furthest"] < 0.005
    assert survey["states"]["alone"]["problem"] is None
    assert sum(part["took_s"] for part in survey.values()) < 400


@pytest.mark.parametrize("name", WITHOUT)
def test_an_old_library_has_another_way_or_a_reason(found, name):
    """What it lacks is passed over or unknown; where it lacks all, there is no number."""
    _, method, told = WITHOUT[name]
    figure = found["without", name]
    if method is None:
        assert (figure["status"], figure["value"]) == ("unavailable", None)
        assert told in figure["reason"]
        return
    assert (figure["status"], figure["method"]) == ("ok", method)
    assert figure["value"] == pytest.approx(J_PER_FRAME, rel=0.005)
    assert told in "".join(figure["details"]["passed_over"])


@pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="there is an NVIDIA driver")
def test_a_missing_library_is_said(tmp_path):
    """Without the driver's library there is a reason and no number."""
    [figure] = figures(tmp_path, {})
    assert figure["value"] is None
    assert "libnvidia-ml.so.1 is not installed" in figure["reason"]
