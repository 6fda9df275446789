"""Make failed trials run again: the next search resumes them from their last rung."""

from collections.abc import Collection

from nas.core.errors import InvalidValueError
from nas.core.trial import Trial, TrialState
from nas.record import Store


def retry(store: Store, study: str, numbers: Collection[int] = ()) -> list[Trial]:
    """Set the failed trials of a study, or those of these numbers, to running, with their
    duplicates. Return the originals.

    Raises `StudyConflictError` while the study is searched, and `InvalidValueError` for a trial
    that did not fail.
    """
    with store.claim(study), store.transaction():
        trials = store.trials(study)
        failed = [
            trial
            for trial in trials
            if trial.state is TrialState.FAILED and trial.duplicate_of is None
        ]
        wrong = sorted(set(numbers) - {trial.number for trial in failed})
        if wrong:
            raise InvalidValueError(
                f"trial {', '.join(map(str, wrong))} of {study} did not fail; failed are: "
                f"{', '.join(str(trial.number) for trial in failed) or 'none'}"
            )
        retried = [trial for trial in failed if not numbers or trial.number in numbers]
        originals = {trial.number for trial in retried}
        for trial in trials:
            if trial.number in originals or trial.duplicate_of in originals:
                store.finish_trial(
                    study, trial.moved_to(TrialState.RUNNING, reason="", finished_at=None)
                )
    return retried
