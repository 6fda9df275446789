"""Results of final trainings and rankings equal figures computed by hand."""

import csv
import io
from dataclasses import replace

import pytest

from nas.analysis.finals import latest_results, on_images_of_the_study, ranking, results
from nas.core.architecture import Architecture, OsaStage
from nas.core.brief import BriefRecipe
from nas.core.errors import InvalidValueError, StudyFileError
from nas.core.large import LargeSpec
from nas.core.measurement import Measurement, MeasurementPlan
from nas.core.pareto import ParetoFront
from nas.core.recipe import FinalTraining, Recipe
from nas.core.study import ERROR, Objective, RungSpec, StudySpec, TrainingSpec
from nas.core.trial import Evaluation, Rung, Trial, TrialState
from nas.export.card import card
from nas.export.trial import _is_of
from nas.report.fronts import ShownFront, as_csv, as_markdown
from nas.searching.study_file import read_recipe

SHORT, LONG = Recipe(epochs=10.0), Recipe(epochs=20.0)


def rung(error: float) -> Rung:
    return Rung(
        epochs=1,
        metrics={"error": error},
        train_loss=1.0,
        images=1,
        train_s=0.0,
        validation_s=0.0,
        checkpoint=f"w{error}",
    )


def trial(number: int, error: float) -> Trial:
    stage = OsaStage(mid_channels=8, out_channels=16 + number, num_layers=2)
    return Trial(
        number=number,
        params={},
        architecture=Architecture(stem_channels=(8, 8, 8), stages=(stage,) * 3),
        seed=1,
        state=TrialState.COMPLETE,
        evaluation=Evaluation(
            measurements={"macs": Measurement.counted("macs", "1", 1.0 + number)},
            rungs=(rung(error),),
        ),
    )


TRIALS = [trial(0, 0.30), trial(1, 0.20), trial(2, 0.25)]


def final(number: int | str, *errors: float, recipe: Recipe = LONG) -> list[FinalTraining]:
    network = number if isinstance(number, str) else TRIALS[number].architecture.digest
    return [
        FinalTraining(
            network=network,
            digest=None,
            recipe=recipe,
            seed=seed,
            test_images=100,
            reached=rung(error),
        )
        for seed, error in enumerate(errors)
    ]


def test_a_result_is_mean_and_deviation_over_seeds():
    """Errors of 1, 2 and 3 % have the mean 2 and the sample deviation 1 (n - 1). The weights are
    those of the first seed.
    """
    (result,) = results(final(0, 0.03, 0.01, 0.02))
    assert result.mean("error") == pytest.approx(0.02)
    assert result.deviation("error") == pytest.approx(0.01)
    assert result.first.reached.checkpoint == "w0.03"
    assert result.text(ERROR) == "2.00 % ± 1.00, 3 seeds"
    (single,) = results(final("x:y", 0.125))
    assert (single.deviation("error"), single.text(ERROR)) == (None, "12.50 %, 1 seed")


def test_each_network_and_recipe_has_its_own_result():
    """The result of a trial is that of the last recipe."""
    finals = [*final(0, 0.1, recipe=SHORT), *final(0, 0.05), *final(1, 0.2, recipe=SHORT)]
    assert len(results(finals)) == 3
    latest = latest_results(finals, TRIALS)
    assert (latest[0].mean("error"), latest[1].mean("error")) == (0.05, 0.2)
    assert 2 not in latest
    assert ranking(TRIALS, latest, ERROR) is None
    again = latest_results([*finals, *final(0, 0.3, recipe=SHORT)], TRIALS)
    assert again[0].of_seeds("error") == (0.1, 0.3), "the first recipe was used again"


def test_kendalls_tau_of_one_pair_in_the_other_order():
    """Search: 1 < 2 < 0. Final: 1 < 0 < 2. Of three pairs one is turned: tau = (2 - 1) / 3."""
    latest = latest_results([*final(0, 0.06), *final(1, 0.05), *final(2, 0.08)], TRIALS)
    compared = ranking(TRIALS, latest, ERROR)
    assert compared.tau == pytest.approx(1 / 3)
    assert compared.wrong == ((0, 2),)
    assert not compared.sure
    assert [("WARNING" in line, "one seed each" in line) for line in compared.lines()] == [
        (False, False),
        (True, True),
    ]


def test_a_wrong_pair_must_differ_by_more_than_the_scatter_of_seeds():
    """The pooled deviation is 0.01 with 3 degrees of freedom (t 3.182): means of two seeds differ
    if they are more than 3.18 points apart.
    """

    def wrong(error: float) -> tuple[tuple[int, int], ...]:
        pairs = [
            *final(0, 0.06 - 0.5**0.5 / 100, 0.06 + 0.5**0.5 / 100),
            *final(1, 0.02 - 0.5**0.5 / 100, 0.02 + 0.5**0.5 / 100),
            *final(2, error - 0.5**0.5 / 100, error + 0.5**0.5 / 100),
        ]
        compared = ranking(TRIALS, latest_results(pairs, TRIALS), ERROR)
        assert compared.sure
        return compared.wrong

    assert wrong(0.06 + 0.0317) == ()
    assert wrong(0.06 + 0.0320) == ((0, 2),)


def test_equal_rankings_give_no_warning():
    """Tau is 1."""
    compared = ranking(
        TRIALS, latest_results([*final(0, 0.3), *final(1, 0.1), *final(2, 0.2)], TRIALS), ERROR
    )
    assert (compared.tau, compared.wrong) == (1.0, ())
    assert len(list(compared.lines())) == 1


