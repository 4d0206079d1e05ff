"""The README of an exported network: how to load it, and measure it again, with PyTorch alone."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from trainables.core.rng import derive
from trainables.data import DATASETS
from trainables.export.saved import CARD, CONFIRMED, EXAMPLES, ONNX, PROGRAM, WEIGHTS

PLAIN_STEPS = 50
"""Steps of the README's attack where the study's own is another kind."""


def readme(card: dict[str, Any], files: Collection[str]) -> str:
    """Return the README for a card and the files beside it."""
    parts = [_head(card), _files(files)]
    if PROGRAM in files:
        parts.append(_load(card))
        if EXAMPLES in files:
            parts.append(_again(card))
        if CONFIRMED in files:
            parts.append(_confirmed(card))
    else:
        parts.append(f"There is no `{PROGRAM}`: {_quoted(card['program']['missing'])}\n\n{_ours(card)}")
    if ONNX in files:
        parts.append(_onnx(card))
    return "\n\n".join(parts) + "\n"


def _quoted(text: str) -> str:
    """Return text of a study as code in one line of Markdown."""
    return "`" + " ".join(str(text).replace("`", "'").split()) + "`"


def _percent(accuracy: dict[str, Any]) -> str:
    value, low, high = (100 * accuracy[name] for name in ("value", "low", "high"))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def _head(card: dict[str, Any]) -> str:
    protocol, shape = card["protocol"], " x ".join(map(str, card["shape"]))
    lines = [
        f"# Point {_quoted(card['point'])} of the study {_quoted(card['study'])}",
        "",
        f"- network: {_quoted(card['model'].get('name') or card['model']['kind'])} on {_quoted(card['data']['kind'])}",
        f"- input: images (N, {shape}) of float32 pixels in [0, 1], RGB where there are three channels; the network "
        "normalises them itself, if at all",
        f"- output: {card['classes']} logits; `class_names` in `model.json`, if known, names the classes in order",
        f"- search estimate on {protocol['examples']} images of the validation split under "
        f"{_quoted(protocol['label'])}, {protocol['norm']}, eps = {_quoted(protocol['eps_text'])}: robust "
        f"{_percent(card['robust_accuracy'])}, clean {_percent(card['clean_accuracy'])}, with 95 % Wilson intervals",
    ]
    if confirmed := card.get("confirmed"):
        lines.append(
            f"- confirmed on {confirmed['examples']} images of the test split under {_quoted(confirmed['attack'])}: "
            f"robust {_percent(confirmed['robust_accuracy'])}, clean {_percent(confirmed['clean_accuracy'])}"
            + ("" if confirmed["complete"] else "; not all planned attacks were run")
        )
    else:
        lines.append("- not confirmed: there is no number from the test split")
    if card["flags"]:
        lines.append(f"- flags: {_quoted(', '.join(card['flags']))}")
    return "\n".join(lines)


_WHAT = {
    WEIGHTS: "the weights, pruned ones 0; names with the prefix `alive/` belong to a network without its "
    "dead filters and are not weights",
    CARD: "the card: architecture, data, protocol, accuracies, hashes of all other files",
    PROGRAM: "the network as a `torch.export` program, with its weights",
    ONNX: "the network in ONNX",
    EXAMPLES: "the images of the search estimate: `index` is the row among the training images in the order of "
    "their files (with `select` in `data`: of those classes), `clean` and `robust` are 1 for a correct one",
    CONFIRMED: "the images of the confirmed numbers, by their position in the order given below",
}


def _files(files: Collection[str]) -> str:
    return "## Files\n\n" + "\n".join(f"- `{name}`: {what}" for name, what in _WHAT.items() if name in files)


def _load(card: dict[str, Any]) -> str:
    return f"""## Load

Needs `torch` {card["versions"]["torch"].split("+")[0]} or later, and `safetensors`; nothing of robustsearch.

```python
import torch
from safetensors.torch import load_file

net = torch.export.load("model.pt2").module()
weights = {{name: t for name, t in load_file("model.safetensors").items() if name in net.state_dict()}}
net.load_state_dict(weights, strict=False)  # not strict: a tied weight has one name in the file
net = net.requires_grad_(False).to(memory_format=torch.channels_last)
```"""


def _ours(card: dict[str, Any]) -> str:
    allowed = ", allow_plugins=True" if card["plugins"] else ""
    return f"""## Load

```python
from trainables.export import saved

net = saved.load("."{allowed})
```"""


def _again(card: dict[str, Any]) -> str:
    measured, eps = card["examples"], card["protocol"]["eps"]
    attack, said = _attack(card)
    settings = ", ".join(f"{name}={value!r}" for name, value in attack.items())
    smaller = (
        "\nThis network is the smaller one, without dead filters; the verdicts `robust` are those of the full one.\n"
        if "shrunk" in card
        else ""
    )
    arrays = _arrays(card)
    return f"""## Measure again

