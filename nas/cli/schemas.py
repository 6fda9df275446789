"""The schemas of the JSON that commands print, each with a version.

`docs/output.md` holds them as a table, and a test compares them with what the commands print. A
version grows by 1 if a key is removed or changes its meaning; new keys leave it as it is.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Keys = Mapping[str, str]
"""Meanings by path. `a.b` is the key b of the object a, `a[]` an element of the list a, and `a.*`
the value of any other key of a. A path that ends in `?` may be missing.
"""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The document that a command prints. `command` names the command."""

    command: str
    keys: Keys
    version: int = 1


def differences(name: str, document: Any) -> list[str]:
    """Return the differences between a printed document and its schema, none if it keeps it."""
    schema = SCHEMAS[name]
    tree: dict[str, Any] = {"schema": {}, "version": {}}
    for path in schema.keys:
        node = tree
        for part in re.findall(r"\[\]|[^.\[]+", path):
            node = node.setdefault(part, {})
    problems = [*_differences(tree, document, name)]
    if isinstance(document, Mapping):
        head = document.get("schema"), document.get("version")
        problems += [f"{name}: the head is {head}"] * (head != (name, schema.version))
    return problems


def _differences(tree: Mapping[str, Any], value: Any, place: str) -> Iterator[str]:
    """Compare a value with the keys below one path; a path without such keys has any value."""
    if not tree or value is None:
        return
    if "[]" in tree:
        if not isinstance(value, list):
            yield f"{place} is no list"
            return
        for element in value:
            yield from _differences(tree["[]"], element, f"{place}[]")
        return
    if not isinstance(value, Mapping):
        yield f"{place} is no object"
        return
    for key, each in value.items():
        below = tree.get(key, tree.get(f"{key}?", tree.get("*")))
        if below is None:
            yield f"{place} has the unknown key {key}"
        else:
            yield from _differences(below, each, f"{place}.{key}")
    for key in tree.keys() - value.keys():
        if key != "*" and not key.endswith("?"):
            yield f"{place} lacks the key {key}"


def _under(path: str, keys: Keys) -> dict[str, str]:
    """Return the keys of a part of a document."""
    return {f"{path}.{name}": meaning for name, meaning in keys.items()}


FIGURE = {
    "metric": "name",
    "unit": "SI unit of value, ends and samples",
    "value": "the figure, null without one",
    "ci_low": "lower end of the 95 % interval",
    "ci_high": "upper end of the 95 % interval",
    "samples": "accepted readings in order",
    "kind": "measured, counted or modelled",
    "method": "how it was measured",
    "status": "ok, noisy, contended, throttled or unavailable",
    "reason": "why it is not ok",
    "device": "the device, null for counted figures",
    "plan": "the conditions, null for counted figures",
    "details": "readings and settings of the method",
    "started_at": "time, ISO 8601",
}
OBJECTIVE = {
    "metric": "name; METRIC@DEVICE if the objective names a device",
    "device": "the device that the objective names, null for the study's own",
    "direction": "minimize or maximize",
    "limit": "worst accepted value, null without one",
    "reference": "value of the hypervolume's reference point",
}
WORK = {
    "driver": "the process that drives the study, null if none does",
    "workers": "largest number of workers",
    "works": "list of running trials: trial, worker, doing, lasted_s",
    "device": "sentences on the device and its last figure",
}
USAGE = "epochs, seconds and joules"
TRIAL = {
    "study": "name of the study",
    "trial": "number",
    "state": "running, complete, stopped or failed",
    "reason": "why it stopped or failed",
    "duplicate_of": "earlier trial of the same network, or null",
    "origin": "where it was evaluated, if not in this study, else null",
    "digest": "identity of the network",
    "architecture": "the network",
    "params": "value of each choice of the space",
    **_under("figures[]", FIGURE),
    "rungs": "list: epochs, metrics on the validation images, train_s, validation_s, …",
    "seeds": "values of each trained metric, that of the search's own seed first",
}
NETWORK = {
    "image_size": "pixels of a side",
    "classes": "number of classes",
    "digest": "identity of the network",
    "architecture": "the network",
    "parameters": "number of parameters",
    "macs": "multiply-accumulates for an image",
    "memory_access_cost": "elements moved for an image",
    "activations": "outputs of convolutions for an image",
    "convolutions": "number of convolutions",
}
SPREAD = "median, low and high over rounds"

