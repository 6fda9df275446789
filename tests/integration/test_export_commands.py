"""The commands `nas export` and `nas verify`, on trained trials and on good and damaged bundles."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from output_schemas import differences
from safetensors.torch import load_file, save_file

from nas.cli import main
from nas.export.manifest import file_facts
from nas.export.verify import FORMAT
from nas.record import Store
from nas.training import read_checkpoint

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.slow

BUNDLES = Path(__file__).parent / "bundles"
SPACE = """
from nas.core.architecture import Attention, Stem
from nas.core.search_space import OsaSpace

SPACE = OsaSpace(
    stem=(Stem.CIFAR,), stem_mid=(4,), stem_out=(8,), mid_channels=((4, 8), (8,), (8,)),
    out_channels=((16,), (16,), (16,)), num_layers=(1,), num_blocks=(1,), kernel_size=(3,),
    residual=(False,), depthwise=(False,), attention=(Attention.LAST,),
)
"""
STUDY = """
name: two
space: space:SPACE
sampler: random
objectives:
  - {metric: error, reference: 100 %}
  - {metric: parameters, reference: 100 k}
  - {metric: macs, direction: maximize, reference: 0}
rungs: [{images: 320, image_size: 24}]
data: {dataset: digits, validation_images: 200}
training: {batch_size: 64, precision: fp32, channels_last: false}
budget: {trials: 8}
workers: {kind: local}
"""
"""A study of two networks that are both on the front, whatever their errors are.

One has fewer parameters, and the other has more MACs.
"""


def nas(*arguments):
    """Run a command in this process."""
    return CliRunner().invoke(
        main, [str(argument) for argument in arguments], catch_exceptions=False
    )


def lines(outcome, beginning):
    """Return the output lines with this beginning, without it."""
    return [
        line.removeprefix(beginning)
        for line in outcome.output.splitlines()
        if line.startswith(beginning)
    ]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The record of the study of two networks."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "space.py").write_text(SPACE)
    (folder / "study.yaml").write_text(STUDY)
    code = "from nas.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "search", "study.yaml"],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "nas.db"


@pytest.fixture
def members(searched):
    """The trials of the front, in its order."""
    with Store.open(searched, read_only=True) as store:
        return [store.trial("two", number) for number in store.fronts("two")[-1].members]


def as_exported(database, trial, output):
    """Write those files of a trial's bundle by which it is known, without exporting it."""
    folder = output / f"trial-{trial.number}"
    folder.mkdir()
    with Store.open(database, read_only=True) as store:
        (study,) = store.studies()
    checkpoint = database.parent / study.artifacts / trial.evaluation.rungs[-1].checkpoint
    save_file(dict(read_checkpoint(checkpoint).weights), folder / "model.safetensors")
    facts = {
        "format": FORMAT,
        "digest": trial.architecture.digest,
        "architecture": trial.architecture.to_dict(),
        "classes": study.preparation.classes,
        "image_size": 24,
        "mean": study.preparation.mean,
        "std": study.preparation.std,
    }
    (folder / "architecture.json").write_text(json.dumps(facts))
    (folder / "record.json").write_text(json.dumps({"study": "two", "trial": trial.number}))


