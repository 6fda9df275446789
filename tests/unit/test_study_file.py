"""Study files: right ones are read, and all mistakes of wrong ones are named at once."""

import textwrap
import time

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core import plugins
from nas.core.errors import InvalidValueError, StudyFileError
from nas.core.recipe import Recipe
from nas.core.study import (
    AutoPrecision,
    AutoSize,
    Direction,
    Objective,
    RungSpec,
    StoppingSpec,
    StudySpec,
    rungs_at,
)
from nas.core.units import parse_quantity
from nas.searching.study_file import parse_study, read_recipe, read_study

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
HEAD = GOOD.replace("rungs: {epochs: [0.5, 2]}\n", "")
"""The same without rungs."""


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
def test_a_front_with_latencies_is_certified_unless_the_study_says_no(asked, latency, certifies):
    text = GOOD.replace("wall_time_s: 240", "wall_time_s: 240" + asked)
    spec = parse_study(
        text if latency else text.replace("  - {metric: latency, limit: 4 ms}\n", "")
    )
    assert spec.certifies is certifies
    assert type(spec).from_dict(spec.to_dict()) == spec


def test_certify_needs_the_objective_latency():
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
    assert spec.rungs == rungs_at(0.5, 2.0)
    assert (spec.budget.trials, spec.workers.count, spec.measurement.image_size) == (12, 2, 224)


@pytest.mark.parametrize(
    ("line", "runtime"),
    [
        ("", "auto"),
        ("measurement: {batch_size: 8}", "auto"),
        ("measurement: {runtime: eager}", "eager"),
    ],
)
def test_a_study_without_a_runtime_takes_the_deployed_one(line, runtime):
    """It is found when the study begins, on the device that measures."""
    assert parse_study(SMALL + line).measurement.runtime == runtime


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
            "there are: gp, known-cost, mutate_front, nsga2, nsga3, random, tpe",
        ),
        ("objectives[0].limt:", "unknown key; did you mean limit?"),
        ("objectives[1].limit:", "'4 J' is no quantity in s, ms, us, min"),
        ("objectives[2].metric:", "no 'speed' in nas.metrics"),
        ("rungs", "must be increasing, not 2, 1"),
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
def test_a_wrong_study_file_is_refused_with_the_reason(text, what):
    assert any(what in line for line in problems(text))


@pytest.mark.parametrize("limit", ["-5", "0"])
@pytest.mark.parametrize("metric", [*plugins.names("nas.metrics"), "error", "top5_error"])
def test_a_limit_that_no_network_can_satisfy_is_refused(metric, limit):
    """Measured metrics are more than 0, errors at least 0. A maximized metric may have any limit
    up to its upper bound.
    """
    text = f"name: a\nspace: osa_tiny\nobjectives: [{{metric: {metric}, limit: {limit}}}]"
    trained = metric in ("error", "top5_error")
    if trained and limit == "0":
        assert parse_study(text).objectives[0].limit == 0
    else:
        (line,) = problems(text)
        least = "at least" if trained else "more than"
        assert line.startswith(f"objectives[0].limit: must be {least} 0, not {limit}, ")
    assert parse_study(text.replace("}]", ", direction: maximize}]")).objectives[0].limit <= 0


@pytest.mark.parametrize(
    "objective", ["{metric: latency, limit: -4 ms}", "{metric: error, limit: -5 %}"]
)
def test_a_wrong_limit_with_a_unit_is_refused(objective):
    (line,) = problems(f"name: a\nspace: osa_tiny\nobjectives: [{objective}]")
    assert line.startswith("objectives[0].limit: must be")


def test_a_metric_of_a_plugin_may_be_negative(tmp_path):
    """Its range is not known."""
    (tmp_path / "my_margin.py").write_text(
        "from dataclasses import replace\nfrom nas.measuring.metrics.counted import MACS\n"
        "MARGIN = replace(MACS, name='my_margin:MARGIN')\n"
    )
    (tmp_path / "study.yaml").write_text(
        "name: own\nspace: osa_tiny\nobjectives: [{metric: 'my_margin:MARGIN', limit: -5}]\n"
    )
    assert read_study(tmp_path / "study.yaml").objectives[0].limit == -5


SMALL = "name: a\nspace: osa_tiny\nobjectives: [{metric: parameters}]\n"
MERGED = """
x-common: &c {precision: fp32, channels_last: false}
name: merge
space: osa_tiny
objectives: [{metric: error, reference: 100 %}]
training:
  <<: *c
  batch_size: 32
"""
RECURSIVE = SMALL + "data2: &d {x: *d}\n"
NINE_TO_THE_NINTH = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
"""306 bytes that stand for 435 million values."""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 5e-4),
        ("1E-2", 0.01),
        ("+2.5e-3", 2.5e-3),
        (".5", 0.5),
        ("1.", 1.0),
        ("0.4", 0.4),
        ("1_0.5", 10.5),
    ],
)
def test_numbers_are_those_of_yaml_1_2(text, value):
    """An exponent needs neither a point nor a sign."""
    spec = parse_study(SMALL + f"training: {{weight_decay: {text}, learning_rate: {text}}}")
    assert (spec.training.weight_decay, spec.training.learning_rate) == (value, value)


