"""Search spaces: choices and architectures are two names for the same points."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.architecture import Architecture, Attention, OsaStage, Stem
from nas.core.complexity import count
from nas.core.errors import InvalidValueError
from nas.core.published import PUBLISHED
from nas.core.search_space import Choice, OsaSpace, SearchSpace, enumerate_params
from search_spaces import osa_cifar, osa_detection, osa_tiny

SHIPPED = {
    "osa_cifar": osa_cifar.SPACE,
    "osa_detection": osa_detection.SPACE,
    "osa_tiny": osa_tiny.SPACE,
}


def points(space: OsaSpace) -> st.SearchStrategy[dict[str, int | str | bool]]:
    """Draw values for all choices of a space."""
    return st.fixed_dictionaries(
        {choice.name: st.sampled_from(choice.values) for choice in space.choices}
    )


def every_architecture(space: OsaSpace) -> list[Architecture]:
    """List the architectures of a small space, equal networks included."""
    names = [choice.name for choice in space.choices]
    return [
        space.decode(dict(zip(names, values, strict=True))) for values in enumerate_params(space)
    ]


@pytest.mark.parametrize("name", SHIPPED)
@given(data=st.data())
def test_decode_and_encode_are_inverses(name, data):
    """`encode` returns the values that were decoded, and `decode` the architecture that was
    encoded.
    """
    space = SHIPPED[name]
    params = data.draw(points(space))
    architecture = space.decode(params)
    assert space.encode(architecture) == params
    assert space.decode(space.encode(architecture)) == architecture


@pytest.mark.parametrize("space", SHIPPED.values(), ids=SHIPPED)
def test_shipped_spaces_are_search_spaces(space):
    """They implement the protocol, and their choices have distinct names."""
    assert isinstance(space, SearchSpace)
    names = [choice.name for choice in space.choices]
    assert len(set(names)) == len(names)


def test_the_cardinality_of_the_tiny_space_is_its_number_of_digests():
    """Listed in full, the 192 points are 128 networks."""
    architectures = every_architecture(osa_tiny.SPACE)
    assert len(architectures) == 192
    assert (
        len({architecture.digest for architecture in architectures})
        == osa_tiny.SPACE.cardinality
        == 128
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"num_blocks": (1,)},
        {"num_blocks": (2,)},
        {"num_blocks": (1, 2)},
        {"num_blocks": ((2, 3), (1,), (1, 2))},
        {"attention": (Attention.LAST, Attention.ALL)},
        {"attention": (Attention.NONE,)},
        {"residual": (True,)},
        {"attention": ("none", "all", "last")},
    ],
)
def test_cardinality_is_the_number_of_digests(changes):
    """The closed form equals the count for all combinations of open switches."""
    small = replace(osa_tiny.SPACE, num_layers=(1,), kernel_size=(3,), **changes)
    assert small.cardinality == len(
        {architecture.digest for architecture in every_architecture(small)}
    )


def test_tiny_networks_cost_at_most_five_million_macs():
    """The docstring of the space promises this."""
    assert max(count(net, 32, 10).macs for net in every_architecture(osa_tiny.SPACE)) <= 5e6


def test_the_cifar_space_reaches_from_five_million_macs_to_vovnet27_slim():
    """The cheapest network without separable convolutions takes at most 5 MMACs; 27-slim's stages
    are a point.
    """
    space = osa_cifar.SPACE
    smallest = space.decode({choice.name: choice.values[0] for choice in space.choices})
    assert count(smallest, 32, 10).macs <= 5e6
    slim = PUBLISHED["vovnet27_slim"]
    assert space.encode(replace(slim, stem=Stem.CIFAR, stages=slim.stages[:3]))


def test_one_changed_field_changes_only_its_choices():
    """One tuple of depths is used for all stages."""
    space = replace(osa_cifar.SPACE, num_layers=(2, 3, 4))
    values = {choice.name: choice.values for choice in space.choices}
    assert [values[f"stage{stage}.num_layers"] for stage in (2, 3, 4)] == [(2, 3, 4)] * 3
    assert {n: v for n, v in values.items() if "num_layers" not in n} == {
        choice.name: choice.values
        for choice in osa_cifar.SPACE.choices
        if "num_layers" not in choice.name
    }


def test_a_fixed_field_is_no_choice():
    """A field with one value needs no value of a choice."""
    space = replace(osa_tiny.SPACE, depthwise=(True,))
    assert "depthwise" not in {choice.name for choice in space.choices}
    assert all(architecture.depthwise for architecture in every_architecture(space))


def test_numbers_are_ordered_and_switches_are_not():
    """Widths have neighbours, categories and booleans have none."""
    ordered = {choice.name: choice.ordered for choice in osa_detection.SPACE.choices}
    assert ordered["stage2.mid_channels"]
    assert not ordered["attention"]
    assert not ordered["residual"]


TINY = {choice.name: choice.values[0] for choice in osa_tiny.SPACE.choices}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage9.depth": 3}, "no choice named stage9.depth in this space"),
        ({"stem": "cifar"}, "no choice named stem in this space"),
        ({"attention": "eca"}, "attention must be one of none, last, all, not 'eca'"),
        ({"stage3.mid_channels": 9}, "stage3.mid_channels must be one of 8, 12, not 9"),
    ],
)
def test_wrong_values_are_refused(change, message):
    """The message names the choice and its values."""
    with pytest.raises(InvalidValueError, match=message):
        osa_tiny.SPACE.decode({**TINY, **change})


def test_a_missing_value_is_refused():
    """No choice gets a default in silence."""
    with pytest.raises(InvalidValueError, match="no value for choice attention"):
        osa_tiny.SPACE.decode({name: value for name, value in TINY.items() if name != "attention"})


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (PUBLISHED["vovnet27_slim"], "number of stages is not of this space"),
        (
            replace(osa_tiny.SPACE.decode(TINY), stem_channels=(4, 8, 8)),
            "stem or number of stages is not of this space",
        ),
        (
            replace(osa_tiny.SPACE.decode(TINY), stem=Stem.PAPER),
            "stem=paper is not in this space; it has cifar",
        ),
        (
            replace(
                osa_tiny.SPACE.decode(TINY),
                stages=(OsaStage(mid_channels=8, out_channels=99, num_layers=2),) * 3,
            ),
            "stage2.out_channels=99 is not in this space; it has 16",
        ),
    ],
)
def test_an_architecture_outside_the_space_is_refused(architecture, message):
    """The message names the first coordinate that does not fit."""
    with pytest.raises(InvalidValueError, match=message):
        osa_tiny.SPACE.encode(architecture)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mid_channels": (8, 16, 24)}, "mid_channels must be one tuple of widths for each stage"),
        (
            {"out_channels": ((16,), (32,))},
            "out_channels gives values for 2 stages, mid_channels for 3",
        ),
        ({"num_layers": ()}, "stage2.num_layers needs at least one value"),
        ({"num_layers": (3, 2)}, "stage2.num_layers: numbers must be in increasing order"),
        ({"residual": (True, True)}, "residual: values must be distinct"),
        ({"kernel_size": (3, 4)}, "kernel_size must be 3 or 5, not 4"),
        (
            {"stem_out": (8, 10_000)},
            "stem_channels must be a whole number from 1 to 8192, not 10000",
        ),
        ({"attention": ("none", "eca")}, "attention must be one of none, last, all, not 'eca'"),
    ],
)
def test_a_space_with_a_wrong_value_is_refused_when_built(changes, message):
    """Every value of every field is checked, not only those that are drawn."""
    with pytest.raises(InvalidValueError, match=message):
        replace(osa_tiny.SPACE, **changes)


def test_a_choice_needs_distinct_values():
    """A choice without values cannot be made."""
    with pytest.raises(
        InvalidValueError, match="choice width: values must be distinct and at least one"
    ):
        Choice(name="width", values=())
