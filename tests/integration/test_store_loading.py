"""A study of any size is read in a few statements."""

from sqlalchemy import event

from nas.record import Store
from nas.testing.sample_records import latency, rung, spec, trial


def statements(store, call):
    """Return the number of statements of a call, without those that begin transactions."""
    sent = []

    def note(_connection, _cursor, statement, *_):
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(store._engine, "before_cursor_execute", note)
    call()
    event.remove(store._engine, "before_cursor_execute", note)
    return len(sent)


def test_reading_takes_as_many_statements_for_many_trials_as_for_one(tmp_path):
    """This holds for all trials, for one of them, and for the list of studies."""
    counts = []
    with Store.open(tmp_path / "nas.db") as store:
        store.create_study(spec(), dataset="digits", classes=10)
        for number in range(30):
            store.add_trial("first", trial(number))
            store.add_measurements(
                "first", number, [latency(), latency(metric="energy", unit="J")], 0.1
            )
            store.add_rung("first", number, rung())
            if number in (0, 29):
                counts.append(
                    (
                        statements(store, lambda: store.trials("first")),
                        statements(store, lambda: store.trial("first", 0)),
                        statements(store, store.studies),
                    )
                )
    assert counts[0] == counts[1]
    assert max(counts[0]) <= 10  # one for the study, and about one for each table of trials
