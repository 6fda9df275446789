"""Study files: what is right is read, what is wrong is named, all of it at once."""

import textwrap

import pytest

from nas.core import plugins
from nas.core.errors import StudyFileError
from nas.core.study import AutoPrecision, Direction, Objective
from nas.core.units import parse_quantity
from nas.searching.study_file import parse_study, read_study

GOOD = """
name: first
space: osa_tiny
sampler: nsga2
seed: 3
objectives:
  - metric: error
    reference: 90 %
  - {metric: latency, limit: 4 ms}
  - {metric: parameters, reference: 2 M}
rungs: {epochs: [0.5, 2]}
data: {dataset: cifar10, fallback: digits}
training: {precision: bf16, batch_size: 64}
measurement: {batch_size: 8, image_size: 224}
budget: {trials: 12, wall_time_s: 240}
workers: {kind: tune, count: 2}
"""


def problems(text):
    with pytest.raises(StudyFileError) as caught:
        parse_study(textwrap.dedent(text), "s.yaml")
    return caught.value.problems


@pytest.mark.parametrize(
    ("asked", "latency", "certifies"),
    [
        ("", True, True),
        (", certify: false", True, False),
        (", certify: true", True, True),
        ("", False, False),
    ],
)
def test_a_front_with_latencies_is_certified_unless_that_is_left_out(asked, latency, certifies):
    text = GOOD.replace("wall_time_s: 240", "wall_time_s: 240" + asked)
    spec = parse_study(
        text if latency else text.replace("  - {metric: latency, limit: 4 ms}\n", "")
    )
    assert spec.certifies is certifies
    assert type(spec).from_dict(spec.to_dict()) == spec


def test_latencies_that_no_objective_names_cannot_be_certified():
    text = GOOD.replace("wall_time_s: 240", "certify: true").replace(
        "  - {metric: latency, limit: 4 ms}\n", ""
    )
    assert problems(text) == ("budget.certify needs the objective latency",)


def test_a_study_file_becomes_a_study_in_si_units():
    spec = parse_study(GOOD)
    assert spec.objectives == (
        Objective(metric="error", reference=0.9),
        Objective(metric="latency", limit=0.004),
        Objective(metric="parameters", reference=2e6),
    )
    assert spec.objectives[1].reference == 0.004
    assert spec.objectives[0].direction is Direction.MINIMIZE
    assert spec.training.precision is AutoPrecision.BF16
    assert spec.rungs.epochs == (0.5, 2.0)
    assert (spec.budget.trials, spec.workers.count, spec.measurement.image_size) == (12, 2, 224)


def test_a_study_survives_json():
    spec = parse_study(GOOD)
    assert type(spec).from_dict(spec.to_dict()) == spec


def test_every_wrong_key_and_value_is_named_at_once_with_its_path():
    found = problems("""
        name: first
        space: osa_huge
        sampler: magic
        objectives:
          - {metric: error, limt: 3}
          - {metric: latency, limit: 4 J}
          - {metric: speed}
        rungs: {epochs: [2, 1]}
        training: {precision: fp64, batch_size: 3.5}
        data: {validation_images: many}
        budgt: 1
        seed: "1"
    """)
    expected = [
        ("space:", "no 'osa_huge' in nas.spaces; there are: osa_cifar, osa_detection, osa_tiny"),
        (
            "sampler:",
            "no 'magic' in nas.samplers; there are: gp, known-cost, mutate_front, nsga2, nsga3, random, tpe",
        ),
        ("objectives[0].limt:", "unknown key; did you mean limit?"),
        ("objectives[1].limit:", "'4 J' is no quantity in s, ms, us, min"),
        ("objectives[2].metric:", "no 'speed' in nas.metrics"),
        ("rungs:", "epochs must be positive and increasing, not [2.0, 1.0]"),
        ("training.precision:", "'fp32'"),
        ("training.batch_size:", "3.5"),
        ("data.validation_images:", "'many'"),
        ("budgt:", "unknown key; did you mean budget?"),
        ("seed:", "'1'"),
    ]
    for where, what in expected:
        assert any(line.startswith(where) and what in line for line in found), (where, what, found)
    assert len(found) == len(expected), found


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[1, 2]", "must be a mapping"),
        ("name: [", "but found '<stream end>' at line 1, column 8"),
        (
            GOOD.replace("wall_time_s: 240", "wall_time_s: 5 min"),
            "budget.wall_time_s: must be a number, in seconds, not '5 min'",
        ),
        (
            GOOD.replace("[0.5, 2]", "0.05"),
            "rungs.epochs: must be a list, such as [0.05], not 0.05",
        ),
        ("name: a\nname: b", "given twice: name"),
        ("name: a\nspace: osa_tiny\nobjectives: []", "objectives must name at least one metric"),
        (
            "name: a/b\nspace: osa_tiny\nobjectives: [{metric: error}]",
            "name must be printable text without",
        ),
        ("name: ..\nspace: osa_tiny\nobjectives: [{metric: error}]", "name must be more than dots"),
        ("name: .\nspace: osa_tiny\nobjectives: [{metric: error}]", "not '.'"),
        ("space: osa_tiny\nobjectives: [{metric: error}]", "name: missing"),
        (
            "name: a\nspace: osa_tiny\nobjectives: [{metric: error}, {metric: error}]",
            "each metric once",
        ),
        (
            "name: a\nspace: osa_tiny\nobjectives: [{metric: error}]\nscores: [naswot]",
            "scores: this key was removed, because zero-cost proxies gained nothing; delete it",
        ),
        (
            GOOD.replace("image_size: 224", "image_size: 99999999999"),
            "image_size: must be at most 4096, not 99",
        ),
        (
            GOOD.replace("trials: 12", "trials: 99999999999999999999999"),
            "trials: must be at most 2147483647, not 99",
        ),
        (
            GOOD.replace("trials: 12", "trials: 12, proposals: 2147483648"),
            "budget.proposals: must be at most 2147483647",
        ),
        (
            GOOD.replace("kind: tune", "kind: local"),
            "workers.count: local workers are one; for 2 at once",
        ),
    ],
)
def test_a_file_that_is_no_study_is_refused_with_the_reason(text, what):
    assert any(what in line for line in problems(text))


