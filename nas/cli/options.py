"""Options and arguments that several commands share, and how these reach the record."""

import functools
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from nas.agent.host import usable_cores
from nas.core.architecture import Architecture
from nas.core.errors import InvalidValueError, NasError, next_command
from nas.core.measurement import MAX_IMAGE_SIZE, MeasurementPlan, Precision
from nas.core.pareto import knee as knee_of
from nas.core.trial import Trial
from nas.record import Address, StudyRecord

if TYPE_CHECKING:
    from nas.record import Store

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]
DATABASE = "nas.db"
"""The record's default file."""
PRECISIONS = click.Choice([each.value for each in Precision])
"""Names of number formats. From the enumeration itself click would take the members' names."""
FILE = click.Path(dir_okay=False, path_type=Path)
"""A file that is read or written."""
PRESENT_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
"""A file that must exist."""
FOLDER = click.Path(file_okay=False, path_type=Path)
"""A folder that is read or written."""
PRESENT_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
"""A folder that must exist."""
FOLDER.name = PRESENT_FOLDER.name = "dir"  # how the help shows it, in capital letters
TIERS = ("screen", "certify", "hot")
"""Ways to measure latency, by the names that users type."""
SHOWN_COMMAND = re.compile(r"`(nas [^`]*)`")
"""A command in the message of an error, as `next_command` writes it."""
IMAGE_SIZE = click.IntRange(1, MAX_IMAGE_SIZE)
"""Pixels of a side of an image."""


class Threads(click.IntRange):
    """A number of threads from 1 to the number of cores of this machine.

    The help does not show the number of cores, since it is the same on every machine.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        threads = super().convert(value, param, ctx)
        if problem := too_many(threads):
            self.fail(problem, param, ctx)
        return threads


def too_many(threads: int) -> str | None:
    """Return why this machine cannot run this many threads, None if it can."""
    cores = usable_cores()
    return (
        f"there are {cores} cores, so at most {cores}, not {threads}" if threads > cores else None
    )


THREADS = Threads(min=1)


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The measuring options of a command.

    `changes` are the fields of a `MeasurementPlan` that were given. `tier` is one of `TIERS`.
    """

    device: str | None
    tier: str
    changes: Mapping[str, Any]

    def __post_init__(self) -> None:
        from nas.measuring.meters import elsewhere

        problem = too_many(self.changes.get("threads", 1))
        if problem and not elsewhere(self.device):
            raise click.BadParameter(problem, param_hint="'--threads'")

    @property
    def certify(self) -> bool:
        """True if latency and energy are interleaved with a reference network."""
        return self.tier == "certify"

    def plan(self, base: MeasurementPlan) -> MeasurementPlan:
        """Return the plan with the given changes. A device elsewhere has one runtime.

        Raises `UnknownNameError` for an unknown device.
        """
        from nas.measuring.meters import REMOTE_RUNTIME, elsewhere

        if elsewhere(self.device):
            base = replace(base, runtime=REMOTE_RUNTIME)
        return replace(base, **self.changes)

    def describe(self, plan: MeasurementPlan) -> str:
        """Return the conditions in words."""
        threads = "thread" if plan.threads == 1 else "threads"
        return (
            f"batch {plan.batch_size} at {plan.image_size} px, {plan.precision}, "
            f"{plan.runtime}, {plan.threads} {threads}, {self.tier}"
        )


