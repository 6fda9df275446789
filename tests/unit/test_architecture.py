"""Architectures: what makes a network, and which networks are equal."""

import json
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.architecture import Architecture, Attention, OsaStage, PoolPadding, Stem
from nas.core.errors import InvalidValueError
from nas.core.published import PUBLISHED

WIDTHS = st.integers(1, 512)
STAGES = st.builds(
    OsaStage,
    mid_channels=WIDTHS,
    out_channels=WIDTHS,
    num_layers=st.integers(1, 7),
    num_blocks=st.integers(1, 4),
    kernel_size=st.sampled_from([3, 5]),
)
ARCHITECTURES = st.builds(
    Architecture,
    stem_channels=st.tuples(WIDTHS, WIDTHS, WIDTHS),
    stages=st.lists(STAGES, min_size=3, max_size=4),
    stem=st.sampled_from(Stem),
    residual=st.booleans(),
    depthwise=st.booleans(),
    attention=st.sampled_from(Attention),
    pool_padding=st.sampled_from(PoolPadding),
)


def network(*num_blocks: int, **settings: object) -> Architecture:
    """Make a small network with these numbers of blocks."""
    stages = tuple(
        OsaStage(mid_channels=8, out_channels=16, num_layers=2, num_blocks=n) for n in num_blocks
    )
    return Architecture(**{"stem_channels": (8, 8, 16), "stages": stages, **settings})


@given(ARCHITECTURES)
def test_an_architecture_written_as_json_is_read_as_the_same(architecture):
    """The digest is equal too."""
    text = json.dumps(architecture.to_dict())
    again = Architecture.from_dict(json.loads(text))
    assert again == architecture
    assert again.digest == architecture.digest


@given(ARCHITECTURES)
def test_the_canonical_form_of_a_canonical_form_is_itself(architecture):
    """Merging twice merges nothing more, and keeps the digest."""
    canonical = architecture.canonical
    assert canonical.canonical == canonical
    assert canonical.digest == architecture.digest


def test_single_blocks_merge_six_settings_into_two():
    """With one block in every stage the identity does nothing, and the last block is
    every block.
    """
    settings = list(product((False, True), Attention))
    digests = {(r, a): network(1, 1, 1, residual=r, attention=a).digest for r, a in settings}
    assert len(set(digests.values())) == 2
    assert digests[False, Attention.NONE] == digests[True, Attention.NONE]
    assert len({digests[r, a] for r, a in settings if a is not Attention.NONE}) == 1


@pytest.mark.parametrize("num_blocks", [(2, 1, 1), (1, 1, 2), (1, 1, 1, 3)])
def test_a_second_block_in_any_stage_keeps_all_settings_apart(num_blocks):
    """Then identity and the placement of eSE matter."""
    digests = {
        network(*num_blocks, residual=r, attention=a).digest
        for r, a in product((False, True), Attention)
    }
    assert len(digests) == 6


def test_every_other_setting_changes_the_digest():
    """No field that changes the network is missing in the digest."""
    base = network(1, 1, 1)
    stage = base.stages[0]
    others = [
        replace(base, stem_channels=(8, 8, 24)),
        replace(base, stem_channels=(4, 8, 16)),
        replace(base, stem_channels=(8, 4, 16)),
        replace(base, stem=Stem.CIFAR),
        replace(base, stem=Stem.PAPER),
        replace(base, depthwise=True),
        replace(base, pool_padding=PoolPadding.SAME),
        network(1, 1, 1, 1),
    ] + [
        replace(base, stages=(replace(stage, **{name: value}), *base.stages[1:]))
        for name, value in (
            ("mid_channels", 9),
            ("out_channels", 17),
            ("num_layers", 3),
            ("num_blocks", 2),
            ("kernel_size", 5),
        )
    ]
    assert len({architecture.digest for architecture in [base, *others]}) == len(others) + 1


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("vovnet27_slim", "2880cd9c274fd71838168e67362d9d8b4c27f76155b2f273ea05a69a683c8690"),
        (
            "vovnet_v2_19_slim_dw",
            "04743b5742c0aca69f50c9f245350cdb9df16aa15df94b9fb62b4cb8a63d28df",
        ),
        ("vovnet_v2_99_timm", "003c63d0ddabafe20852937d1996260ef26f332cbbf10c45ae1185efd3dad1a5"),
    ],
)
def test_digests_keep_their_golden_values(name, digest):
    """Databases hold these digests: with other values, old records must be migrated."""
    assert PUBLISHED[name].digest == digest