{_SCIKIT if arrays else _FILES}
The clean verdicts are equal, bit for bit, on a CPU that rounds alike.
{said}
{smaller}
```python
import hashlib

import numpy as np

for part in (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv):
    part.fp32_precision = "ieee"
{arrays or _LOADED}
index, label, clean, *_ = np.genfromtxt("examples.csv", delimiter=",", skip_header=1, dtype=int, unpack=True)
stored, y = images[index], torch.tensor(labels[index])
same = hashlib.sha256(np.ascontiguousarray(stored).tobytes() + y.numpy().astype("<i8").tobytes()).hexdigest()
assert same == {json.dumps(measured["images_sha256"])}, "these are other images"
x = (torch.tensor(stored).float() / {measured["scale"]}).contiguous(memory_format=torch.channels_last)


def correct(x, y):
    with torch.no_grad():
        logits = torch.cat([net(part) for part in x.split({measured["batch"]})])
    return (logits.argmax(1) == y) & logits.isfinite().all(1)


def project(z, x, eps):
{_PROJECTIONS[card["protocol"]["norm"]]}


def ascended(loss, logits, y):
    if loss == "ce":
        return torch.nn.functional.cross_entropy(logits, y, reduction="sum")
    true = torch.nn.functional.one_hot(y, logits.shape[1]).bool()
    return (logits.masked_fill(true, -torch.inf).amax(1) - logits[true]).sum()


def attacked(x, y, eps, {settings}):
    generator, stands = torch.Generator().manual_seed(0), correct(x, y)
    for loss in losses * restarts:
        z = project(x + eps * (2 * torch.rand(x.shape, generator=generator) - 1), x, eps)
        for _ in range(steps):
            z = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(ascended(loss, net(z), y), z)
            z = project(z.detach() + size * eps * {_DIRECTIONS[card["protocol"]["norm"]]}, x, eps)
            stands &= correct(z, y)
    return stands


found = correct(x, y)
print("clean", int(found.sum()), "of", len(y), "as in examples.csv:", np.array_equal(found.numpy(), clean == 1))
parts = zip(x.split({measured["batch"]}), y.split({measured["batch"]}))
robust = torch.cat([attacked(a, b, {eps!r}) for a, b in parts])
print("robust", int(robust.sum()), "of", len(y))
```"""


def _arrays(card: dict[str, Any]) -> str:
    """Return the code that makes the training images, where the data set has some."""
    data = {name: value for name, value in card["data"].items() if name != "sha256"}
    return DATASETS.parse(data).arrays_code() if data["kind"] in DATASETS else ""


_FILES = """\
Save the training images of the data set, in the order of their files, as `images.npy`, uint8 (N, C, H, W), and their
classes, numbered from 0, as `labels.npy`. Each number is that of the class in `class_names`."""
_SCIKIT = "The images come with `scikit-learn`; the code divides them as the study did."
_LOADED = 'images, labels = np.load("images.npy"), np.load("labels.npy")\n'
_PROJECTIONS = {
    "linf": "    return z.clamp(x - eps, x + eps).clamp(0, 1)",
    "l2": "    step = z - x\n    length = step.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)\n"
    "    return (x + step * (eps / length).clamp(max=1)).clamp(0, 1)",
}
_DIRECTIONS = {
    "linf": "gradient.sign()",
    "l2": "gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)",
}


def _attack(card: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return losses, steps, step length as a share of eps and restarts of the README's attack; what its result says."""
    attack = card["protocol"]["attack"]
    label = _quoted(card["protocol"]["label"])
    loss = attack.get("loss", "ce")
    if attack.get("kind") == "pgd" and loss in ("ce", "margin") and attack.get("random_start", True):
        steps = attack["steps"]
        size = max(2.5 / steps, 0.25) if attack.get("step_size") is None else attack["step_size"]
        said = (
            f"The robust ones are those of {label} with other random draws: the accuracy is the same within one "
            "percentage point, or two images."
        )
        return {"losses": (loss,), "steps": steps, "size": size, "restarts": attack.get("restarts", 1)}, said
    said = (
        f"The search measured robust accuracy by {label}, whose fields `model.json` has. The attack below, PGD on the "
        "cross-entropy and on the margin, is another one:\nits accuracy is an upper bound as well, "
        "and need not be the same."
    )
    return {"losses": ("ce", "margin"), "steps": PLAIN_STEPS, "size": 0.1, "restarts": 1}, said


def _confirmed(card: dict[str, Any]) -> str:
    rows = "images, those of `np.sort(test)` above" if _arrays(card) else "files"
    return f"""## The confirmed images

`confirmed.csv` numbers the test images in this order, in which `order[position]` is the row of the test {rows}:

```python
order = np.random.default_rng({derive("test")}).permutation(number_of_test_images)
```

`robust` is 1 where no attack broke the image within eps = {_quoted(card["protocol"]["eps_text"])}; `confirmed` in
`model.json` lists the attacks."""


def _onnx(card: dict[str, Any]) -> str:
    onnx = card["onnx"]
    return f"""## ONNX

Checked by ONNX Runtime {onnx["versions"]["onnxruntime"]} on batches of {", ".join(map(str, onnx["batches"]))}
validation images: logits differ by {onnx["largest_difference"]:.1g} of the largest one, where {onnx["tolerance"]:g} is
allowed.

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
logits = session.run(["{onnx["output"]}"], {{"{onnx["input"]}": images}})[0]  # images: float32 in [0, 1]
```"""
