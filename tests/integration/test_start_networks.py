"""Start networks are tried before the sampler is asked; those outside the space are refused."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.errors import InvalidValueError
from nas.core.published import PUBLISHED
from nas.core.study import Budget, Objective, StudySpec, rungs_at
from nas.record import Store
from nas.searching.run import SearchObserver, run_study
from nas.searching.start_networks import nearest_params, start_params
from search_spaces import osa_tiny

SPACE = osa_tiny.SPACE
SPEC = StudySpec(
    name="begun",
    space="osa_tiny",
    evaluator="nas.testing.evaluators:ARITHMETIC",
    rungs=rungs_at(1),
    budget=Budget(trials=4, fresh=0),
    objectives=(
        Objective(metric="error", reference=1.0),
        Objective(metric="macs", reference=4e6),
    ),
)
LARGEST = {choice.name: choice.values[-1] for choice in SPACE.choices}
SMALLEST = {choice.name: choice.values[0] for choice in SPACE.choices}


def run(database, **changes):
    """Run the study, and return the params of its trials."""
    run_study(replace(SPEC, **changes), str(database), observer=SearchObserver())
    with Store.open(database, read_only=True) as store:
        assert store.problems() == []
        return [trial.params for trial in store.trials("begun")]


@pytest.mark.parametrize("sampler", ["random", "known-cost", "nsga2"])
def test_start_networks_come_first_and_once(tmp_path, sampler):
    """By params or by file, and a later call with a larger budget does not repeat them."""
    (tmp_path / "s.json").write_text(json.dumps(SPACE.decode(SMALLEST).to_dict()))
    first = (LARGEST, str(tmp_path / "s.json"), LARGEST)
    database = tmp_path / "nas.db"
    before = run(database, sampler=sampler, first=first)
    assert before[:2] == [LARGEST, SMALLEST]
    more = Budget(trials=6, fresh=0)
    after = run(database, sampler=sampler, first=first, budget=more)
    assert after[:4] == before
    assert after == run(tmp_path / "at_once.db", sampler=sampler, first=first, budget=more)


def test_a_start_network_that_is_gone_is_not_needed_again(tmp_path):
    """The record has its params. A file that holds another network now is another start network."""
    file, database = tmp_path / "s.json", tmp_path / "nas.db"
    file.write_text(json.dumps(SPACE.decode(SMALLEST).to_dict()))
    before = run(database, sampler="random", first=(str(file),))
    file.unlink()
    more = Budget(trials=5, fresh=0)
    after = run(database, sampler="random", first=(str(file),), budget=more)
    assert after[:4] == before
    file.write_text(json.dumps(SPACE.decode(LARGEST).to_dict()))
    more = Budget(trials=6, fresh=0)
    assert run(database, sampler="random", first=(str(file),), budget=more) == [*after, LARGEST]
    with pytest.raises(InvalidValueError, match=r"first\[0\]: .*lost\.json"):
        run(database, sampler="random", first=(str(tmp_path / "lost.json"),), budget=more)


def test_more_start_networks_may_come_later(tmp_path):
    """One of a trial of the record is a known network; a new one is the next trial."""
    database = tmp_path / "nas.db"
    before = run(database, sampler="random")
    assert LARGEST not in before
    budget = Budget(trials=5, fresh=0)
    after = run(database, sampler="random", first=("begun:1", LARGEST), budget=budget)
    assert after == [*before, LARGEST]


def test_a_spent_budget_says_how_many_were_not_tried(tmp_path):
    """Otherwise the command would seem to have ignored them."""

    class Observer(SearchObserver):
        def ended(self, reason):
            reasons.append(reason)

    reasons = []
    run(tmp_path / "nas.db", sampler="random")
    spec = replace(SPEC, sampler="random", first=(LARGEST,))
    run_study(spec, str(tmp_path / "nas.db"), observer=Observer())
    assert "; start networks that were not tried: 1" in reasons[0]


def test_a_network_outside_the_space_is_refused_with_the_nearest_one(tmp_path):
    """Nothing is written, and the params in the message are a start network."""
    with pytest.raises(
        InvalidValueError, match=r"first\[0\]: vovnet27_slim_cifar is not"
    ) as caught:
        run(tmp_path / "nas.db", first=("vovnet27_slim_cifar",))
    assert not (tmp_path / "nas.db").exists()
    nearest = json.loads(str(caught.value).partition("one that is: ")[2])
    assert start_params(replace(SPEC, first=(nearest,)), SPACE, None, tmp_path) == [nearest]


def test_the_nearest_network_has_the_nearest_values():
    """Those of a network of the space are its own; a larger one is nearest to the largest."""
    assert nearest_params(SPACE, SPACE.decode(SMALLEST)) == SMALLEST
    widths = {name: value for name, value in LARGEST.items() if "channels" in name}
    nearest = nearest_params(SPACE, PUBLISHED["vovnet99_cifar"])
    assert {name: nearest[name] for name in widths} == widths


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({**SMALLEST, "depth": 3}, "the space has no choice depth"),
        ({}, "no value for"),
        ({**SMALLEST, SPACE.choices[0].name: -1}, "must be one of"),
    ],
)
def test_wrong_params_are_named(tmp_path, params, message):
    """With the place in the list."""
    with pytest.raises(InvalidValueError, match=rf"first\[1\]: .*{message}"):
        start_params(replace(SPEC, first=(LARGEST, params)), SPACE, None, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"), [("{a", "is no JSON"), ("vovnet27slim", "did you mean vovnet27_slim?")]
)
def test_a_wrong_option_is_refused(tmp_path, text, message):
    """Before anything else."""
    command = ["search", "lost.yaml", "--database", str(tmp_path / "nas.db"), "--first", text]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert message in result.output
