"""The paper's networks: counts against published tables, and derived figures."""

import copy
import csv
import io
import re

import pytest
import torch

from nas.core.errors import UnknownNameError
from nas.core.measurement import Measurement, MeasurementPlan, Status
from nas.measuring.rounds import count_operations
from nas.measuring.targets import load_target
from nas.paper.peers import PAPER, PEERS, select_peers
from nas.paper.peers_page import Estimate, as_csv, as_page, cells, drawings, paper_cells, row
from nas.paper.scatter import Point, scatter

# parameters in millions, GMACs, memory access cost in millions, activations in millions,
# convolutions; 224 pixels
TABLE = {
    "AlexNet": (61.101, 0.714, 61.94, 0.48, 5),
    "SqueezeNet 1.0": (1.248, 0.819, 8.55, 4.35, 26),
    "SqueezeNet 1.1": (1.235, 0.349, 5.54, 2.59, 26),
    "MobileNet V1": (4.232, 0.569, 14.40, 5.04, 27),
    "MobileNet V2": (3.505, 0.301, 16.92, 6.68, 52),
    "ShuffleNetV2 x1": (2.279, 0.145, 6.25, 1.95, 56),
    "ShuffleNetV2 x1.5": (3.504, 0.296, 9.17, 2.77, 56),
    "ResNet-50": (25.557, 4.089, 47.28, 11.11, 53),
    "ResNet-101": (44.549, 7.801, 76.46, 16.23, 104),
    "DenseNet-121": (7.979, 2.834, 29.76, 6.90, 120),
    "DenseNet-161": (28.681, 7.728, 67.78, 11.06, 160),
    "DenseNet-201": (20.014, 4.291, 51.60, 7.85, 200),
    "PeleeNet": (2.802, 0.508, 12.24, 2.97, 113),
    "DenseNet-67": (1.669, 2.409, 19.38, 6.59, 67),
    "DenseNet-40": (1.020, 0.265, 3.68, 0.45, 39),
    "VoVNet-27-slim": (3.526, 2.177, 13.16, 4.15, 27),
    "VoVNet-27-slim, paper's stem": (3.526, 2.870, 14.36, 5.35, 27),
    "VoVNet-39": (22.600, 7.072, 38.57, 6.73, 39),
    "VoVNet-57": (36.640, 8.930, 54.86, 7.52, 57),
    "VoVNetV2-19-slim-dw": (1.898, 0.398, 13.03, 5.28, 40),
    "VoVNetV2-19-dw": (6.543, 1.333, 23.80, 8.25, 41),
    "VoVNetV2-19-slim": (3.166, 1.680, 11.00, 3.52, 23),
    "VoVNetV2-19": (11.205, 4.122, 22.45, 5.14, 23),
    "VoVNetV2-39": (26.209, 7.076, 42.18, 6.74, 45),
    "VoVNetV2-57": (42.480, 8.936, 60.71, 7.52, 66),
    "VoVNetV2-99": (70.549, 16.496, 99.57, 11.28, 115),
    "PP-HGNet tiny": (14.736, 4.530, 29.24, 6.36, 42),
    "PP-HGNet small": (24.361, 8.509, 44.77, 8.79, 47),
    "HGNetV2-B0": (5.997, 0.321, 11.02, 2.12, 43),
    "HGNetV2-B4": (19.797, 2.734, 36.21, 6.70, 81),
}
PLAN = MeasurementPlan(image_size=224, batch_size=4)


def measured(value: float | None, metric: str = "latency", **values: object) -> Measurement:
    """Make a figure under the plan with an interval of 10 % around its value."""
    bounds = {} if value is None else {"ci_low": 0.9 * value, "ci_high": 1.1 * value}
    return Measurement(
        **{
            "metric": metric,
            "unit": "s",
            "value": value,
            "method": "given",
            "plan": PLAN,
            **bounds,
            **values,
        }
    )


def made(measurements: list[Measurement], name: str = "VoVNet-39", **values: object):
    """Make the row of a network of 1 GMAC."""
    return row(
        **{
            "name": name,
            "family": "VoVNet",
            "target": "vovnet39",
            "plan": PLAN,
            "counts": {"macs": 10**9},
            "measurements": measurements,
            "certified": False,
            **values,
        }
    )


def test_every_peer_has_published_counts():
    """The counts below and the list of peers have the same names."""
    assert list(TABLE) == list(PEERS)


@pytest.mark.parametrize("name", TABLE)
def test_counts_are_those_of_published_tables(name):
    """Parameters, MACs, memory access cost, activations and convolutions of the measured networks,
    counted with forward hooks.
    """
    pytest.importorskip("torchvision")
    pytest.importorskip("timm")
    peer = PEERS[name]
    size = peer.image_size or 224
    with torch.device("meta"):
        found = count_operations(
            load_target(peer.target, MeasurementPlan(image_size=size), None), size
        )
    assert (round(found.parameters / 1e6, 3), round(found.macs / 1e9, 3)) == TABLE[name][:2]
    assert (found.memory_access_cost / 1e6, found.activations / 1e6) == pytest.approx(
        TABLE[name][2:4], abs=0.0101
    )
    assert found.convolutions == TABLE[name][4]