@pytest.mark.parametrize(
    ("text", "value"), [("010", 10), ("0o10", 8), ("0x1F", 31), ("1_000", 1000), ("7", 7)]
)
def test_whole_numbers_are_those_of_yaml_1_2(text, value):
    """A leading zero does not make a number octal."""
    assert parse_study(SMALL + f"seed: {text}").seed == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed: 1:30", "seed: Input should be a valid integer, not '1:30'"),
        ("training: {learning_rate: 1e999}", "'1e999' is no float, at line 4, column 27"),
        ("training: {learning_rate: .inf}", "should be a valid number, not '.inf'"),
        ("rungs: {epochs: [.nan]}", "rungs.epochs[0]: must be a number, not '.nan'"),
        ("rungs: [{epochs: .nan}]", "should be a valid number, not '.nan'"),
        (f"seed: {'9' * 5000}", "a number must have at most 100 digits, at line 4, column 7"),
        ("seed: !!int abc", "'abc' is no int, at line 4, column 7"),
        ("seed: !!bool maybe", "'maybe' is no bool"),
        ("seed: !!timestamp 2024-13-45", "could not determine a constructor for the tag"),
        ("data: !!set {a}", "could not determine a constructor for the tag"),
        ("? [a, b]\n: 1", "a key must be text, not a list or a mapping, at line 4, column 3"),
        ("2024-01-01: 1", "2024-01-01: unknown key; there are: name"),
        ('data: {folder: "a\\0b"}', "must have no control characters, not 'a\\x00b', at line 4"),
        ('data: {folder: "\\ud800"}', "must have no control characters"),
        ("data: {folder: mine}", "data.folder: cifar10 does not read it; say dataset: folder too"),
        ("data: {folder: mine, fallback: digits}", "data.folder: cifar10 does not read it"),
        ('data: {folder: "\\UFFFFFFFF"}', "is no YAML"),
        ("training: {<<: 5}", "<< must stand before a mapping or a list of mappings, at line 4"),
        ("training: {<<: {}, <<: {}}", "given twice: <<"),
        (f"x-a: {'[' * 60}{']' * 60}", "must be nested at most 50 deep"),
        (f"x-a: {'[' * 900}{']' * 900}", "must be nested at most 50 deep"),
        (f"x-a: {'a' * 100_000}", "must have at most 100000 characters, not 100"),
    ],
)
def test_other_yaml_is_refused_with_its_place(text, problem):
    """Nothing that YAML allows ends in a traceback."""
    assert [line for line in problems(SMALL + text) if problem in line]


def test_merge_keys_are_read():
    """The mapping's own keys come first, then the merged ones."""
    training = parse_study(MERGED).training
    assert training.precision is AutoPrecision.FP32
    assert (training.channels_last, training.batch_size) == (False, 32)


def test_the_first_of_several_merged_mappings_gives_the_value():
    """PyYAML and the description of the merge key agree on this."""
    text = "training: {<<: [{batch_size: 1, cutout: 2}, {batch_size: 3, translate: 4}], cutout: 5}"
    training = parse_study(SMALL + text).training
    assert (training.batch_size, training.translate, training.cutout) == (1, 4, 5)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (RECURSIVE, "s.yaml: an alias is inside of the value that it stands for, at line 4"),
        (SMALL + "x-a: &a [*a]", "an alias is inside of the value"),
        (SMALL + "x-a: &a {<<: *a}", "an alias is inside of the value"),
        (NINE_TO_THE_NINTH, "s.yaml: the aliases stand for more than 10000 values, at line 1"),
        (
            NINE_TO_THE_NINTH.replace("[", "{<<: [").replace("]", "]}").replace("x", "{}"),
            "the aliases stand for more than 10000 values",
        ),
    ],
    ids=["recur", "list", "merge", "laugh", "merges"],
)
def test_endless_aliases_are_refused_at_once(tmp_path, text, problem):
    """The command ends with one line and code 2. 435 million values would take minutes."""
    (tmp_path / "s.yaml").write_text(text)
    started = time.perf_counter()
    result = CliRunner().invoke(main, ["search", str(tmp_path / "s.yaml")])
    assert time.perf_counter() - started < 10
    assert result.exit_code == 2
    assert problem in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("--help", "name must not begin with a dash"),
        ('"-"', "name must not begin with a dash"),
        ("a/b", "name must be printable text without '/' and ':'"),
        ("a:b", "name must be printable text without '/' and ':'"),
        ('"a\\\\b"', "name must have no backslash"),
        ('"a\\nb"', "name must be printable text"),
        ('"a\\x1b[31m"', "must have no control characters"),
        ('"a\\u202eb"', "name must be printable text"),
        ('" a"', "name must have no backslash and no spaces at its ends"),
        ('""', "name must be printable text"),
        ("é" * 101, "name must have at most 200 bytes, not 202"),
        ("5e3", "name: Input should be a valid string, not 5000.0"),
    ],
)
def test_a_name_that_commands_or_folders_cannot_take_is_refused(tmp_path, name, problem):
    """The command ends with one line and code 2, and nothing is written."""
    (tmp_path / "s.yaml").write_text(SMALL.replace("name: a", f"name: {name}"))
    database = tmp_path / "new.db"
    result = CliRunner().invoke(
        main, ["search", str(tmp_path / "s.yaml"), "--database", str(database)]
    )
    assert result.exit_code == 2
    assert problem in result.stderr
    assert result.stderr.count("\n") == 1
    assert not database.exists()