def measuring_options(
    base: MeasurementPlan | None,
    *,
    tier: str,
    hot: bool = False,
    device: str = "the GPU if there is one",
) -> Decorator:
    """Add the options of a measurement, passed to the command as `conditions`.

    `base` is the plan that they change, for the defaults in the help; None if it is the study's.
    With `hot` the command has that tier too. `device` is the default in words.
    """
    tiers = TIERS if hot else TIERS[:2]
    heat = (
        "; hot measures latency now and after the device has settled under this load, which takes "
        "a minute or more"
    )

    def shown(field: str) -> str:
        return "" if base is None else f" [default: {getattr(base, field)}]"

    options = (
        device_option(device),
        click.option(
            "--batch",
            "batch_size",
            type=click.IntRange(min=1),
            help=f"Images in a batch.{shown('batch_size')}",
        ),
        click.option(
            "--size", "image_size", type=IMAGE_SIZE, help=f"Pixels of a side.{shown('image_size')}"
        ),
        click.option("--precision", type=PRECISIONS, help=f"Number format.{shown('precision')}"),
        click.option(
            "--runtime",
            metavar="NAME",
            help=f"eager, compile, onnxruntime, openvino or graph (CUDA).{shown('runtime')}",
        ),
        click.option(
            "--threads", type=click.IntRange(min=1), help=f"CPU threads.{shown('threads')}"
        ),
        click.option(
            "--tier",
            type=click.Choice(tiers),
            default=tier,
            show_default=True,
            help="certify interleaves latency and energy with a reference network, which takes "
            f"half a minute or more for each network{heat if hot else ''}.",
        ),
    )

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_conditions(*, device: str | None, tier: str, **values: Any) -> Any:
            fields = ("batch_size", "image_size", "precision", "runtime", "threads")
            given = {field: values.pop(field) for field in fields}
            changes = {field: value for field, value in given.items() if value is not None}
            if "precision" in changes:
                changes["precision"] = Precision(changes["precision"])
            conditions = Conditions(device=device, tier=tier, changes=changes)
            return command(conditions=conditions, **values)

        decorated: Command = with_conditions
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def device_option(default: str = "the GPU if there is one") -> Decorator:
    """Add `--device NAME`, passed as `device`."""
    return click.option(
        "--device",
        metavar="NAME",
        help=f"Measure on this device: cpu, cuda, or one of nas device list. [default: {default}]",
    )


def trial_option(text: str) -> Decorator:
    """Add a repeatable `--trial N`, passed as `numbers`; `text` is its help."""
    return click.option(
        "--trial",
        "numbers",
        type=click.IntRange(min=0),
        multiple=True,
        metavar="N",
        help=f"{text} May be repeated.",
    )


def workers_options(command: Command) -> Command:
    """Add `--workers KIND` and `--address ADDRESS`, in place of the study's workers."""
    address = click.option(
        "--address",
        metavar="ADDRESS",
        help="Work on this Ray cluster (tune only), as ray.init takes it.",
    )
    kind = click.option(
        "--workers", metavar="KIND", help="Use these workers, not the study's: local or tune."
    )
    return kind(address(command))


def database_option(command: Command) -> Command:
    """Add `--database URL`, also to the commands that messages of errors show."""

    @functools.wraps(command)
    def with_pasted_commands(*, database: str, **values: Any) -> Any:
        try:
            return command(database=database, **values)
        except NasError as error:
            text = SHOWN_COMMAND.sub(lambda match: match[1] + option_to_paste(database), str(error))
            error.args = (text,)
            raise

    return click.option(
        "--database",
        metavar="URL",
        envvar="NAS_DATABASE",
        default=DATABASE,
        show_default=True,
        help="The record: an SQLite file, or postgresql://… [env: NAS_DATABASE]",
    )(with_pasted_commands)


def open_record(database: str) -> "Store":
    """Open the record read-only."""
    from nas.record import Store

    return Store.open(database, read_only=True)


def is_new_file(database: str) -> bool:
    """Return whether the record would be an SQLite file that is not there yet."""
    from nas.record.address import Address

    path = Address.parse(database).path
    return path is not None and not path.exists()


def change_record(database: str) -> "Store":
    """Open an existing record for writing. Raises `DatabaseError` if there is none."""
    from nas.record import Store

    return Store.open(database, create=False)


def open_or_create_record(database: str) -> "Store":
    """Open the record for writing, or create it."""
    from nas.record import Store

    return Store.open(database)


def shown_url(url: str) -> str:
    """Return a database's address as it was given, without its password.

    Raises `DatabaseError` if it is no address.
    """
    address = Address.parse(url)
    return url if address.path is not None else str(address)


