"""The curves of a study as columns are those of its trials."""

import numpy as np

from nas.analysis.study_curves import study_curves
from nas.core.stopping import Curves, Futility
from nas.record import Store


def test_columns_are_the_trials(record):
    """Numbers, errors, costs and sizes to the last bit, and the state of the rule."""
    with Store.open(record, read_only=True) as store:
        for each in store.studies():
            spec = each.spec
            columns, trials = study_curves(store, spec), Curves.of(store.trials(each.name), spec)
            assert len(trials) > 0 or each.name != "pages"
            for name in ("numbers", "errors", "costs", "sizes"):
                found, expected = getattr(columns, name), getattr(trials, name)
                assert found.shape == expected.shape
                assert np.array_equal(found, expected), name
            assert Futility(columns, 1).description == Futility(trials, 1).description


def test_a_study_without_complete_trials_has_no_curves(record):
    """Of a metric that no trial has, there is nothing to read."""
    with Store.open(record, read_only=True) as store:
        assert store.rungs("pages", "top5_error") == {}