def test_a_very_large_file_is_refused_at_once(tmp_path):
    """A data file given by mistake is not read to its end."""
    (tmp_path / "s.yaml").write_text("x" * 10_000_000)
    with pytest.raises(StudyFileError, match="must have at most 100000 characters"):
        read_study(tmp_path / "s.yaml")


@pytest.mark.parametrize("text", ["", "# nothing", "x-a: 1"])
def test_an_empty_recipe_has_its_defaults(tmp_path, text):
    """Nothing has to be in it."""
    (tmp_path / "r.yaml").write_text(text)
    assert read_recipe(tmp_path / "r.yaml") == Recipe()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "training: {weight_decay: 5x}",
            "training.weight_decay: Input should be a valid number, not '5x'",
        ),
        (NINE_TO_THE_NINTH, "the aliases stand for more than 10000 values"),
        ("[1]", "must be a mapping of keys to values"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path, text, problem):
    """Recipes are read by the same rules."""
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(StudyFileError) as caught:
        read_recipe(tmp_path / "r.yaml")
    assert problem in str(caught.value)


def test_a_recipe_takes_numbers_of_yaml_1_2(tmp_path):
    """Recipes have the same numbers as study files."""
    (tmp_path / "r.yaml").write_text("training: {weight_decay: 5e-4}\n")
    assert read_recipe(tmp_path / "r.yaml").training.weight_decay == 5e-4


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StudyFileError, match=r"nowhere\.yaml: cannot be read"):
        read_study(tmp_path / "nowhere.yaml")


def test_a_file_cannot_call_python(tmp_path):
    """YAML's tags for Python objects are refused, and no code is run."""
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
            "'wrong_kinds:FIVE' is of type int and no plugin of nas.spaces: it has no choices",
        ),
        (
            "sampler: wrong_kinds:FIVE",
            "sampler: 'wrong_kinds:FIVE' is of type int and no plugin of nas.samplers, which",
        ),
        ("sampler: wrong_kinds:none", "with (seed): too many positional arguments"),
        (
            "data: {dataset: wrong_kinds:FIVE}",
            "data.dataset: 'wrong_kinds:FIVE' is of type int and no plugin of nas.datasets",
        ),
        (
            "measurement: {runtime: wrong_kinds:FIVE}",
            "measurement.runtime: 'wrong_kinds:FIVE' is of type int and no plugin of nas.runtimes",
        ),
        (
            "workers: {kind: wrong_kinds:FIVE}",
            "workers.kind: 'wrong_kinds:FIVE' is of type int and no plugin of nas.workers",
        ),
        (
            "objectives: [{metric: wrong_kinds:FIVE, limit: 4 ms}]",
            "metric: 'wrong_kinds:FIVE' is of type int and no plugin of",
        ),
    ],
)
def test_an_object_of_another_kind_is_refused_before_anything_runs(tmp_path, line, problem):
    """The error names the kind, and is not that of its first use."""
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


def test_rungs_are_a_list():
    """Each rung has its unit and its resolution."""
    spec = parse_study(
        HEAD
        + "rungs: [{images: 3000, image_size: 16}, {images: 6000}]\nstopping: {futility: true}\n"
    )
    assert spec.rungs == (RungSpec(images=3000, image_size=16), RungSpec(images=6000))
    assert spec.stopping == StoppingSpec(futility=True)


def test_the_older_form_of_rungs_reads_as_equal():
    """One mapping with a list of epochs and the stopping rule."""
    old = parse_study(HEAD + "rungs: {epochs: [1, 3], futility: true}\n")
    new = parse_study(HEAD + "rungs: [{epochs: 1}, {epochs: 3}]\nstopping: {futility: true}\n")
    assert old == new
    assert parse_study(HEAD + "rungs: {}\n") == parse_study(HEAD)


