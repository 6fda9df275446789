"""The CUDA meter on a real GPU, against torch's events and nvidia-smi."""

import shutil
import subprocess
import sys
import threading
import time

import pytest
import torch

from nas.core.measurement import USABLE_STATUSES, MeasurementPlan, Status
from nas.core.published import published
from nas.measuring.meters import find_meter
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.methods import certify_energy, energy, latency, peak_memory, prepare
from nas.model import build

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

BURNER = """
import torch
matrix = torch.randn(4096, 4096, device="cuda")
torch.cuda.synchronize()
print("burning", flush=True)
while True:
    matrix @ matrix
    torch.cuda.synchronize()
"""
PLAN = MeasurementPlan(batch_size=64, image_size=128, max_time_s=5)


@pytest.fixture
def meter():
    """The current device, held alone."""
    with find_meter("cuda") as meter, DeviceLock(meter.device.identity).exclusive():
        yield meter


@pytest.fixture
def run(meter):
    """VoVNet-27-slim at a batch that keeps the GPU busy."""
    with prepare(build(published("vovnet27_slim"), 10), PLAN, meter) as run:
        yield run


def smi(meter, field):
    """One number that nvidia-smi shows for this device."""
    told = subprocess.run(
        [
            "nvidia-smi",
            f"--id={meter.device.identity}",
            f"--query-gpu={field}",
            "--format=csv,noheader,nounits",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(told.stdout)


def test_latency_agrees_with_cuda_events(meter, run):
    """Within 5 % of the time between two CUDA events around a hundred calls."""
    found = latency(run, meter, PLAN)
    assert found.status in USABLE_STATUSES
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(100):
        run()
    end.record()
    meter.synchronize()
    assert found.value == pytest.approx(start.elapsed_time(end) / 1000 / 100, rel=0.05)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="no nvidia-smi")
def test_energy_agrees_with_nvidia_smi(meter, run):
    """Mean power (joules per frame times frames per second) within 10 % of what nvidia-smi shows
    meanwhile; where the device has no counter, a reason and no value.
    """
    found = energy(run, meter, PLAN)
    if found.status is Status.UNAVAILABLE:
        assert found.value is None
        pytest.skip(found.reason)
    watts, stop = [], threading.Event()

    def watch():
        while not stop.wait(0.2):
            watts.append(smi(meter, "power.draw"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    batches, start_s = 0, time.perf_counter()
    while time.perf_counter() - start_s < 6:
        run()
        meter.synchronize()
        batches += 1
    taken_s = time.perf_counter() - start_s
    stop.set()
    watcher.join()
    settled = sorted(watts[len(watts) // 3 :])  # the sensor may average over a second
    power_w = found.value * PLAN.batch_size * batches / taken_s
    assert power_w == pytest.approx(settled[len(settled) // 2], rel=0.1)


def test_the_device_is_the_one_of_its_uuid(meter):
    """nvidia-smi knows the identity, and its name is the device's."""
    told = subprocess.run(
        [
            "nvidia-smi",
            f"--id={meter.device.identity}",
            "--query-gpu=name",
            "--format=csv,noheader",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == meter.device.name


def test_peak_memory_holds_weights_input_and_activations(meter, run):
    """At least weights, input and the stem's largest activation (64 channels at half the side,
    float32).
    """
    found = peak_memory(run, meter, PLAN)
    assert found.value >= run.resident_bytes + 4 * PLAN.batch_size * 64 * 64 * 64


@pytest.mark.slow
def test_counter_and_power_agree(meter, run):
    """Mean watts of four windows by the counter within 5 % of the driver's instant power
    meanwhile.
    """
    reason = meter.energy_unavailable_reason()
    if reason:
        pytest.skip(reason)
    watts = []

    def work():
        run()
        meter.synchronize()
        watts.append(meter.power_w("instant"))
        return PLAN.batch_size

    latency(run, meter, PLAN)
    windows = meter.energy.windows(work, 4)
    if "counter" not in meter.energy.method:
        pytest.skip("; ".join(meter.energy.passed_over))
    counted_w = sum(window.energy_j for window in windows) / sum(
        window.seconds for window in windows
    )
    assert counted_w == pytest.approx(sum(watts) / len(watts), rel=0.05)


@pytest.mark.slow
def test_a_copy_needs_as_many_joules(meter, run):
    """In turns with itself a network's ratio of joules per frame is within 3 % of 1."""
    found = certify_energy({"copy": run}, run, meter, PLAN, sleep=meter.sleep)["copy"]
    if found.status is Status.UNAVAILABLE:
        pytest.skip(found.reason)
    assert found.status in USABLE_STATUSES
    assert found.details["ratio"] == pytest.approx(1, abs=0.03)


@pytest.mark.slow
def test_a_neighbour_costs_the_value(meter, run):
    """While another process keeps the GPU busy there is a status and no number; on its own again
    there is one.
    """
    with subprocess.Popen(
        [sys.executable, "-c", BURNER], stdout=subprocess.PIPE, text=True
    ) as neighbour:
        try:
            neighbour.stdout.readline()
            beside = latency(run, meter, PLAN)
        finally:
            neighbour.kill()
    assert (beside.status, beside.value) == (Status.CONTENDED, None)
    assert latency(run, meter, PLAN).status in USABLE_STATUSES


def test_the_device_tells_its_state(meter, run):
    """Clock, temperature and slowdowns are told, or the driver hides them, and then the figure has
    none of them.
    """
    found = latency(run, meter, PLAN)
    state = meter.device_state()
    if state is None or state.sm_clock_mhz is None:
        assert not found.details.get("watch", {}).get("sm_clock_mhz")
        pytest.skip("the driver does not tell clocks")
    assert smi(meter, "clocks.max.sm") >= state.sm_clock_mhz > 0
    assert found.details["watch"]["looks"] >= 1