def test_trainings_on_other_images_are_not_compared_with_the_search():
    """Their errors are of other classes: there is no ranking, and no front shows them."""
    large = replace(LONG, large=LargeSpec(data="photos"))
    finals = [*final(0, 0.10, recipe=large), *final(1, 0.20, recipe=large), *final(2, 0.3)]
    assert ranking(TRIALS, latest_results(finals, TRIALS), ERROR) is None
    assert on_images_of_the_study(finals) == finals[2:]


def test_the_front_shows_final_results():
    """They are columns for programs, and one column for people. The fields are empty for members
    without a final training.
    """
    spec = StudySpec(
        name="f", space="osa_tiny", objectives=(Objective(metric="error"), Objective(metric="macs"))
    )
    front = ParetoFront(members=(1, 0), hypervolume=None, after=3, feasible=True)
    shown = ShownFront(front=front, trials={t.number: t for t in TRIALS})
    latest = latest_results(final(1, 0.03, 0.01), TRIALS)
    table = list(csv.DictReader(io.StringIO(as_csv(spec, shown, finals=latest))))
    assert [(row["final_error"], row["final_seeds"]) for row in table] == [("0.02", "2"), ("", "")]
    assert (
        as_markdown(spec, shown, finals=latest)
        .splitlines()[2]
        .endswith("| 2.00 % ± 1.41, 2 seeds |")
    )
    assert "test error" not in as_markdown(spec, shown)


def test_a_recipe_file_is_checked_like_a_study_file(tmp_path):
    """Missing keys have defaults; every wrong key and value is named."""
    path = tmp_path / "recipe.yaml"
    path.write_text("epochs: 12\ntraining: {batch_size: 128, cutout: 6}\n")
    recipe = read_recipe(path)
    assert (
        recipe.epochs,
        recipe.training.batch_size,
        recipe.training.translate,
        recipe.average,
    ) == (12, 128, 2, 0.999)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    path.write_text("epochs: -1\ntraining: {batchsize: 1}\naverag: 0.9\n")
    with pytest.raises(StudyFileError) as caught:
        read_recipe(path)
    assert any("did you mean batch_size?" in problem for problem in caught.value.problems)
    assert any("did you mean average?" in problem for problem in caught.value.problems)


def test_a_card_describes_the_weights_of_a_bundle():
    """These are of the final training, with its seed and the errors of all seeds, or of the
    search's brief training.
    """
    record = {
        "study": "s",
        "trial": 0,
        "dataset": "digits",
        "measurements": [],
        "rungs": [{"metrics": {"error": 0.5}, "epochs": 1}],
    }
    dataset = {"classes": ["a", "b"], "mean": (0.5,) * 3, "std": (0.2,) * 3, "image_size": 32}
    brief = card(TRIALS[0].architecture, **dataset, record=record)
    assert "| weights | brief training of the search |" in brief
    assert "bicubic" not in brief
    folder = card(TRIALS[0].architecture, **dataset, record=record | {"dataset": "folder"})
    assert "scaled to squares with Pillow's bicubic filter" in folder
    final = {
        "seed": 7,
        "test_images": 360,
        "seeds": {"error": [0.25, 0.5]},
        "curve": [[1.0, 2.25], [2.0, 1.0], [3.0, 0.5]],
        "reached": {"metrics": {"error": 0.25}, "epochs": 30.0},
    }
    full = card(TRIALS[0].architecture, **dataset, record=record | {"final": final})
    assert "| weights | final training with seed 7 | 30 epochs on all training images;" in full
    assert (
        "| error on the test images | 25.00 % (all 2 seeds: 25.00 %, 50.00 %) | 360 images" in full
    )
    assert "| training loss | █▄▂ | from 2.250 to 0.500;" in full
    assert "brief training" not in full


@pytest.mark.parametrize("size", [32, 224])
def test_figures_of_a_network_trained_on_files_are_of_its_images(size):
    """Latencies of images of another size are not, nor counts of a classifier of other classes."""
    latency = Measurement(
        metric="latency", unit="s", value=1.0, method="x", plan=MeasurementPlan(image_size=size)
    )
    assert _is_of(latency, LargeSpec(image_size=224)) is (size == 224)
    assert not _is_of(Measurement.counted("macs", "1", 3.0), LargeSpec())


def test_a_recipe_with_a_wrong_value_is_refused():
    for wrong in ({"epochs": 0.0}, {"average": 1.0}, {"distillation": 0.0}, {"temperature": 0.0}):
        with pytest.raises(InvalidValueError):
            Recipe(**wrong)


def test_recipes_of_equal_values_have_equal_digests():
    """Trainings are grouped by the digest of their recipe."""
    assert SHORT.digest != LONG.digest
    assert Recipe(epochs=20.0).digest == LONG.digest


def test_recipes_in_whole_numbers_are_those_in_floats():
    """A study file gives 60.0 and a default may be 60; records hold both forms."""
    whole = {"learning_rate": 1, "momentum": 0, "weight_decay": 0, "label_smoothing": 0}
    recipes = [
        Recipe(
            epochs=kind(60),
            average=kind(0),
            temperature=kind(2),
            distillation=kind(1),
            training=TrainingSpec(**{name: kind(value) for name, value in whole.items()}),
        )
        for kind in (int, float)
    ]
    assert recipes[0].digest == recipes[1].digest
    assert Recipe.from_dict({**LONG.to_dict(), "epochs": 20}).digest == LONG.digest
    brief = [
        BriefRecipe(rungs=(RungSpec(epochs=kind(1)),), average=kind(0)) for kind in (int, float)
    ]
    assert brief[0].digest == brief[1].digest