STAGE = {"mid_channels": 8, "out_channels": 16, "num_layers": 2}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mid_channels": 0}, "mid_channels must be a whole number from 1 to 8192, not 0"),
        ({"out_channels": 16.0}, "out_channels must be a whole number from 1 to 8192, not 16.0"),
        ({"num_layers": True}, "num_layers must be a whole number from 1 to 64, not True"),
        ({"num_blocks": 65}, "num_blocks must be a whole number from 1 to 64, not 65"),
        ({"kernel_size": 4}, "kernel_size must be 3 or 5, not 4"),
        ({"kernel_size": 3.0}, "kernel_size must be 3 or 5, not 3.0"),
    ],
)
def test_a_wrong_stage_is_refused(wrong, message):
    """The message names the field, its range and the value."""
    with pytest.raises(InvalidValueError, match=message):
        OsaStage(**{**STAGE, **wrong})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stem_channels": (8, 8)}, "stem_channels must be three widths"),
        (
            {"stem_channels": (8, 8, -1)},
            "stem_channels must be a whole number from 1 to 8192, not -1",
        ),
        ({"stem_channels": 8}, "stem_channels must be a list, not 8"),
        ({"stem": "resnet"}, "stem must be one of cifar, code, paper, not 'resnet'"),
        ({"attention": None}, "attention must be one of none, last, all, not None"),
        ({"pool_padding": "valid"}, "pool_padding must be one of ceil, same, not 'valid'"),
        ({"stages": (OsaStage(**STAGE),) * 2}, "there must be 3 or 4 stages, not 2"),
        ({"stages": (OsaStage(**STAGE),) * 5}, "there must be 3 or 4 stages, not 5"),
        ({"stages": (STAGE,) * 3}, "stages must be OsaStage values"),
        ({"residual": 1}, "residual must be true or false, not 1"),
        ({"depthwise": "yes"}, "depthwise must be true or false, not 'yes'"),
    ],
)
def test_a_wrong_network_is_refused(wrong, message):
    """The message names the field, its allowed values and the value."""
    right = {"stem_channels": (8, 8, 16), "stages": (OsaStage(**STAGE),) * 3}
    with pytest.raises(InvalidValueError, match=message):
        Architecture(**{**right, **wrong})


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"stem_channels": [8, 8, 16]},
        {**network(1, 1, 1).to_dict(), "width": 3},
        None,
        {**network(1, 1, 1).to_dict(), "stages": [1, 2, 3]},
        {**network(1, 1, 1).to_dict(), "stages": [{"mid": 8}] * 3},
    ],
)
def test_json_that_is_no_architecture_is_refused(values):
    """Missing keys, unknown keys and wrong shapes give the same error."""
    with pytest.raises(InvalidValueError, match="not an architecture"):
        Architecture.from_dict(values)


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({"stem": 1}, "stem_channels and stages missing"),
        ({"stages": []}, "stem_channels missing"),
        ({"stem_channels": [8, 8, 16]}, "stages missing"),
    ],
)
def test_the_error_names_all_missing_keys(values, missing):
    with pytest.raises(InvalidValueError, match=f"not an architecture: {missing}$"):
        Architecture.from_dict(values)


def test_strings_are_accepted_for_settings():
    """Settings of a study file are strings and make the same network as the enumerations."""
    assert network(1, 1, 1, stem="paper", attention="all") == network(
        1, 1, 1, stem=Stem.PAPER, attention=Attention.ALL
    )
