"""`nas status` and its words for trials that no process works on."""

import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.trial import Evaluation, TrialState
from nas.record import Store
from nas.testing.sample_records import architecture

pytestmark = pytest.mark.slow


def test_a_trial_that_no_process_works_on_is_unfinished(record, tmp_path):
    """While a process drives the study it is running, in the overview and with the study's name."""
    database = shutil.copy(record, tmp_path)

    def shown(*words):
        return CliRunner().invoke(main, ["status", *words, "--database", str(database)]).output

    with Store.open(database) as store:
        last = store.trials("pages")[-1]
        running = replace(
            last,
            number=last.number + 1,
            state=TrialState.RUNNING,
            architecture=architecture(),
            evaluation=Evaluation(),
            finished_at=None,
        )
        store.add_trial("pages", running)
        with store.claim("pages"):
            assert "1 running" in shown()
            assert "1 running" in shown("pages")
        assert "1 unfinished" in shown()
        assert "1 unfinished" in shown("pages")
        assert "running" not in shown("pages").replace("no search is running", "")
