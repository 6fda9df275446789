"""Augmentation, checked against its definition pixel by pixel."""

import pytest
import torch

from nas.training import augment


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 16, height: int = 6, width: int = 9) -> torch.Tensor:
    return torch.randint(256, (count, 3, height, width), dtype=torch.uint8, generator=random(1))


AUGMENTATIONS = {
    "flip": augment.flip,
    "translate": lambda batch, generator: augment.translate(batch, 3, generator),
    "cutout": lambda batch, generator: augment.cutout(batch, 4, generator),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_depends_on_the_generator_only_and_leaves_its_input_unchanged(name):
    batch = images()
    before = batch.clone()
    first = AUGMENTATIONS[name](batch, random())
    assert torch.equal(first, AUGMENTATIONS[name](batch, random()))
    assert not torch.equal(first, AUGMENTATIONS[name](batch, random(5)))
    assert torch.equal(batch, before)
    assert first.shape == batch.shape
    assert first.dtype == batch.dtype


def test_shift_is_padding_by_reflection_and_cropping_each_image_at_its_own_place():
    """The second way: pad every image with torch's reflection, then crop it at its shift."""
    batch, most = images(), 3
    down, right = torch.randint(-most, most + 1, (2, len(batch)), generator=random())
    padded = torch.nn.functional.pad(batch.float(), (most,) * 4, mode="reflect").to(torch.uint8)
    expected = torch.stack(
        [
            image[:, most - dy : most - dy + 6, most - dx : most - dx + 9]
            for image, dy, dx in zip(padded, down.tolist(), right.tolist(), strict=True)
        ]
    )
    assert torch.equal(augment.shift(batch, down, right), expected)


def test_translate_uses_every_shift_equally_often():
    """One bright pixel in the middle shows each image's shift. 25 shifts share 25,000 images to
    within 5 sigma.
    """
    batch = torch.zeros(25_000, 1, 9, 9)
    batch[:, :, 4, 4] = 1
    counts = augment.translate(batch, 2, random()).sum((0, 1))
    assert counts[2:7, 2:7].sum() == 25_000
    assert (counts[2:7, 2:7] - 1000).abs().max() < 5 * 31


def test_flip_mirrors_about_half_of_the_images():
    batch = images(64)
    flipped = augment.flip(batch, random())
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, batch, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(flipped, batch, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 16 < sum(mirrored) < 48


def test_cutout_erases_the_part_of_one_square_that_is_inside():
    erased = augment.cutout(torch.ones(200, 3, 8, 8), 4, random()) == 0
    rows, columns = (
        erased.any(3).sum(2),
        erased.any(2).sum(2),
    )  # (N, C): height and width of what is erased
    assert torch.equal(erased.sum((2, 3)), rows * columns)  # a rectangle
    assert (erased[:, :1] == erased).all()  # the same in every channel
    assert rows.max() == columns.max() == 4
    assert rows.min() >= 2


LAYOUTS = (torch.channels_last, torch.contiguous_format)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_normalised_images_have_mean_0_and_deviation_1_in_the_requested_layout(layout):
    batch = images(32)
    scaled = batch.double() / 255
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3), correction=0)
    normalise = augment.Normalisation(
        tuple(mean.tolist()), tuple(std.tolist()), torch.device("cpu"), memory_format=layout
    )
    normal = normalise(batch)
    assert normal.is_contiguous(memory_format=layout)
    torch.testing.assert_close(
        normal.double(), (scaled - mean[:, None, None]) / std[:, None, None], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_normalised_images_in_half_precision_are_rounded_once(dtype):
    """Each of the 256 grey values is the exact result, rounded to the type at the very end."""
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    normal = augment.Normalisation(mean, std, torch.device("cpu"), dtype)(grey)
    exact_mean, exact_std = (torch.tensor(values).double().view(3, 1, 1) for values in (mean, std))
    exact = (grey.double() / 255 - exact_mean) / exact_std
    assert normal.dtype is dtype
    # 1e-6 is more than the error of the arithmetic in fp32
    below, above = ((exact + error).to(dtype) for error in (-1e-6, 1e-6))
    assert ((below <= normal) & (normal <= above)).all()