def database_to_paste(database: str) -> str:
    """Return the address for the option --database of a command that is printed.

    It is `DATABASE` if the command needs no such option: the address is the default, or comes from
    NAS_DATABASE. It has no password.
    """
    context = click.get_current_context(silent=True)
    source = context.get_parameter_source("database") if context else None
    if source in {ParameterSource.DEFAULT, ParameterSource.ENVIRONMENT}:
        return DATABASE
    if database == DATABASE and os.environ.get("NAS_DATABASE"):
        return f"./{DATABASE}"
    return shown_url(database).replace(":***@", "@", 1)


def command_to_paste(*words: object, database: str) -> str:
    """Return a command of nas as text for a shell, with --database if it needs one."""
    return shlex.join(["nas", *map(str, words)]) + option_to_paste(database)


def option_to_paste(database: str) -> str:
    """Return ` --database ADDRESS`, or nothing if a printed command needs no such option."""
    address = database_to_paste(database)
    return "" if address == DATABASE else f" --database {shlex.quote(address)}"


def password_note(database: str) -> str | None:
    """Return a line about the password that printed commands lack; None if they lack none."""
    if database_to_paste(database) == DATABASE or not Address.parse(database).passwords:
        return None
    return (
        "the password is not shown: let NAS_DATABASE hold the whole address, or PGPASSFILE name a "
        "file with the password"
    )


def pick_study(store: "Store", name: str | None) -> StudyRecord:
    """Return the study of this name; without a name, the only one that is recorded."""
    if name is not None:
        return store.study(name)
    studies = store.listed_studies()
    if len(studies) == 1:
        return studies[0]
    if not studies and (archived := store.studies()):
        names = ", ".join(record.name for record in archived)
        raise NasError(f"all studies are archived, name one of: {names}")
    if not studies:
        raise NasError(
            "there is no study in this database yet; start one with: "
            f"{next_command('search', 'STUDY.yaml')}"
        )
    raise NasError(
        f"there are several studies, name one of: {', '.join(record.name for record in studies)}"
    )


def pick_trial(store: "Store", text: str) -> tuple[StudyRecord, Trial]:
    """Return the trial that `STUDY:NUMBER` names, or `NUMBER` if there is one study."""
    study, _, number = text.rpartition(":")
    if not number.isdecimal():
        raise InvalidValueError(
            f"{text!r} is no trial; name one as STUDY:NUMBER, or as NUMBER if there is one study"
        )
    record = pick_study(store, study or None)
    return record, store.trial(record.name, int(number))


def trial_finder(
    database: str, *, classifiers: bool = False
) -> Callable[[str], tuple[Architecture, int]]:
    """Return a function from a trial's name to its architecture and its number of classes.

    With `classifiers` it raises `InvalidValueError` for trials that are measured as detectors.
    """

    def find_trial(text: str) -> tuple[Architecture, int]:
        from nas.searching.launch import require_classifier

        with open_record(database) as store:
            record, trial = pick_trial(store, text)
        if classifiers:
            require_classifier(record, text)
        return trial.architecture, record.classes

    return find_trial


def front_numbers(store: "Store", record: StudyRecord, *, front: bool, knee: bool) -> list[int]:
    """Return the numbers of the front's members and of its best compromise, as far as asked for.

    Raises `NasError` if no trial is within every limit.
    """
    from nas.analysis.study_front import study_front

    if not front and not knee:
        return []
    now = study_front(store, record.spec)
    if not now.front.feasible:
        raise no_front_yet(record.name)
    numbers = list(now.front.members) if front else []
    if knee:
        numbers.append(knee_of(list(now.members.values()), record.spec.objectives).number)
    return numbers


def no_front_yet(study: str) -> NasError:
    """Return the error for a study of which no trial is within every limit."""
    command = next_command("front", study)
    return NasError(f"nothing of {study} is within every limit yet; see {command}")