def test_a_study_without_rungs_reduces_its_images():
    """`auto` stands until the study begins, and then in no rung any more."""
    (rung,) = parse_study(HEAD).rungs
    assert rung == RungSpec(epochs=1, image_size=AutoSize.AUTO)
    with pytest.raises(InvalidValueError, match="auto"):
        rung.side(32)
    assert rung.with_side(20).side(32) == 20
    assert RungSpec(epochs=1, image_size=24).with_side(20).side(16) == 16


@pytest.mark.parametrize(
    ("rungs", "line"),
    [
        ("[{epochs: 1, steps: 3}]", "rungs[0]: a rung needs one of epochs, steps, images, not"),
        ("[{image_size: 16}]", "rungs[0]: a rung needs one of epochs, steps, images, not none"),
        ("[{epochs: 2}, {epochs: 1}]", "rungs must be increasing, not 2, 1"),
        ("[{epochs: 2}, {steps: 100}]", "rungs must be counted in one unit"),
        ("[{images: 0}]", "rungs[0]: images must be positive, not 0.0"),
        ("[{epochs: 1, image_size: 2}]", "rungs[0]: image_size must be from 4 to 1024 pixels"),
        (
            "[{epochs: 1, image_size: half}]",
            "rungs[0].image_size: must be a whole number of pixels or",
        ),
        ("[{epoch: 1}]", "rungs[0].epoch: unknown key; did you mean epochs?"),
        ("{epochs: 0.05}", "rungs.epochs: must be a list, such as [0.05], not 0.05"),
        ("{epochs: [1], futilty: true}", "rungs.futilty: unknown key; did you mean futility?"),
        ("{epochs: [one]}", "rungs.epochs[0]: must be a number, not 'one'"),
    ],
)
def test_a_wrong_rung_is_named(rungs, line):
    assert any(each.startswith(line) for each in problems(HEAD + f"rungs: {rungs}\n"))


@pytest.mark.parametrize(
    ("rung", "epochs"),
    [
        (RungSpec(epochs=0.5), 0.5),
        (RungSpec(steps=30), 30 / 15),
        (RungSpec(images=640), 10 / 15),
        (RungSpec(images=1), 1 / 15),
    ],
)
def test_rungs_count_whole_batches(rung, epochs):
    """An epoch of 1,000 images has 15 whole batches of 64."""
    assert rung.epochs_of(1000, 64) == epochs


def test_metrics_that_training_gives_are_objectives():
    """The evaluator declares them, the study holds them, and a file cannot name its own."""
    text = (
        "name: a\nspace: osa_tiny\nobjectives: [{metric: top5_error, limit: 20 %}, {metric: macs}]"
    )
    spec = parse_study(text)
    assert [objective.metric for objective in spec.trained_objectives] == ["top5_error"]
    assert [objective.metric for objective in spec.measured_objectives] == ["macs"]
    assert list(spec.trained_metrics) == ["error", "top5_error"]
    assert StudySpec.from_dict(spec.to_dict()) == spec
    assert "trained" not in spec.identity()
    assert problems(f"{text}\ntrained: []")[0].startswith("trained: unknown key")
    (line,) = problems(text.replace("top5_error, limit: 20 %", "top1"))
    assert line.startswith("objectives[0].metric: no 'top1' in nas.metrics; there are: energy, ")
    assert line.endswith("; training gives error, top5_error")


def test_studies_of_older_records_train_for_the_error():
    spec = parse_study("name: a\nspace: osa_tiny\nobjectives: [{metric: error}]")
    older = {key: value for key, value in spec.to_dict().items() if key != "trained"}
    assert list(StudySpec.from_dict(older).trained_metrics) == ["error"]


def test_baselines_are_networks_that_can_be_trained():
    """Others are refused in one line each, and they are no part of a study's identity."""
    listed = "baselines: [vovnet39, 'timm:hgnetv2_b0', net.json, 'first:3', vovnet39x, 'my:net']"
    assert list(problems(f"{GOOD}\n{listed}")) == [
        "baselines[4]: 'vovnet39x' is no network that can be trained here; did you mean vovnet39?",
        (
            "baselines[5]: 'my:net' is no network that can be trained here; name a published "
            "VoVNet, an architecture.json, STUDY:TRIAL, timm:NAME or torchvision:NAME"
        ),
    ]
    assert list(problems(f"{GOOD}\nbaselines: [vovnet39, vovnet39]")) == [
        "baselines must name each network once, not ['vovnet39', 'vovnet39']"
    ]
    study = parse_study(f"{GOOD}\nbaselines: [vovnet39]", "s.yaml")
    assert study.baselines == ("vovnet39",)
    assert study.identity() == parse_study(GOOD, "s.yaml").identity()
