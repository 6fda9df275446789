"""Seeds derived with SHA-256, so that they depend on what is trained and not on when or where.

Each seed is the first 31 bits of the digest of a text. Records hold trials, replicates and final
trainings by their seeds, so the texts must never change.
"""

import hashlib


def trial_seed(study_seed: int, digest: str) -> int:
    """Return the seed that trains an architecture, whenever and however it was proposed."""
    return _seed_of(f"{study_seed}:{digest}")


def replicate_seed(study_seed: int, digest: str, count: int) -> int:
    """Return the seed of an architecture's replicate number `count`, counted from 1."""
    return _seed_of(f"{study_seed}:{digest}:{count}")


def final_seed(study_seed: int, network: str, count: int) -> int:
    """Return the seed of a network's final training number `count`, counted from 1.

    `network` is the digest of an architecture or the name of another network.
    """
    return _seed_of(f"{study_seed}:final:{network}:{count}")


def derived_seed(*parts: object) -> int:
    """Return a seed that depends on the `repr` of every part."""
    return _seed_of(repr(parts))


def _seed_of(text: str) -> int:
    """Return the first 31 bits of the text's SHA-256."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