SCHEMAS: Mapping[str, Schema] = {
    "studies": Schema(
        command="nas status, nas study list",
        keys={
            "studies[].name": "name",
            "studies[].dataset": "data set that is used",
            "studies[].created_at": "time, ISO 8601",
            "studies[].trials": "number of trials by state",
            "studies[].objectives": "metrics that the study optimises",
            "studies[].hypervolume": "of the newest front, null without one",
            **_under("studies[].work", WORK),
            "studies[].archived": "true if it is hidden from lists",
        },
    ),
    "study": Schema(
        command="nas status STUDY",
        keys={
            "name": "name",
            "space": "search space",
            "sampler": "sampler",
            "dataset": "data set that is used",
            "created_at": "time, ISO 8601",
            **_under("objectives[]", OBJECTIVE),
            "trials": "number of different networks by state",
            "repeated": "proposals of a network that was proposed before",
            "skipped": "networks that were stopped before any training",
            "copied": "networks that were evaluated elsewhere, which count in no budget",
            "searched_s": "seconds in which a trial was worked on",
            "spent": f"{USAGE} of all trials",
            "engine_s": "seconds of ended trials beyond these",
            "engine_j": "joules of ended trials beyond these",
            "replicates": "trainings with other seeds",
            "spent_again": f"{USAGE} of these",
            "finals": "final trainings",
            "spent_finally": f"{USAGE} of these",
            "budget": "limits of the search without the share of fresh, null without a limit",
            "fresh": "share of every budget for trainings with new seeds",
            "baselines.named": "networks beside the search, by name",
            "baselines.finished": "those of them that are measured and trained",
            "hypervolume": "of the newest front, null without one",
            "hypervolumes[].after": "number of finished trials",
            "hypervolumes[].value": "hypervolume after these",
            "agreements": "list: Kendall's tau of a metric between each rung and the last one",
            "futility": "list: rung, and the state of the rule there",
            **_under("work", WORK),
            "failed[].trial": "number",
            "failed[].reason": "why it failed",
        },
    ),
    "front": Schema(
        command="nas front",
        keys={
            "study": "name of the study",
            "feasible": "true if the members are within every limit",
            "hypervolume": "of this front, null without one",
            "after": "number of finished trials",
            "members[].trial": "number",
            "members[].*": "each metric, its interval as METRIC_low and METRIC_high, its test "
            "figures as final_METRIC, violation, standing",
            "members[].digest": "first 12 digits of the network's identity",
            "members[].architecture": "the network",
            "conditions.*": "recipe of trained figures; METRIC_device, METRIC_plan and "
            "METRIC_method of measured ones",
            "possible?": "trials that may be on the front within the intervals",
            "device?": "the device of --device",
            "fallen?": "why each other measured member is off the front there, by trial",
            "missing?": "members that were not measured there",
            "baselines[].baseline": "name of a network beside the search",
            "baselines[].*": "each metric, its interval as METRIC_low and METRIC_high",
            "baselines[].beaten_by": "members that are better in one objective and worse in none",
        },
    ),
    "show": Schema(
        command="nas show",
        keys={
            **_under("network", NETWORK),
            **_under("trial", TRIAL),
            "final": "list, one a recipe: epochs, seeds, metrics on the test images by seed",
            "dominates": "feasible trials that this one dominates, null if it has no rank",
            "dominated_by": "feasible trials that dominate it",
            "compared": "number of feasible trials",
            "similar": "the most similar trials, the nearest first",
            "export": "command that exports it, null without weights",
            "latency_shares": "share of each part in the latency with --latency, else null",
        },
    ),
    "compare": Schema(
        command="nas compare",
        keys={
            **_under("trials[]", TRIAL),
            "different": "names of the choices that differ",
            "same_network": "true if both are the same network",
        },
    ),
    "event": Schema(
        command="nas search (--events, a line for each event)",
        keys={
            "event": "begun, trial (it was recorded), or ended",
            "at": "time, ISO 8601",
            "study": "name of the study",
            **_under("objectives[]", OBJECTIVE),
            "trials": "number of trials so far",
            "hypervolume": "of the front at this moment, null without one",
            "front": "trials on the front at this moment",
            "reason": "why the search ended, else null",
            **_under("trial", TRIAL),
        },
    ),
    "check": Schema(
        command="nas check",
        keys={
            "study": "name of the study",
            "space": "search space",
            "cardinality": "number of networks in it",
            "dataset": "data set that will be used, null for a study that trains nothing",
            "classes": "number of classes",
            "device": "device that measures",
            "runtime": "runtime that measures",
            "warnings": "sentences",
            "costs[].metric": "name",
            "costs[].unit": "SI unit",
            "costs[].quantiles": "least, 25 %, median, 75 % and most of random networks",
            "costs[].limit": "worst accepted value, null without one",
            "costs[].within": "share within the limit",
            "costs[].figures": "number of networks with a figure",
            "costs[].noisy": "number of noisy figures",
            "networks": "number of random networks",
            "complete": "those with all figures",
            "within": "those of them within all limits",
            "failures": "why the others lack figures",
            "published[].name": "a published VoVNet of the space",
            "published[].violation": "share by which it is over the limits in all",
            "published[].failure": "why it lacks figures",
            "published[].values": "value of each cost",
            "forecast.searching_s": "value, low and high of the seconds of searching",
            "forecast.networks": "the same of the networks that are trained",
            "forecast.limit": "the budget that ends the search",
            "forecast.memory_bytes": "the same of the memory of all processes; null if unknown",
            "forecast.baselines_s": "seconds of the baselines, which are no searching",
            "forecast.new_seeds_s": "seconds of the trainings with new seeds after the search",
        },
    ),
    "doctor": Schema(
        command="nas doctor",
        keys={
            "checks[].what": "the part",
            "checks[].available": "true if it can be used",
            "checks[].detail": "what it is, or why it cannot be used",
        },
    ),
    "measure": Schema(
        command="nas measure, nas detect measure",
        keys={
            "figures[].target": "the network",
            "figures[].macs": "multiply-accumulates for an image",
            **_under("figures[]", FIGURE),
        },
    ),
    "remeasure": Schema(
        command="nas study remeasure",
        keys={
            "study": "name of the study",
            "plan": "the conditions",
            "members[].trial": "number",
            "members[].*": "each metric in the study, and METRIC_here, METRIC_here_low and "
            "METRIC_here_high here",
            "members[].standing": "how sure its membership is here",
            "members[].fallen": "why it falls off the front here, null if it stays",
            "orders": "list: metric, Kendall's tau of the orders, number of members",
        },
    ),
    "devices": Schema(
        command="nas device list",
        keys={
            "devices[].name": "name",
            "devices[].address": "address of the agent",
            "devices[].token_file": "file of its token, or null",
            "devices[].provider": "execution provider of ONNX Runtime",
            "devices[].identity": "the one device that answered",
        },
    ),
    "device": Schema(
        command="nas device show",
        keys={
            "name": "name",
            "address": "address of the agent",
            "token_file": "file of its token, or null",
            "provider": "execution provider of ONNX Runtime",
            "identity": "the one device that answered",
            "facts": "what the agent says of its device",
        },
    ),
    "verify": Schema(
        command="nas verify",
        keys={
            "passed": "true if every check passed",
            "checks[].name": "the check",
            "checks[].found": "largest deviation",
            "checks[].allowed": "largest allowed deviation",
            "checks[].passed": "true if it passed",
            **_under("figures[]", FIGURE),
            "warnings": "sentences",
        },
    ),
    "record": Schema(
        command="nas db check",
        keys={
            "record": "address without password",
            "studies": "number of studies",
            "trials": "number of trials",
            "problems": "sentences, none if the record is sound",
        },
    ),
    "detection": Schema(
        command="nas detect evaluate",
        keys={
            "images": "number of images",
            "voc07": "VOC's average precision of 2007, mean over classes",
            "voc10": "that of 2010",
            "classes": "list of classes: name, truths, voc07, voc10, coco, precision",
            "coco": "COCO's figures by name",
            "coco_masks": "COCO's figures of masks by name",
        },
    ),
    "detection comparison": Schema(
        command="nas detect compare",
        keys={
            "images": "number of images",
            "first": "list: AP50 of each training of the first detector, VOC's area of 2010",
            "second": "that of each training given by --against",
            "difference": "difference of their means",
            "low": "lower bound of its 95 % interval, a bootstrap over the images",
            "high": "upper bound",
        },
    ),
    "peers": Schema(
        command="nas paper peers",
        keys={
            "device": "the device",
            "plan": "the conditions; an image size of a network comes first",
            "certified": "true for the tier certify",
            "networks[].name": "name",
            "networks[].family": "family",
            "networks[].target": "what was measured",
            "networks[].image_size": "pixels of a side",
            "networks[].batch_size": "images in a batch",
            "networks[].counts": "counts for an image, by name",
            "networks[].figures": "by name: value, low, high, rounds, noisy, reason",
        },
    ),
    "connections": Schema(
        command="nas paper connections",
        keys={
            "weak": "share of the strongest source below which a connection is weak",
            "networks[].model": "the file",
            "networks[].blocks[].block": "name",
            "networks[].blocks[].targets": "target layers",
            "networks[].blocks[].strengths": "mean |w| by target and source, null for none",
            "networks[].blocks[].statistics": "weak_share, evenness, correlation, sources",
        },
    ),
    "ablate": Schema(
        command="nas paper ablate",
        keys={
            "zeroed": "weights that are zero now",
            "total": "weights of these layers",
            "images": "number of test images, null if nothing was tested",
            "accuracy_before": "share of right answers",
            "accuracy_after": "share of right answers",
        },
    ),
    "bench engine": Schema(
        command="nas bench engine",
        keys={
            "workers": "kind and number of workers",
            "sampler": "sampler",
            "trials_before": "trials of the record at the start",
            "start_s": "seconds until the search could begin",
            "trials": "trials that ended",
            "duration_s": "seconds of these",
            "memory_bytes": "memory of the driver at the start and at the end",
            "tenths[].seconds_per_trial": "in a tenth of the trials",
            "tenths[].memory_bytes": "memory of the driver at its end",
            "growth_bytes_per_trial": "in the second half, null for fewer than ten trials",
        },
    ),
    "bench instrument": Schema(
        command="nas bench instrument (a line for each figure)",
        keys={
            "what": "the figure",
            "found": "its value as text",
            "asked": "what is required",
            "holds": "true, false, or null without a requirement",
            "details": "all samples",
        },
    ),
    "plan": Schema(
        command="nas plan",
        keys={
            "study": "name",
            "networks": "number of networks that were trained",
            "over_limits": "number of networks over a limit, which were only measured",
            "macs": "fewest and most MACs of the trained networks",
            "measure_s": "seconds of measuring a network",
            "yardstick": "rungs of the longer training",
            "recipes[].name": "recipe",
            "recipes[].rungs": "its rungs, as in a study file",
            "recipes[].trained": "networks that it trained",
            "recipes[].failed": "failed trainings",
            "recipes[].seconds": "seconds of a training and its judging",
            "recipes[].networks": "networks that the study's budget trains",
            "recipes[].seed_deviation": "deviation of errors between seeds: value, low, high",
            "recipes[].network_deviation": "between networks, without seeds: value, low, high",
            "recipes[].right_order": "chance of the right order: value, low, high",
            "recipes[].smallest_difference": "by number of seeds: value, low, high",
            "recipes[].tau": "Kendall's tau with the yardstick: value, low, high",
            "recipes[].lead": "expected lead of the best network: value, low, high",
            "recipes[].best_in": "share of bootstrap samples with the largest lead",
            "recipes[].rivals": "recipes that are not distinguishable from it",
            "best": "the recipe with the largest lead, null if unknown",
            "fresh": "best share for new seeds: value, low, high; null if unknown",
            "notes": "what was left out",
        },
    ),
    "bench proxy": Schema(
        command="nas bench proxy",
        keys={
            "epochs": "epochs of the long trainings",
            "networks": "number of networks with a long training",
            "recipes[].name": "recipe",
            "recipes[].networks": "networks that it trained",
            "recipes[].seeds": "seeds of each",
            "recipes[].failed": "failed trainings",
            "recipes[].seconds": "CPU seconds of a training",
            "recipes[].relative": "the same in reference trainings",
            "recipes[].tau": "Kendall's tau with the long trainings: value, low, high",
            "recipes[].correlation": "correlation at equal MACs: value, low, high",
            "recipes[].better": "share of bootstrap samples above the first recipe",
            "recipes[].seed_tau": "tau of two seeds: value, low, high",
            "recipes[].seed_deviation": "deviation of seeds, a share of the images",
        },
    ),
    "bench search": Schema(
        command="nas bench search",
        keys={
            "problem": "table or space, and settings",
            "evaluations": "evaluations of each run",
            "first_seed": "the other seeds follow this one",
            "samplers[].sampler": "name",
            "samplers[].seeds": "number of runs",
            "samplers[].hypervolumes[].evaluations": "number of evaluations",
            "samplers[].hypervolumes[].mean": "share of the true front's hypervolume, over seeds",
            "samplers[].hypervolumes[].deviation": "standard deviation over seeds",
            "samplers[].distinct": "mean number of different networks",
            "samplers[].seconds_per_proposal": "CPU seconds",
            "lead[].sampler": "the sampler that the first one is compared with",
            "lead[].needed": "evaluations of the first for the other's final value, null if more",
            "lead[].of": "evaluations of the other",
            "lead[].needed_without_repeats": "the same if repeats are not charged",
            "lead[].of_without_repeats": "the same if repeats are not charged",
            "lead[].p_value": "of Wilcoxon's test, Holm-corrected, null for too few pairs",
            "lead[].behind": "evaluations after which the first is behind, as text",
        },
    ),
    "bench stopping": Schema(
        command="nas bench stopping",
        keys={
            "networks": "number of networks",
            "epochs": "epochs of the rungs",
            "front": "number of networks on the front",
            "orders": "number of orders",
            "rungs[].epochs": "epochs",
            "rungs[].tau": "Kendall's tau with the last rung",
            "rungs[].top_tau": "the same over the best quarter",
            "rungs[].futility": "state of the rule",
            "rules[].rule": "name",
            "rules[].epochs": "epochs of each order",
            "rules[].finished": "networks at the last rung, of each order",
            "rules[].front": "those on the front, of each order",
            "rules[].hypervolumes": "list: epochs, and the share of all networks' hypervolume of "
            "each order",
            "rules[].epochs_to_goal": "epochs to 95 % of the hypervolume, null if never",
        },
    ),
    "bench store": Schema(
        command="nas bench store",
        keys={
            "trials": "trials of the record",
            "writes[].storage": "osa-nas or Optuna",
            "writes[].processes": "writers",
            "writes[].trials_per_s": "null if a writer failed",
            "writes[].reason": "why it failed",
            "reads[].command": "command, or what is read",
            "reads[].seconds": "median seconds",
        },
    ),
    "bench training": Schema(
        command="nas bench training",
        keys={
            "device": "name",
            "networks[].network": "name",
            "networks[].macs": "multiply-accumulates for an image",
            "networks[].numerics": "number format and layout",
            "networks[].ours": f"images per second: {SPREAD}",
            "networks[].bare": f"bare steps: {SPREAD}",
            "networks[].plain": f"plain loop: {SPREAD}",
            "networks[].machine": f"ours on each core: {SPREAD}",
            "networks[].machine_plain": f"plain loop with torch's threads: {SPREAD}",
            "networks[].ours_to_bare": f"ratio: {SPREAD}",
            "networks[].ours_to_plain": f"ratio: {SPREAD}",
            "networks[].machine_to_plain": f"ratio: {SPREAD}",
        },
    ),
}
"""All schemas by name."""
