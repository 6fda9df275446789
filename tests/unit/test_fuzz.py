"""Damaged files of users: each is read, or refused with our error, and nothing is written."""

import json
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.core.architecture_file import read_architecture
from nas.core.errors import NasError
from nas.core.published import PUBLISHED
from nas.measuring.devices import book
from nas.searching.study_file import read_recipe, read_study

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*/study.yaml"))
RECIPE = "epochs: 30\naverage: 0.999\ntraining: {learning_rate: 0.4, cutout: 8, flip: true}\n"
PIECES = (
    *("", " ", "\n", ":", "- ", "{", "}", "[", "]", "<<: *a", "&a ", "*a", "!!python/none ", "|"),
    *("1e999", "-1", "0", "null", "~", "true", "nan", ".inf", "0x10", "1_000", "9" * 400),
    *("\0", "\ud7ff", "\u2028", "ñ", "%", "5e-4", "2026-01-01", "'", '"', "#", "? ", "---\n", "\t"),
)
mutations = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(PIECES)), min_size=1, max_size=4
)


def mutated(text, changes):
    """Replace some characters at a share of the text by each piece."""
    for share, removed, piece in changes:
        place = int(share * len(text))
        text = text[:place] + piece + text[place + removed :]
    return text


def require_read_or_refused(read, path):
    """An error is ours, and nothing is written."""
    before = path.read_bytes()
    with suppress(NasError):
        read(path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


FUZZ = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("study", STUDIES[:3], ids=lambda path: path.parent.name)
@FUZZ
@given(changes=mutations)
def test_a_damaged_study_file_is_read_or_refused(tmp_path, study, changes):
    path = tmp_path / "study.yaml"
    path.write_text(mutated(study.read_text(), changes), encoding="utf-8")
    require_read_or_refused(read_study, path)


@FUZZ
@given(changes=mutations)
def test_a_damaged_recipe_is_read_or_refused(tmp_path, changes):
    path = tmp_path / "recipe.yaml"
    path.write_text(mutated(RECIPE, changes), encoding="utf-8")
    require_read_or_refused(read_recipe, path)


@FUZZ
@given(data=st.binary(max_size=300))
def test_bytes_are_no_study_file(tmp_path, data):
    path = tmp_path / "study.yaml"
    path.write_bytes(data)
    require_read_or_refused(read_study, path)


ODD_VALUES = (
    *(None, True, 0, -1, 2**31, 1e308, float("nan"), float("inf"), "", "x", "../..", "0" * 500),
    *([], {}, [[]], [None], {"a": 1}, [1, 2, 3]),
)
json_changes = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.none() | st.sampled_from(ODD_VALUES)),
    min_size=1,
    max_size=3,
)


def places_of(value):
    """Yield container and key of every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from places_of(inner)


def changed(value, changes):
    """Replace the value at a share of all places by each odd one; None removes the place."""
    value = deepcopy(value)
    for share, odd in changes:
        places = list(places_of(value))
        if places:
            container, key = places[int(share * len(places))]
            if odd is None:
                del container[key]
            else:
                container[key] = deepcopy(odd)
    return json.dumps(value)


@FUZZ
@given(changes=json_changes)
def test_a_damaged_architecture_is_read_or_refused(tmp_path, changes):
    path = tmp_path / "architecture.json"
    path.write_text(changed(PUBLISHED["vovnet27_slim"].to_dict(), changes))
    require_read_or_refused(read_architecture, path)


@FUZZ
@given(changes=json_changes)
def test_a_damaged_device_book_is_read_or_refused(tmp_path, changes):
    path = tmp_path / "devices.json"
    entry = book.Entry(address="http://127.0.0.1:5000", token_file="/none")  # noqa: S106 - a path
    path.write_text(changed({"pi": vars(entry), "box": vars(entry)}, changes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(book.BOOK_VARIABLE, str(path))
        require_read_or_refused(lambda _: book.find_entry("pi").token(), path)
