"""Failed trials as if they had been interrupted: the next search takes them up at their last
rung.
"""

from collections.abc import Collection

from nas.core.errors import InvalidValueError
from nas.core.trial import Trial, TrialState
from nas.record import Store


def retry(store: Store, study: str, numbers: Collection[int] = ()) -> list[Trial]:
    """Make the failed trials of a study, or these of them, running again, with their duplicates;
    gives the originals.

    Raises `StudyConflictError` while the study is searched, `InvalidValueError` for a trial that
    did not fail.
    """
    with store.claim(study), store.transaction():
        trials = store.trials(study)
        failed = [t for t in trials if t.state is TrialState.FAILED and t.duplicate_of is None]
        wrong = sorted(set(numbers) - {trial.number for trial in failed})
        if wrong:
            message = (
                f"trial {', '.join(map(str, wrong))} of {study} did not fail; failed are: "
                f"{', '.join(str(trial.number) for trial in failed) or 'none'}"
            )
            raise InvalidValueError(message)
        again = [trial for trial in failed if not numbers or trial.number in numbers]
        originals = {trial.number for trial in again}
        for trial in trials:
            if trial.number in originals or trial.duplicate_of in originals:
                store.finish_trial(
                    study, trial.moved_to(TrialState.RUNNING, reason="", finished_at=None)
                )
    return again
