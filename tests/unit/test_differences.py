"""Differences between two study files are named by path."""

from nas.record.differences import differences


def test_equal_values_do_not_differ():
    """Equality includes nested values."""
    value = {"a": [1, {"b": None}], "c": 0.1}
    assert list(differences(value, {"a": [1, {"b": None}], "c": 0.1})) == []


def test_leaves_are_named_by_path():
    """A path joins keys of mappings and positions in lists by dots."""
    left = {"objectives": [{"limit": 1}, {"limit": 2}], "seed": 0}
    right = {"objectives": [{"limit": 1}, {"limit": 3}], "seed": 0}
    assert list(differences(left, right)) == [("objectives.1.limit", 2, 3)]


def test_rounding_is_no_difference():
    """95 x 0.01 equals 0.95, but 0.950001 does not."""
    assert list(differences({"limit": 95 * 0.01}, {"limit": 0.95})) == []
    assert list(differences({"limit": 0.95}, {"limit": 0.950001})) == [("limit", 0.95, 0.950001)]


def test_a_value_on_one_side_only_differs_from_nothing():
    """This holds for both sides, and at the end of a list."""
    assert list(differences({"a": 1, "l": [1]}, {"b": 2, "l": [1, 2]})) == [
        ("a", 1, "nothing"),
        ("l.1", "nothing", 2),
        ("b", "nothing", 2),
    ]


def test_a_mapping_against_a_leaf_is_one_difference():
    """The mapping is not split into its parts."""
    assert list(differences({"a": {"b": 1}}, {"a": 5})) == [("a", {"b": 1}, 5)]