class TestExport:
    """`nas export` writes the trials that its options name."""

    @pytest.mark.long
    def test_knee_and_front(self, searched, tmp_path):
        """`--knee` and `--front` export the same members as `nas front` shows.

        A bundle that exists is kept. The weights are those of the last checkpoints.
        """
        asked = ("two", "--database", searched)
        (knee,) = json.loads(nas("front", *asked, "--knee", "--format", "json").output)["members"]
        members = json.loads(nas("front", *asked, "--format", "json").output)["members"]
        place = tmp_path / f"trial-{knee['trial']}"
        first = nas("export", *asked, "--knee", "-o", place, "--no-latency")
        assert first.exit_code == 0, first.output
        assert f"{place}: trial {knee['trial']}, " in first.output
        all_of_them = nas("export", *asked, "--front", "-o", tmp_path, "--no-latency")
        assert all_of_them.exit_code == 0, all_of_them.output
        assert lines(all_of_them, f"{place} ") == ["is there already, and stays as it is"]
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            f"trial-{m['trial']}" for m in members
        )
        assert len(members) == 2
        with Store.open(searched, read_only=True) as store:
            (study,), trials = (
                store.studies(),
                {trial.number: trial for trial in store.trials("two")},
            )
        for member in members:
            trial, folder = trials[member["trial"]], tmp_path / f"trial-{member['trial']}"
            facts = json.loads((folder / "architecture.json").read_text())
            assert facts["digest"] == trial.architecture.digest
            assert facts["image_size"] == 24  # of the last rung; the data set's have 32 pixels
            checkpoint = read_checkpoint(
                searched.parent / study.artifacts / trial.evaluation.rungs[-1].checkpoint
            )
            weights = load_file(folder / "model.safetensors")
            assert weights.keys() == checkpoint.weights.keys()
            assert all(weights[name].equal(value) for name, value in checkpoint.weights.items())

    def test_several_trials_have_a_folder_each(self, searched, members, tmp_path):
        """A repeated `--trial` exports to DIR/trial-N, as `--front` does; a bundle is kept."""
        for trial in members:
            as_exported(searched, trial, tmp_path)
        options = [word for trial in members for word in ("--trial", trial.number)]
        done = nas("export", "two", *options, "-o", tmp_path, "--database", searched)
        assert done.exit_code == 0, done.output
        assert lines(done, f"{tmp_path}/trial-") == [
            f"{trial.number} is there already, and stays as it is" for trial in members
        ]

    def test_a_bundle_of_another_licence_is_not_kept(self, searched, members, tmp_path):
        """One line names its card. With the licence that it states, it is kept."""
        for trial in members:
            as_exported(searched, trial, tmp_path)
            (tmp_path / f"trial-{trial.number}" / "README.md").write_text(
                "---\nlicense: mit\n---\n"
            )
        options = [word for trial in members for word in ("--trial", trial.number)]
        command = ("export", "two", *options, "-o", tmp_path, "--database", searched, "--license")
        refused = nas(*command, "cc0-1.0")
        assert refused.exit_code == 2
        assert "README.md does not state the licence cc0-1.0" in refused.output
        assert len(lines(nas(*command, "mit"), f"{tmp_path}/trial-")) == len(members)

    @pytest.mark.parametrize("other", ["weights", "study", "trial", "files"])
    def test_a_folder_with_something_else_is_refused(self, searched, members, tmp_path, other):
        """One line names it, and no other member is written."""
        folder = tmp_path / f"trial-{members[-1].number}"
        as_exported(searched, members[-1], tmp_path)
        if other == "weights":  # as those of another training
            weights = load_file(folder / "model.safetensors")
            weights["head.fc.bias"] += 1
            save_file(weights, folder / "model.safetensors")
        elif other == "files":
            (folder / "record.json").unlink()
        else:
            record = json.loads((folder / "record.json").read_text())
            record |= {"study": "one"} if other == "study" else {"trial": 99}
            (folder / "record.json").write_text(json.dumps(record))
        done = nas("export", "two", "--front", "-o", tmp_path, "--database", searched)
        assert done.exit_code == 2
        assert done.output == (
            f"error: {folder} holds something else than trial {members[-1].number} of two with the "
            "weights of its search; name a new folder with -o\n"
        )
        assert list(tmp_path.iterdir()) == [folder]

    @pytest.mark.parametrize("which", [(), ("--front", "--knee"), ("--front", "--trial", "0")])
    def test_exactly_one_option_names_the_trials(self, searched, tmp_path, which):
        """No option and two options are refused in one line, and nothing is written."""
        outcome = nas("export", "two", "--database", searched, *which, "-o", tmp_path / "bundle")
        assert outcome.exit_code == 2
        assert (
            outcome.output == "error: say what to export by one of --trial N, --front and --knee\n"
        )
        assert list(tmp_path.iterdir()) == []