def test_counting_does_not_change_the_network():
    """The same network is measured next."""
    target = load_target("nas.model.densenet:densenet40", MeasurementPlan(), None)
    before = copy.deepcopy(target.network.state_dict())
    count_operations(target, 32)
    assert all(
        torch.equal(value, before[name]) for name, value in target.network.state_dict().items()
    )


def test_the_paper_s_rates_are_its_macs_times_its_frames():
    """The printed columns agree to 3 %, which would reveal a number copied wrongly."""
    assert set(PAPER) <= set(PEERS)
    for printed in PAPER.values():
        assert printed.macs * printed.fps == pytest.approx(printed.macs_per_s, rel=0.035)


def test_the_paper_s_ratio_of_energies_implies_half_the_power():
    """4.1 times the joules per image at half the speed: 130 W for DenseNet-67 and 64 W for 27-slim
    at twice the speed.
    """
    dense, slim = PAPER["DenseNet-67"], PAPER["VoVNet-27-slim, paper's stem"]
    assert dense.energy_j / slim.energy_j == pytest.approx(4.1, abs=0.05)
    assert (round(dense.power_w), round(slim.power_w)) == (130, 64)


def test_names_are_found_in_any_case():
    """The error for an unknown name lists all names."""
    assert [peer.target for peer in select_peers(["vovnet-39"])] == ["vovnet39"]
    with pytest.raises(UnknownNameError, match="VoVNet-57"):
        select_peers(["VoVNet-38"])


def test_derived_figures_have_bounds():
    """At batch 4 and 1 GMAC per frame, 0.5 s are 8 frames/s and 8 GMAC/s. At 2 J per frame these
    are 16 W.
    """
    figures = made([measured(0.5), measured(2.0, "energy")]).figures
    assert (figures["fps"].value, figures["fps"].low, figures["fps"].high) == pytest.approx(
        (8, 4 / 0.55, 4 / 0.45)
    )
    assert figures["macs_per_s"].value == pytest.approx(8e9)
    assert (figures["power"].value, figures["power"].high) == pytest.approx((16, 2.2 * 4 / 0.45))


def test_rounds_give_their_median_and_the_outer_bounds():
    """One of three rounds is noisy. Figures under other conditions or of the other tier do not
    count.
    """
    other = MeasurementPlan(image_size=224, batch_size=1)
    rounds = [
        measured(1.0),
        measured(1.5, status=Status.NOISY, reason="wide"),
        measured(1.2),
        measured(9.0, plan=other),
        measured(9.0, details={"ratios": [1.0]}),
    ]
    found = made(rounds).figures["latency"]
    assert (found.value, found.low, found.high) == pytest.approx((1.2, 0.9, 1.65))
    assert (found.rounds, found.noisy) == (3, 1)
    assert made(rounds, certified=True).figures["latency"].value == 9.0


def test_missing_measurements_have_a_reason_and_no_column():
    """Without joules there is no power, and no number in their place."""
    none = measured(None, "energy", status=Status.UNAVAILABLE, reason="no counter")
    rows = [made([measured(0.5), none])]
    assert Estimate.of([none]).reason == "unavailable: no counter"
    assert "energy/frame" not in next(cells(rows))
    assert "no counter" in as_page(rows, "here")
    assert next(csv.DictReader(io.StringIO(as_csv(rows, "here"))))["power"] == ""


def test_the_paper_s_columns_are_separate_and_name_its_hardware():
    """The CSV has them in SI units, and the pages in a table of their own."""
    rows = [made([measured(0.5)]), made([measured(0.5)], name="AlexNet")]
    first, second = csv.DictReader(io.StringIO(as_csv(rows, "here")))
    assert (first["paper_fps"], first["paper_memory_bytes"], second["paper_fps"]) == (
        "25.0",
        "2199000000.0",
        "",
    )
    assert "Titan X" in first["paper_hardware"]
    assert [line[0] for line in paper_cells(rows)] == ["network", "VoVNet-39"]


def test_points_are_at_their_values():
    """On logarithmic axes equal ratios are equal distances, and larger values are higher."""
    points = [Point(name=f"n{x:g}", kind="a", x=x, y=x, low=x, high=x) for x in (1e6, 1e7, 1e8)]
    drawn = scatter(points, x_title="x", y_title="y", y_unit="s", rates={"one": 1.0})
    marks = re.findall(r'<path transform="translate\(([\d.]+) ([\d.]+)\)" fill', drawn)[:3]
    xs, ys = zip(*((float(x), float(y)) for x, y in marks), strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2) != 0
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)
    assert ys[2] < ys[0]


def test_drawings_show_measured_quantities_only():
    """Hostile names are escaped in the drawing of latency. Without joules energy has none."""
    rows = [
        made([measured(0.5)], name="<b>&"),
        made([measured(0.4), measured(1.0, "energy")], name="x"),
    ]
    both = drawings(rows)
    assert set(both) == {"latency", "energy"}
    assert "&lt;b&gt;&amp;" in both["latency"]
    assert "<b>" not in both["latency"]
    assert set(drawings(rows[:1])) == {"latency"}
