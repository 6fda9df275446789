"""What a study's trials come to, counted and summed by the database."""

from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Double, cast, func, select

from nas.schema.tables import EVALUATION, RUNG, TRIAL
from nas.store.records import Summary
from nas.trial import Spent, TrialState


def summarize(connection: Connection, study_id: int) -> Summary:
    """Six short queries: some 0.3 s of CPU time for 100,000 trials on SQLite."""
    ours = TRIAL.c.study_id == study_id
    counts, repeated = dict.fromkeys(TrialState, 0), 0
    for state, original, count in connection.execute(
            select(TRIAL.c.state, TRIAL.c.duplicate_of.is_(None), func.count()).where(ours)
            .group_by(TRIAL.c.state, TRIAL.c.duplicate_of.is_(None))):
        if original:
            counts[TrialState(state)] += count
        else:
            repeated += count
    here = EVALUATION.c.study_id + 0 == study_id  # read in the order of the file, ten times as fast as by the index
    around = connection.execute(select(
        func.sum(EVALUATION.c.measure_s).label("measuring"), func.sum(EVALUATION.c.waiting_s).label("waiting"),
        func.sum(EVALUATION.c.energy_j).label("energy_j")).where(here)).one()
    reached = (select(func.max(RUNG.c.epochs).label("epochs"), func.sum(RUNG.c.train_s).label("training"),
                      func.sum(RUNG.c.validation_s).label("validation")).join_from(RUNG, EVALUATION).where(here)
               .group_by(RUNG.c.evaluation_id).subquery())
    rungs = connection.execute(select(*(func.sum(column).label(column.name) for column in reached.c))).one()
    spent = Spent(epochs=rungs.epochs or 0.0, measuring_s=around.measuring or 0.0, training_s=rungs.training or 0.0,
                  validation_s=rungs.validation or 0.0, waiting_s=around.waiting or 0.0, energy_j=around.energy_j)
    untrained = ~select(RUNG.c.epochs).where(RUNG.c.evaluation_id == TRIAL.c.evaluation_id).exists()
    beyond = connection.execute(select(func.count()).select_from(TRIAL).where(
        ours, TRIAL.c.state == TrialState.STOPPED.value, TRIAL.c.duplicate_of.is_(None), untrained)).scalar_one()
    wanted = TrialState.FAILED.value, TrialState.RUNNING.value
    told = connection.execute(
        select(TRIAL.c.number, TRIAL.c.state, TRIAL.c.reason)
        .where(ours, TRIAL.c.state.in_(wanted), TRIAL.c.duplicate_of.is_(None)).order_by(TRIAL.c.number)).all()
    return Summary(counts=counts, repeated=repeated, searched_s=_searched_s(connection, study_id),
                   beyond=beyond, spent=spent,
                   failed=tuple((row.number, row.reason) for row in told if row.state == TrialState.FAILED),
                   running=tuple(row.number for row in told if row.state == TrialState.RUNNING))


def _searched_s(connection: Connection, study_id: int) -> float:
    """As `nas.search.engine.searched_s`: a running trial lasts until its last rung, as far as the record knows."""
    last_rung = (select(func.max(RUNG.c.finished_at)).where(
        RUNG.c.evaluation_id == TRIAL.c.evaluation_id, TRIAL.c.duplicate_of.is_(None)).scalar_subquery())
    end = func.coalesce(TRIAL.c.finished_at, last_rung, TRIAL.c.started_at)
    rows = connection.execute(
        select(_seconds(connection, TRIAL.c.started_at), _seconds(connection, end))
        .where(TRIAL.c.study_id == study_id).order_by(TRIAL.c.started_at))
    starts, ends = np.asarray([tuple(row) for row in rows], dtype=float).reshape(-1, 2).T  # (n,), (n,)
    busy_until = np.maximum.accumulate(np.concatenate([[-np.inf], ends]))[:-1]
    return float(np.clip(ends - np.maximum(starts, busy_until), 0.0, None).sum())


def _seconds(connection: Connection, moment: ColumnElement[Any]) -> ColumnElement[float]:
    """A time as seconds since some moment."""
    if connection.dialect.name == "sqlite":
        return func.julianday(moment, type_=Double()) * 86_400.0
    return cast(func.extract("epoch", moment), Double)