@pytest.fixture
def damaged(bundle_of, tmp_path):
    """A copy of a good bundle, to be damaged."""
    return shutil.copytree(bundle_of("stock").folder, tmp_path / "damaged")


class TestVerify:
    """`nas verify` prints a line for each check, and exits with 1 if one of them fails."""

    @pytest.mark.parametrize("name", [path.name for path in BUNDLES.iterdir() if path.is_dir()])
    def test_a_bundle_of_an_earlier_version(self, name, tmp_path):
        """Every check passes with the present code."""
        folder = shutil.copytree(BUNDLES / name, tmp_path / name)
        outcome = nas("verify", folder, "--no-latency", "--json")
        assert outcome.exit_code == 0, outcome.output
        facts = json.loads(outcome.stdout)
        assert not differences("verify", facts)
        assert facts["passed"]
        assert len(facts["checks"]) == 36

    @pytest.mark.long
    def test_a_good_bundle_of_another_device(self, bundle_of):
        """Every loader has a line with its result, and no check fails. Both runtimes are measured,
        and a doubt about the latency fails with `--strict`.

        The doubt is that the search measured on another device, or that this one is busy.
        """
        outcome = nas("verify", bundle_of("stock").folder, "--strict")
        assert outcome.exit_code == 1
        passed = lines(outcome, "ok   ")
        assert lines(outcome, f"{len(passed)} checks, ") == ["0 failed"]
        assert "classifier.onnx: checksums that differ: found 0, allowed is 0" in passed
        assert "classifier.onnx: rules of ONNX that are broken: found 0, allowed is 0" in passed
        assert {line.partition(",")[0] for line in passed if "three sizes" in line} == {
            "timm",
            "modeling.py",
            "backbone.pt2",
            "backbone.onnx",
            "backbone_fp16.onnx",
            "classifier.onnx",
        }
        assert [line.split()[0] for line in lines(outcome, "latency in ")] == [
            "eager",
            "onnxruntime",
        ]
        assert any(
            "the search measured on A CPU, 1 thread" in line or "latency in " in line
            for line in lines(outcome, "WARNING: ")
        )

    def test_a_latency_that_cannot_be_measured_here(self, damaged):
        """It is a warning, and every check has its line. The runtime needs another device."""
        change_plan(damaged, runtime="graph")
        outcome = nas("verify", damaged)
        assert outcome.exit_code == 0, outcome.output
        assert len(lines(outcome, "ok   ")) > 30
        (doubt,) = (line for line in lines(outcome, "WARNING: ") if "in graph" in line)
        assert doubt.startswith("latency in graph is unavailable: runtime graph is a CUDA graph")
        assert lines(outcome, "latency in graph: unavailable: runtime graph") != []

    @pytest.mark.long
    def test_changed_files(self, damaged):
        """Each damage fails its own check beside that of the checksum.

        The weights, a count in the record, a path in the card and a BatchNormalization in an ONNX
        file are damaged. All files with the old weights then disagree with the new ones.
        """
        weights = load_file(damaged / "model.safetensors")
        weights["stem.0.conv.weight"] += 1
        save_file(weights, damaged / "model.safetensors")
        record = json.loads((damaged / "record.json").read_text(encoding="utf-8"))
        next(m for m in record["measurements"] if m["metric"] == "parameters")["value"] += 1
        (damaged / "record.json").write_text(json.dumps(record), encoding="utf-8")
        with (damaged / "README.md").open("a") as card:
            card.write("Made from /home/ada/search.\n")
        leave_a_norm(damaged / "backbone.onnx")
        outcome = nas("verify", damaged, "--no-latency")
        assert outcome.exit_code == 1
        failed = [line.partition(": found")[0] for line in lines(outcome, "FAIL ")]
        assert failed == [
            *(
                f"{name}: checksums that differ"
                for name in ("README.md", "backbone.onnx", "model.safetensors", "record.json")
            ),
            "difference of parameters from the record",
            "files that name a path of a machine: README.md",
            "BatchNormalization nodes left in backbone.onnx",
            "backbone.onnx, three sizes: relative difference from torch",
            "backbone.pt2, three sizes: values that differ in a bit",
            "backbone_fp16.onnx, three sizes: relative difference from torch",
            "classifier.onnx, three sizes: relative difference from torch",
        ]
        assert outcome.output.splitlines()[-1].endswith(f" checks, {len(failed)} failed")

    def test_a_missing_program(self, damaged):
        """Three checks fail: its checksum, the rules of ONNX, and the process that loads it."""
        (damaged / "classifier.onnx").unlink()
        outcome = nas("verify", damaged, "--no-latency")
        assert outcome.exit_code == 1
        missing, rule, probe = lines(outcome, "FAIL ")
        assert missing.startswith("classifier.onnx (missing): checksums that differ: ")
        assert rule.startswith("classifier.onnx (")
        assert probe.startswith("probe_plain fails in a fresh process: ")
        assert "classifier.onnx" in probe

    @pytest.mark.parametrize(
        ("name", "change", "reason"),
        [
            ("architecture.json", {"classes": 3}, "'int' object is not iterable"),
            ("architecture.json", {"image_size": "32"}, "image_size"),
            ("architecture.json", {"digest": ...}, "'digest' is missing"),
            ("record.json", {"measurements": [{"metric": "latency"}]}, "'kind' is missing"),
            ("record.json", {"recipe": {"measurement": {"image_size": -1}}}, "image_size"),
            ("manifest.json", {"files": []}, "'list' object has no attribute 'items'"),
        ],
    )
    def test_values_that_export_never_writes(self, damaged, name, change, reason):
        path = damaged / name
        values = json.loads(path.read_text()) | change
        path.write_text(json.dumps({key: value for key, value in values.items() if value != ...}))
        outcome = nas("verify", damaged)
        assert outcome.exit_code == 2
        assert outcome.stderr.startswith(f"error: {path}")
        assert reason in outcome.stderr

    @pytest.mark.parametrize("package", ["onnx", "onnxruntime", "timm"])
    def test_without_the_extra(self, damaged, package, monkeypatch):
        """One line says what to install; the files are not called damaged."""
        monkeypatch.setitem(sys.modules, package, None)
        outcome = nas("verify", damaged)
        assert outcome.exit_code == 2
        assert outcome.output == (
            f"error: this needs the package {package!r}: pip install 'osa-nas[export]'\n"
        )

    @pytest.mark.parametrize(
        "name", ["manifest.json", "architecture.json", "record.json", "model.safetensors"]
    )
    def test_a_folder_that_is_no_bundle(self, damaged, name):
        """One line names the missing file that describes the others, and the exit code is 2."""
        (damaged / name).unlink()
        outcome = nas("verify", damaged, "--no-latency")
        assert outcome.exit_code == 2
        (error,) = lines(outcome, "error: ")
        assert str(damaged / name) in error


def change_plan(folder, **changes):
    """Let the record say that the search measured on a CPU under a plan with these changes."""
    path = folder / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    latency = next(m for m in record["measurements"] if m["metric"] == "latency")
    latency["device"]["kind"] = "cpu"
    latency["plan"] |= changes
    path.write_text(json.dumps(record), encoding="utf-8")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["record.json"]["sha256"] = file_facts(path)["sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def leave_a_norm(path):
    """Add a BatchNormalization of the first output to the file, which changes no other output."""
    proto = onnx.load(path)
    output = proto.graph.output[0]
    width = output.type.tensor_type.shape.dim[1].dim_value
    values = {f"norm.{name}": [1.0] * width for name in ("scale", "bias", "mean", "var")}
    proto.graph.initializer.extend(
        onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, [width], value)
        for name, value in values.items()
    )
    proto.graph.node.append(
        onnx.helper.make_node("BatchNormalization", [output.name, *values], ["normed"])
    )
    onnx.save(proto, path)
