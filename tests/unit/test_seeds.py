"""Seeds that records depend on keep the values that older releases computed."""

import pytest

from nas.core.seeds import derived_seed, final_seed, replicate_seed, trial_seed

DIGEST = "2880cd9c274fd71838168e67362d9d8b4c27f76155b2f273ea05a69a683c8690"


@pytest.mark.parametrize(
    ("seed", "golden"),
    [
        (trial_seed(7, DIGEST), 1745351926),
        (trial_seed(0, "ab"), 1818231499),
        (replicate_seed(7, "ab", 1), 1157182555),
        (replicate_seed(7, DIGEST, 3), 127126414),
        (final_seed(0, "a", 1), 1821091409),
        (final_seed(7, "nas.paper:x", 2), 1980537296),
        (derived_seed("proposal", 7, 12), 1344919181),
        (derived_seed("measured", 7, 12), 1580391896),
        (derived_seed("contest", 3, 40), 1825655038),
        (derived_seed("shown", 3, 5), 466106757),
    ],
)
def test_seeds_keep_their_golden_values(seed, golden):
    """Another value means that resumed studies train with other seeds, and must be migrated."""
    assert seed == golden


def test_a_seed_is_the_first_31_bits_of_the_texts_sha256():
    """`printf '7:ab:1' | sha256sum` prints 89f268b6d119ade7..."""
    assert replicate_seed(7, "ab", 1) == 0x89F268B6 >> 1
