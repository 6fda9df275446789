"""Files with results of elsewhere, and the digest of a recipe that they state."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nas.core.errors import InvalidValueError
from nas.core.study import DataSpec, TrainingSpec, rungs_at
from nas.record import StudyRecord
from nas.record.conditions import recipe_digest
from nas.searching.result_files import read_results
from nas.testing.sample_records import spec


def entries(tmp_path, text):
    path = tmp_path / "results"
    path.write_text(text)
    return [(each.place, dict(each.values)) for each in read_results(path).entries]


ONE = {"params": {"width": 8}, "error": 0.5, "unknown": None}
READ = {"params.width": 8, "error": 0.5}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "width,error\n8, 0.5\n\n16,\n",
            [("line 2", {"width": "8", "error": "0.5"}), ("line 4", {"width": "16"})],
        ),
        (json.dumps([ONE, ONE], indent=2), [("entry 0", READ), ("entry 1", READ)]),
        (f"{json.dumps(ONE)}\n\n{json.dumps(ONE)}\n", [("line 1", READ), ("line 3", READ)]),
        (json.dumps(ONE, indent=2), [("entry 0", READ)]),
        (
            json.dumps({"study": "s", "members": [ONE], "conditions": {"recipe": "ab"}}),
            [("entry 0", {"study": "s", "recipe": "ab", **READ})],
        ),
        (
            json.dumps({"study": "s", "members": [ONE], "conditions": None}),
            [("entry 0", {"study": "s", **READ})],
        ),
    ],
)
def test_each_form_gives_the_same_entries(tmp_path, text, expected):
    """Empty cells and nulls are no values."""
    assert entries(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2,3\n", "results, line 2: more cells than headings"),
        ("a,a\n1,2\n", "results, line 1: a heading is there twice: a, a"),
        ('{"error": 1}\n{"error"}\n', "results, line 2: no JSON object"),
        ('[{"error": 1},\n', "results, line 2: no JSON: "),
        ("[7]", "results, entry 0: must be an object"),
        ('{"params": 3}', "results, entry 0: params must be an object"),
        ('{"members": [], "conditions": 3}', "results, conditions must be an object"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, text, message):
    """Nothing of it is read."""
    with pytest.raises(InvalidValueError) as caught:
        entries(tmp_path, text)
    assert message in str(caught.value)


RECORD = StudyRecord(
    spec=spec(data=DataSpec(dataset="folder", folder="here")),
    dataset="folder",
    classes=10,
    artifacts="",
    numerics={},
    identity={
        "files": {"train/cat": "00"},
        "code": {"sampler": {"a": "00"}, "evaluator search": {}},
    },
    version="1",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    counts={},
)


def changed(**changes):
    return replace(RECORD, spec=replace(RECORD.spec, **changes))


@pytest.mark.parametrize(
    "record",
    [
        changed(seed=7),
        changed(rungs=rungs_at(2)),
        changed(training=TrainingSpec(batch_size=32)),
        changed(data=DataSpec(dataset="folder", folder="here", image_size=64)),
        changed(evaluator_settings={"width": 2}),
        replace(RECORD, dataset="digits"),
        replace(RECORD, classes=9),
        replace(RECORD, identity={**RECORD.identity, "files": {"train/cat": "01"}}),
        replace(RECORD, identity={**RECORD.identity, "code": {"evaluator search": {"f": "1"}}}),
    ],
)
def test_another_recipe_has_another_digest(record):
    """Training, data, resolution, files and code are part of it."""
    assert recipe_digest(record) != recipe_digest(RECORD)


@pytest.mark.parametrize(
    "record",
    [
        changed(sampler="random", name="other"),
        changed(data=DataSpec(dataset="folder", folder="there")),
        replace(RECORD, identity={**RECORD.identity, "code": {"evaluator search": {}}}),
    ],
)
def test_what_no_error_depends_on_is_no_part_of_a_recipe(record):
    """The sampler, and where the same files are."""
    assert recipe_digest(record) == recipe_digest(RECORD)
