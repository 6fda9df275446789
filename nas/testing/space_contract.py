"""Tests that every space of the group `nas.spaces` must pass.

Derive a test class, define `make`, and let pytest collect it.
"""

import json
import math
import random
from abc import ABC, abstractmethod

import pytest

from nas.core.architecture import Architecture, OsaStage
from nas.core.complexity import count
from nas.core.errors import InvalidValueError
from nas.core.search_space import Choice, SearchSpace, Value, enumerate_params

SAMPLE_SIZE = 64
"""Random points of the space that each test tries, beside the smallest and the largest values."""
MAX_LISTED = 4096
"""Spaces of up to this many combinations of values are listed in full."""
NUM_CLASSES = 10
"""Outputs of the networks that are counted."""


class SpaceContract(ABC):
    """Tests of one search space.

    `image_size` is the side in pixels of the images for which its networks are counted.
    """

    image_size = 32

    @abstractmethod
    def make(self) -> SearchSpace:
        """Return the space."""

    def sample(self) -> list[dict[str, Value]]:
        """Return params of the smallest and the largest values, and random ones, the same each
        time.
        """
        choices, rng = self.make().choices, random.Random(0)
        corners = [{choice.name: choice.values[end] for choice in choices} for end in (0, -1)]
        drawn = [
            {choice.name: rng.choice(choice.values) for choice in choices}
            for _ in range(SAMPLE_SIZE)
        ]
        return corners + drawn

    def test_it_is_a_search_space(self) -> None:
        """It has the attributes of the protocol, and choices with names of their own."""
        space = self.make()
        assert isinstance(space, SearchSpace)
        assert space.choices
        assert all(isinstance(choice, Choice) for choice in space.choices)
        names = [choice.name for choice in space.choices]
        assert all(isinstance(name, str) and name for name in names)
        assert len(set(names)) == len(names)

    def test_the_choices_are_the_same_each_time(self) -> None:
        """Names and values come in one order, since a resumed study reads them again."""
        assert list(self.make().choices) == list(self.make().choices)

    def test_values_can_be_recorded(self) -> None:
        """Values are plain numbers, texts or booleans, so that they can be hashed, and JSON returns
        them unchanged.
        """
        for choice in self.make().choices:
            for value in choice.values:
                assert type(value) in {int, float, str, bool}, f"{choice.name}: {value!r}"
                restored = json.loads(json.dumps(value))
                assert (type(restored), restored) == (type(value), value)

    def test_decoding_is_deterministic(self) -> None:
        """The same params give the same architecture, also from a second object."""
        one, other = self.make(), self.make()
        for params in self.sample():
            assert one.decode(params) == one.decode(params) == other.decode(params)

    def test_decode_and_encode_are_inverses(self) -> None:
        """`encode` returns a value of every choice, and `decode` makes the same architecture of
        them.

        Two points may be one architecture. Then `encode` returns either of them.
        """
        space = self.make()
        for params in self.sample():
            architecture = space.decode(params)
            assert isinstance(architecture, Architecture)
            encoded = space.encode(architecture)
            assert set(encoded) == {choice.name for choice in space.choices}
            assert all(encoded[choice.name] in choice.values for choice in space.choices)
            assert space.decode(encoded) == architecture

    def test_an_architecture_of_another_space_is_refused(self) -> None:
        """`encode` raises `InvalidValueError`, so that no point stands for a foreign network."""
        stage = OsaStage(mid_channels=1, out_channels=1, num_layers=1)
        foreign = Architecture(stem_channels=(1, 2, 3), stages=(stage,) * 3)
        with pytest.raises(InvalidValueError):
            self.make().encode(foreign)

    def test_every_value_changes_some_network(self) -> None:
        """Each value of a choice gives a network that another value does not give, for some values
        of the other choices.
        """
        space, sample = self.make(), self.sample()
        for choice in space.choices:
            first, *others = choice.values
            for value in others:
                assert any(
                    space.decode({**params, choice.name: first}).digest
                    != space.decode({**params, choice.name: value}).digest
                    for params in sample
                ), f"{choice.name}: {first!r} and {value!r} give the same networks"

    def test_distinct_networks_have_distinct_digests(self) -> None:
        """In the sample there are as many digests as networks."""
        space = self.make()
        networks = {space.decode(params).canonical for params in self.sample()}
        assert len({network.digest for network in networks}) == len(networks)

    def test_the_cardinality_is_the_number_of_networks(self) -> None:
        """A small space is listed and its digests are counted.

        The cardinality of a large one lies between the networks of the sample and the combinations
        of values.
        """
        space = self.make()
        combinations = math.prod(len(choice.values) for choice in space.choices)
        if combinations <= MAX_LISTED:
            names = [choice.name for choice in space.choices]
            points = [dict(zip(names, values, strict=True)) for values in enumerate_params(space)]
            assert space.cardinality == len({space.decode(point).digest for point in points})
        else:
            networks = {space.decode(params).digest for params in self.sample()}
            assert len(networks) <= space.cardinality <= combinations

    def test_every_network_can_be_counted(self) -> None:
        """No network is too deep for images of `image_size` pixels."""
        space = self.make()
        for params in self.sample():
            counts = count(space.decode(params), self.image_size, NUM_CLASSES)
            assert min(counts.parameters, counts.macs, counts.memory_access_cost) > 0