@pytest.mark.parametrize("limit", ["-5", "0"])
@pytest.mark.parametrize("metric", plugins.names("nas.metrics"))
def test_a_limit_that_no_network_can_be_within_is_refused(metric, limit):
    """All that is built in is more than 0, but there may be no error at all; upwards anything can
    be asked for.
    """
    text = f"name: a\nspace: osa_tiny\nobjectives: [{{metric: {metric}, limit: {limit}}}]"
    if metric == "error" and limit == "0":
        assert parse_study(text).objectives[0].limit == 0
    else:
        (line,) = problems(text)
        least = "at least" if metric == "error" else "more than"
        assert line.startswith(f"objectives[0].limit: must be {least} 0, not {limit}, ")
    assert parse_study(text.replace("}]", ", direction: maximize}]")).objectives[0].limit <= 0


@pytest.mark.parametrize(
    "objective", ["{metric: latency, limit: -4 ms}", "{metric: error, limit: -5 %}"]
)
def test_a_limit_with_a_unit_is_refused_likewise(objective):
    (line,) = problems(f"name: a\nspace: osa_tiny\nobjectives: [{objective}]")
    assert line.startswith("objectives[0].limit: must be")


def test_what_a_plugin_measures_may_be_below_0(tmp_path):
    """Nothing is known of it."""
    (tmp_path / "my_margin.py").write_text(
        "from dataclasses import replace\nfrom nas.measuring.metrics.counted import MACS\n"
        "MARGIN = replace(MACS, name='my_margin:MARGIN')\n"
    )
    (tmp_path / "study.yaml").write_text(
        "name: own\nspace: osa_tiny\nobjectives: [{metric: 'my_margin:MARGIN', limit: -5}]\n"
    )
    assert read_study(tmp_path / "study.yaml").objectives[0].limit == -5


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StudyFileError, match=r"nowhere\.yaml: cannot be read"):
        read_study(tmp_path / "nowhere.yaml")


def test_a_file_cannot_call_python(tmp_path):
    """YAML's tags for Python objects are refused, and nothing is run."""
    with pytest.raises(StudyFileError, match="could not determine a constructor"):
        parse_study(
            f"name: x\nspace: !!python/object/apply:os.mkdir ['{tmp_path}/made']\nobjectives: []"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_study_folder_carries_its_own_space(tmp_path):
    (tmp_path / "my_own_space.py").write_text(
        "from dataclasses import replace\nfrom search_spaces import osa_tiny\n"
        "SPACE = replace(osa_tiny.SPACE, residual=(False,))\n"
    )
    (tmp_path / "study.yaml").write_text(
        "name: own\nspace: my_own_space:SPACE\nobjectives: [{metric: error}]\n"
    )
    assert read_study(tmp_path / "study.yaml").space == "my_own_space:SPACE"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "space: wrong_kinds:FIVE",
            "space: 'wrong_kinds:FIVE' is of type int and none of nas.spaces: it has no choices",
        ),
        (
            "sampler: wrong_kinds:FIVE",
            "sampler: 'wrong_kinds:FIVE' is of type int and none of nas.samplers, which",
        ),
        ("sampler: wrong_kinds:none", "with (seed): too many positional arguments"),
        (
            "data: {dataset: wrong_kinds:FIVE}",
            "data.dataset: 'wrong_kinds:FIVE' is of type int and none of nas.datasets",
        ),
        (
            "workers: {kind: wrong_kinds:FIVE}",
            "workers.kind: 'wrong_kinds:FIVE' is of type int and none of nas.workers",
        ),
        (
            "objectives: [{metric: wrong_kinds:FIVE, limit: 4 ms}]",
            "metric: 'wrong_kinds:FIVE' is of type int and none of",
        ),
    ],
)
def test_an_object_of_another_kind_is_refused_before_anything_runs(tmp_path, line, problem):
    """And not by whatever it fails at first."""
    (tmp_path / "wrong_kinds.py").write_text("FIVE = 5\ndef none(): pass\n")
    given = {
        "name": "name: wrong",
        "space": "space: osa_tiny",
        "objectives": "objectives: [{metric: error}]",
    }
    given[line.partition(":")[0]] = line
    (tmp_path / "study.yaml").write_text("\n".join(given.values()))
    with pytest.raises(StudyFileError) as caught:
        read_study(tmp_path / "study.yaml")
    [found] = caught.value.problems
    assert problem in found


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("4 ms", "s", 0.004),
        ("4ms", "s", 0.004),
        ("0.3 J", "J", 0.3),
        ("5 %", "1", 0.05),
        ("2.5M", "1", 2.5e6),
        ("95 %", "1", 0.95),
        ("1e-3", "s", None),
        ("64 MiB", "B", 64 * 2**20),
        ("7", "1", 7.0),
    ],
)
def test_quantities_carry_units(text, unit, value):
    if value is None:
        with pytest.raises(ValueError, match="no quantity"):
            parse_quantity(text, unit)
    else:
        assert parse_quantity(text, unit) == value  # to the last bit
