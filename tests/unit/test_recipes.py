"""Recipes of final training: the digests of older records, presets, and recipe files."""

import re

import pytest

from nas.core.errors import InvalidValueError, StudyFileError
from nas.core.large import LargeSpec
from nas.core.presets import PRESETS
from nas.core.recipe import Recipe
from nas.core.study import TrainingSpec
from nas.searching.study_file import read_recipe

LARGE = Recipe(large=LargeSpec(data="/images"))


def read(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return read_recipe(path)


def test_recipes_of_older_records_keep_their_digest():
    """The values were computed before recipes had optional keys."""
    assert set(Recipe().to_dict()) == {
        *("epochs", "training", "average", "teacher", "distillation", "temperature")
    }
    assert Recipe().digest == "bd68c2b50b72f2587ba82915ed4d3728fed2f962ddb57f9e8f0f2b949b215e59"
    taught = Recipe(epochs=90, training=TrainingSpec(batch_size=128), average=0.0, teacher=3)
    assert taught.digest == "f346c89caecdaffef82222af922cc2e84518fb79d07d478a7f878341918d1c90"


@pytest.mark.parametrize("recipe", [LARGE, *PRESETS.values(), Recipe(start="0" * 64)])
def test_a_recipe_is_what_its_values_make(recipe):
    """Also with the optional keys, each of which changes the digest."""
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.digest != Recipe().digest


def test_a_file_extends_a_preset(tmp_path):
    """Keys that it leaves out, also within parts, are those of the preset."""
    text = "preset: modern\nepochs: 9\ntraining: {batch_size: 64}\nlarge: {data: /i, mixup: 0.4}\n"
    recipe, modern = read(tmp_path, text), PRESETS["modern"]
    assert (recipe.epochs, recipe.training.batch_size) == (9.0, 64)
    assert recipe.training.weight_decay == modern.training.weight_decay
    assert (recipe.large.data, recipe.large.mixup, recipe.large.loss) == ("/i", 0.4, "bce")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_each_preset_is_what_a_file_that_names_it_gives(tmp_path, name):
    """A file may be no more than this one line."""
    assert read(tmp_path, f"preset: {name}\n") == PRESETS[name]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("preset: best", "preset: must be modern, paper, short, not 'best'"),
        ("start: abc", "start: the weights to start from are given by --from"),
        ("large: {dat: /images}", "large.dat: unknown key; did you mean data?"),
        ("large: {data: hfids/x}", "a stream cannot resume where it stopped"),
        ("large: {optimizer: best}", "optimizer must be adamw, lamb, momentum, sgd, not 'best'"),
        ("large: {schedule: best}", "schedule must be cosine, one_cycle, step, not 'best'"),
        ("large: {loss: mean}", "loss must be bce, cross_entropy, not 'mean'"),
        ("large: {image_size: 4}", "image_size must be from 8 to 1024, not 4"),
        ("large: {std: [1, 1, 0]}", "std must be positive"),
        ("large: {test_crop: 0}", "test_crop must be from 0.01 to 1, not 0"),
        ("large: {mixup: -1}", "mixup must be from 0 to 100, not -1"),
        (
            "large: {mixup: 1}\ntraining: {batch_size: 63}",
            "even number of images in a micro-batch, not 63",
        ),
        (
            "large: {mixup: 1, micro_batches: 2}\ntraining: {batch_size: 6}",
            "even number of images in a micro-batch, not 3",
        ),
        (
            "large: {micro_batches: 3}\ntraining: {batch_size: 64}",
            "must be a multiple of large.micro_batches, which is 3, not 64",
        ),
        ("large: {}\nteacher: 3", "a recipe with `large` takes large.teacher"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path, text, problem):
    """One line, with the file."""
    with pytest.raises(StudyFileError, match=re.escape(problem)) as caught:
        read(tmp_path, text)
    assert len(caught.value.problems) == 1


def test_values_from_python_are_checked_too():
    """Numbers are floats, so that 1 and 1.0 have one digest."""
    assert LargeSpec(mean=(0, 0, 0)) == LargeSpec(mean=[0.0, 0.0, 0.0])
    with pytest.raises(InvalidValueError, match="mean must be a finite number"):
        LargeSpec(mean=(0.0, float("nan"), 0.0))
    with pytest.raises(InvalidValueError, match="std must be three numbers"):
        LargeSpec(std=(1.0,))
