"""`nas front`, `nas compare` and `nas show` on a study that was really searched."""

import json
import re

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.errors import UnavailableError
from nas.core.pareto import front
from nas.core.trial import TrialState
from nas.record import Store
from nas.report.history import finished

pytestmark = pytest.mark.slow


@pytest.fixture
def nas(record):
    """Return a function that runs a command on the record and returns its output."""

    def run(*words, code=0):
        done = CliRunner().invoke(main, [*words, "--database", str(record)])
        assert done.exit_code == code, done.output
        return done.output

    return run


@pytest.fixture
def trials(record):
    with Store.open(record, read_only=True) as store:
        yield store.trials("pages")


def members(text):
    return [member["trial"] for member in json.loads(text)["members"]]


def test_where_keeps_the_members_that_fulfil_every_condition(nas, trials):
    """The same members follow from the recorded values."""
    fast = members(
        nas(
            "front",
            "pages",
            "--format",
            "json",
            "--where",
            "latency < 1 ms",
            "--where",
            "error<1.2%",
        )
    )
    value = {t.number: t.evaluation.value for t in trials}
    every = members(nas("front", "pages", "--format", "json"))
    assert fast == [n for n in every if value[n]("latency") < 1e-3 and value[n]("error") < 0.012]
    assert 0 < len(fast) < len(every)


def test_sort_orders_by_the_figure(nas, trials):
    """The smallest is first."""
    parameters = {t.number: t.evaluation.value("parameters") for t in trials}
    shown = [
        parameters[n]
        for n in members(nas("front", "pages", "--format", "json", "--sort", "parameters"))
    ]
    assert shown == sorted(shown)


def test_a_long_front_is_cut_and_names_the_options_for_the_rest(nas, monkeypatch):
    """It shows the first rows in the requested order, or all with --all. Programs get all."""
    monkeypatch.setattr("nas.cli.front.PAGE_ROWS", 2)

    def rows(*words):
        return [
            int(line.split()[0])
            for line in nas("front", "pages", *words).splitlines()
            if line.split()[:1] and line.split()[0].isdigit()
        ]

    every = members(nas("front", "pages", "--format", "json"))
    assert (rows(), rows("--all")) == (every[:2], every)
    by_size = members(nas("front", "pages", "--format", "json", "--sort", "parameters"))
    assert rows("--sort", "parameters") == by_size[:2]
    output = nas("front", "pages")
    assert f"and {len(every) - 2} more" in output
    assert "all of them: --all" in output
    assert "all of them" not in nas("front", "pages", "--all")


def test_the_knee_is_one_member_as_markdown(nas):
    """It has a heading, a rule, and one row with the objectives and how sure the membership is."""
    heading, rule, row = nas("front", "pages", "--knee", "--format", "md").splitlines()
    assert heading == "| trial | error | latency | parameters | on the front |"
    assert rule == "| --- | --- | --- | --- | --- |"
    assert row.split(" | ")[-1].rstrip(" |") in ("certainly", "probably")
    assert int(row.split("|")[1]) in members(nas("front", "pages", "--format", "json"))


def test_an_earlier_front_is_the_front_of_the_trials_that_had_ended(nas, trials, record):
    """It equals the front that is computed again from these trials."""
    with Store.open(record, read_only=True) as store:
        objectives = store.study("pages").spec.objectives
    for after in (1, 7, 30, 60):
        expected = front(finished(trials)[:after], objectives)
        shown = nas("front", "pages", "--format", "json", "--at", str(after))
        assert members(shown) == list(expected.members)
        assert json.loads(shown)["after"] == after
    assert "front of pages after 30 trials" in nas("front", "pages", "--at", "30")


def test_a_front_of_more_trials_than_there_are_is_refused(nas, trials):
    """The message has their number, without duplicates and running trials."""
    most = len(finished(trials))
    refused = nas("front", "pages", "--at", str(most + 1), code=2)
    assert f"there is no front after {most + 1} trials: {most} are finished" in refused


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--where", "speed > 3"),
            "no 'speed' in the figures of these trials; there are: error, latency, macs, param",
        ),
        (
            ("--where", "latency about 3"),
            "'latency about 3' is no condition; write one as in 'latency < 4 ms'",
        ),
        (("--where", "latency < 3 J"), "'3 J' is no quantity in s, ms, us, min"),
        (("--sort", "speed"), "no 'speed' in the figures"),
    ],
)
def test_a_wrong_condition_is_refused_with_what_would_be_right(nas, words, message):
    """The message names the figures, the form of a condition, or the units."""
    assert message in nas("front", "pages", *words, code=2)


def test_compare_shows_figures_and_only_the_choices_that_differ(nas, trials):
    """A trial beside itself is the same network."""
    text = nas("compare", "pages:0", "pages:1")
    differing = [
        name for name in trials[0].params if trials[0].params[name] != trials[1].params[name]
    ]
    assert differing
    assert [name for name in trials[0].params if f"  {name} " in text] == differing
    assert "error after 1 epochs" in text
    assert "the same network" in nas("compare", "pages:0", "pages:0")


def test_show_ranks_the_trial_among_the_others(nas):
    """No member of the front is dominated; the command that exports it can be pasted."""
    number = members(nas("front", "pages", "--knee", "--format", "json"))[0]
    text = nas("show", f"pages:{number}")
    assert "feasible trials, dominated by 0" in text
    assert text.count("most alike: trial") == 1
    assert re.search(
        rf"take it away: nas export pages --trial {number} -o pages-{number} --database \S+nas.db",
        text,
    )


def test_show_names_no_command_that_would_fail(nas, trials):
    """The trial was trained, but was not on the front when it ended, so it has no weights."""
    kept = members(nas("front", "pages", "--format", "json"))
    other = next(
        t.number for t in trials if t.state is TrialState.COMPLETE and t.number not in kept
    )
    assert "take it away" not in nas("show", f"pages:{other}")


def test_show_times_the_parts_of_a_network(record):
    """Every part has a share of the latency here, and the shares add up to about the whole. On a
    busy machine there is a reason and no share.
    """
    shown = CliRunner().invoke(main, ["show", "pages:0", "--latency", "--database", str(record)])
    text = shown.output
    if shown.exit_code == UnavailableError.exit_code:
        assert "share of the latency here" not in text
        pytest.skip(
            text[text.index("the shares of the latency were not timed: other processes") :].strip()
        )
    timed = text[text.index("share of the latency here, on ") :]
    shares = re.findall(
        r"^(\w+(?: \d)?) +([\d.]+)%  \[([\d.]+)% to ([\d.]+)%\]$", timed, flags=re.MULTILINE
    )
    assert [name for name, *_ in shares] == ["stem", "stage 2", "stage 3", "stage 4", "classifier"]
    assert sum(float(share) for _, share, _, _ in shares) == pytest.approx(100, abs=5)
    assert all(float(low) <= float(share) <= float(high) for _, share, low, high in shares)
