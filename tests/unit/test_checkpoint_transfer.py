"""Files of workers without access to the driver's folder."""

from pathlib import Path

import pytest

from nas.core.published import PUBLISHED
from nas.core.recipe import Recipe
from nas.core.study import Objective, StudySpec
from nas.core.tasks import EpochDone, FinalTask, Trained, Weights
from nas.core.trial import Rung
from nas.searching.evaluators import StudyContext
from workers.checkpoints import CheckpointClient, CheckpointServer

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")

SPEC = StudySpec(name="s", space="osa_tiny", objectives=(Objective(metric="error"),))
NETWORK = PUBLISHED["vovnet27_slim_cifar"]
TEACHER = Weights(architecture=NETWORK, path="s/final/teacher/weights.safetensors")
TASK = FinalTask(
    number=0,
    network=NETWORK.digest,
    architecture=NETWORK,
    recipe=Recipe(epochs=2.0),
    seed=1,
    folder="s/final/pupil",
    teacher=TEACHER,
)


@pytest.fixture
def driver(tmp_path):
    """The driver's folder, which holds the weights of a teacher."""
    path = tmp_path / "driver" / TEACHER.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"teacher")
    return tmp_path / "driver"


def worker(driver):
    """Return a client on a node that has another folder of the driver's name, and its folder."""
    server = CheckpointServer(str(driver))
    context = StudyContext(spec=SPEC, artifacts=str(driver.parent / "node"), folder="")
    client = CheckpointClient(context, lambda name, *given: getattr(server, name)(*given))
    folder = Path(client.context.artifacts)
    assert folder not in (driver, driver.parent / "node")
    return client, folder


def test_a_final_training_continues_on_another_node(driver):
    """It has the teacher's weights there, and the state after the last whole epoch."""
    client, folder = worker(driver)
    client.fetch(TASK)
    assert (folder / TEACHER.path).read_bytes() == b"teacher"
    going = folder / TASK.resume_file
    assert not going.exists()
    going.parent.mkdir(parents=True)
    going.write_bytes(b"after one epoch")
    client.deliver(TASK, EpochDone(epochs=1.0, loss=0.5))
    assert going.exists()

    other, elsewhere = worker(driver)
    other.fetch(TASK)
    assert (elsewhere / TASK.resume_file).read_bytes() == b"after one epoch"


def test_finished_weights_are_moved_to_the_driver(driver):
    """The worker keeps no copy."""
    client, folder = worker(driver)
    weights = f"{TASK.folder}/weights.safetensors"
    (folder / weights).parent.mkdir(parents=True)
    (folder / weights).write_bytes(b"weights")
    rung = Rung(epochs=2.0, metrics={"error": 0.5}, checkpoint=weights)
    client.deliver(TASK, Trained(rung=rung))
    assert (driver / weights).read_bytes() == b"weights"
    assert not (folder / weights).exists()
