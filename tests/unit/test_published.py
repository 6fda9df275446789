"""Published networks have names, and are points of a search space of this repository."""

import pytest

from nas.core.errors import UnknownNameError
from nas.core.published import PUBLISHED, published
from search_spaces import osa_detection


@pytest.mark.parametrize("name", [name for name in PUBLISHED if not name.endswith("_cifar")])
def test_every_published_network_is_a_point_of_the_detection_space(name):
    """Encoding and decoding returns the network. Those with a stem for 32x32 images are not meant
    for detection.
    """
    space = osa_detection.SPACE
    assert space.decode(space.encode(PUBLISHED[name])) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_number_in_the_name_is_the_number_of_layers(name):
    """It counts the convolutions of stem and blocks, aggregations included: 3 + (n + 1) x blocks
    (Lee et al. 2019, table 1).
    """
    depth = 3 + sum((stage.num_layers + 1) * stage.num_blocks for stage in published(name).stages)
    assert str(depth) in name.replace("vovnet", "").split("_")


def test_the_error_for_an_unknown_name_lists_the_names():
    with pytest.raises(
        UnknownNameError,
        match=r"no 'resnet50' in published architectures; there are: vovnet27_slim",
    ):
        published("resnet50")
