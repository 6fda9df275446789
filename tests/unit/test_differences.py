"""Where two study files differ is said by path."""

from nas.record.differences import differences


def test_equal_values_do_not_differ():
    """Whatever is nested in them."""
    value = {"a": [1, {"b": None}], "c": 0.1}
    assert list(differences(value, {"a": [1, {"b": None}], "c": 0.1})) == []


def test_leaves_are_named_by_path():
    """Keys of mappings and positions in lists, joined by dots."""
    left = {"objectives": [{"limit": 1}, {"limit": 2}], "seed": 0}
    right = {"objectives": [{"limit": 1}, {"limit": 3}], "seed": 0}
    assert list(differences(left, right)) == [("objectives.1.limit", 2, 3)]


def test_a_number_written_in_two_ways_is_the_same():
    """95 x 0.01 and 0.95 are; a millionth apart are not."""
    assert list(differences({"limit": 95 * 0.01}, {"limit": 0.95})) == []
    assert list(differences({"limit": 0.95}, {"limit": 0.950001})) == [("limit", 0.95, 0.950001)]


def test_what_is_on_one_side_only_is_there_against_nothing():
    """Both ways, also at the end of a list."""
    assert list(differences({"a": 1, "l": [1]}, {"b": 2, "l": [1, 2]})) == [
        ("a", 1, "nothing"),
        ("l.1", "nothing", 2),
        ("b", "nothing", 2),
    ]


def test_a_whole_that_became_a_part_is_one_difference():
    """And is not taken apart."""
    assert list(differences({"a": {"b": 1}}, {"a": 5})) == [("a", {"b": 1}, 5)]
