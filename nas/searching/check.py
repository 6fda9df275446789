"""Check a study as far as nothing needs to be trained: `nas check`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nas.core.complexity import COUNTED_METRICS
from nas.core.measurement import Measurement
from nas.core.preparation import Preparation
from nas.core.study import Objective, StudySpec
from nas.record import Store
from nas.searching.evaluators import StudyContext, built_by, prepared_by
from nas.searching.evaluators.classification.evaluator import Evaluator
from nas.searching.forecast import Forecast, forecast, private_bytes
from nas.searching.launch import (
    baseline_networks,
    finished_baselines,
    reads_data,
    require_fitting_sizes,
    with_choices,
)
from nas.searching.profile import (
    NUM_MEASURED_NETWORKS,
    NUM_RANDOM_NETWORKS,
    Member,
    costs_only,
    evaluator_of,
    members,
    profile,
    space_of,
)
from nas.searching.start_networks import start_params
from nas.searching.study_name import require_usable_name

MIN_NETWORKS = 3
"""Smallest number of measured networks from which time and memory are expected."""


@dataclass(frozen=True, kw_only=True)
class StudyCheck:
    """A study that was checked.

    `dataset` is that of its training, None without one. `objectives` are its costs, which `sampled`
    random networks and the `published` ones of the space have. `left_out` networks were not
    measured in time. `forecast` is None for an evaluator of another package, or if too few networks
    could be measured.
    """

    spec: StudySpec
    preparation: Preparation
    dataset: str | None
    cardinality: int
    objectives: tuple[Objective, ...]
    sampled: tuple[Member, ...]
    published: tuple[Member, ...]
    left_out: int
    forecast: Forecast | None


Shown = Callable[[Sequence[Member], Iterator[Member]], Iterator[Member]]
"""Passes costs on while it shows the progress, and may end early; it also gets all networks."""


def check_study(
    spec: StudySpec,
    store: Store | None,
    folder: Path,
    *,
    shown: Shown,
    on_wait: Callable[[Measurement], object],
) -> StudyCheck:
    """Check name, space, start networks, baselines, data, device and image sizes of a study, and
    measure a few networks.

    `store` has the trials that the study names, and `folder` is that of the study file. Raises what
    the start of a search raises.
    """
    require_usable_name(spec.name)
    space, imported_bytes = space_of(spec), private_bytes()
    start_params(spec, space, store, folder)
    finished = finished_baselines(spec, store)
    baselines = {
        name: network
        for name, network in baseline_networks(spec, store, folder).items()
        if name not in finished
    }
    own = evaluator_of(spec)
    kind = own or Evaluator
    prepared_spec = spec if own or reads_data(spec) else costs_only(spec)
    context = StudyContext(spec=prepared_spec, artifacts="", folder=str(folder.resolve()))
    preparation = prepared_by(kind, context)
    spec = with_choices(spec, preparation)
    require_fitting_sizes(spec, preparation)
    objectives = costs_only(spec).objectives
    is_measured = any(objective.metric not in COUNTED_METRICS for objective in objectives)
    count = NUM_MEASURED_NETWORKS if is_measured else NUM_RANDOM_NETWORKS
    networks = members(space, count, spec.seed)
    costs = list(shown(networks, profile(spec, networks, folder, on_wait, preparation)))
    sampled = tuple(member for member in costs if not member.name)
    expected = None
    usable = sum(not member.failure for member in sampled)
    if own is not None and usable >= MIN_NETWORKS:
        prepared = replace(context, spec=spec, preparation=preparation)
        expected = forecast(spec, built_by(own, prepared), sampled, imported_bytes, baselines)
    return StudyCheck(
        spec=spec,
        preparation=preparation,
        dataset=preparation.data.dataset if reads_data(spec) else None,
        cardinality=space.cardinality,
        objectives=objectives,
        sampled=sampled,
        published=tuple(member for member in costs if member.name),
        left_out=len(networks) - len(costs),
        forecast=expected,
    )
