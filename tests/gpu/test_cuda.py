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
    """Yield the meter of the current device, held exclusively."""
    with find_meter("cuda") as meter, DeviceLock(meter.device.identity).exclusive():
        yield meter


@pytest.fixture
def run(meter):
    """Prepare VoVNet-27-slim with a batch that keeps the GPU busy."""
    with prepare(build(published("vovnet27_slim"), 10), PLAN, meter) as run:
        yield run


def smi(meter, field):
    """Return one number that nvidia-smi shows for this device."""
    result = subprocess.run(
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
    return float(result.stdout)


def test_latency_agrees_with_cuda_events(meter, run):
    """It is within 5 % of the time between two CUDA events around a hundred calls."""
    figure = latency(run, meter, PLAN)
    assert figure.status in USABLE_STATUSES
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(100):
        run()
    end.record()
    meter.synchronize()
    assert figure.value == pytest.approx(start.elapsed_time(end) / 1000 / 100, rel=0.05)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="no nvidia-smi")
def test_energy_agrees_with_nvidia_smi(meter, run):
    """Mean power (joules per frame times frames per second) is within 10 % of nvidia-smi's. Without
    a sensor there is a reason and no value.
    """
    figure = energy(run, meter, PLAN)
    if figure.status is Status.UNAVAILABLE:
        assert figure.value is None
        pytest.skip(figure.reason)
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
    elapsed_s = time.perf_counter() - start_s
    stop.set()
    watcher.join()
    settled = sorted(watts[len(watts) // 3 :])  # the sensor may average over a second
    power_w = figure.value * PLAN.batch_size * batches / elapsed_s
    assert power_w == pytest.approx(settled[len(settled) // 2], rel=0.1)


def test_the_identity_is_the_uuid_of_the_device(meter):
    """nvidia-smi finds a GPU by the identity, and its name is the device's."""
    result = subprocess.run(
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
    assert result.stdout.strip() == meter.device.name


def test_peak_memory_holds_weights_input_and_activations(meter, run):
    """It is at least weights, input and the stem's largest activation (64 channels at half the
    side, float32).
    """
    figure = peak_memory(run, meter, PLAN)
    assert figure.value >= run.resident_bytes + 4 * PLAN.batch_size * 64 * 64 * 64


@pytest.mark.slow
def test_counter_and_power_agree(meter, run):
    """The mean power of four windows by the counter is within 5 % of the driver's instant power."""
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
        pytest.skip("; ".join(meter.energy.rejections))
    counted_w = sum(window.energy_j for window in windows) / sum(
        window.seconds for window in windows
    )
    assert counted_w == pytest.approx(sum(watts) / len(watts), rel=0.05)


@pytest.mark.slow
def test_a_network_needs_as_much_energy_as_itself(meter, run):
    """Interleaved with itself, a network has a ratio of energy per frame within 3 % of 1."""
    figure = certify_energy({"copy": run}, run, meter, PLAN, sleep=meter.sleep)["copy"]
    if figure.status is Status.UNAVAILABLE:
        pytest.skip(figure.reason)
    assert figure.status in USABLE_STATUSES
    assert figure.details["ratio"] == pytest.approx(1, abs=0.03)


@pytest.mark.slow
def test_a_neighbour_leaves_no_value(meter, run):
    """While another process keeps the GPU busy, the figure has a status and no number. Afterwards
    there is one again.
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


def test_the_device_reports_its_state(meter, run):
    """The details have clocks, temperature and slowdowns, unless the driver hides them."""
    figure = latency(run, meter, PLAN)
    state = meter.device_state()
    if state is None or state.sm_clock_mhz is None:
        assert not figure.details.get("watch", {}).get("sm_clock_mhz")
        pytest.skip("the driver does not report clocks")
    assert smi(meter, "clocks.max.sm") >= state.sm_clock_mhz > 0
    assert figure.details["watch"]["looks"] >= 1
