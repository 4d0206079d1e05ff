"""The text of the issue by which a method joins the adversarial pruning benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MODELS = 3
"""How many checkpoints an entry needs at least, of one architecture, data set and structure: one for each sparsity."""


def issue(key: str, entry: Mapping[str, str], measured: Mapping[str, Any], notes: list[str], *, quick: bool) -> str:
    """Return the text for one network: the JSON entry, its accuracies, and what its checkpoint needs."""
    numbers = {name: f"{100 * measured[name]:.2f}" for name in ("clean", "autoattack", "fmn")}
    parts = [
        *([f"**This is a quick look and no entry**: {measured['examples']} images were measured."] if quick else []),
        "# General Information",
        "## JSON Entry",
        f"```json\n{json.dumps(entry, indent=2, ensure_ascii=False)}\n```",
        "## Evaluation Results of Model n°1",
        f'_Model GDrive:_ "{key}" : ["your_gdrive_link_id", ".pt"]\n'
        f'_Distances GDrive:_ "{key}" : ["your_gdrive_link_id", ".pickle"]',
        f"_Clean Accuracy:_ {numbers['clean']}\n"
        f"_Robust Accuracy (AA):_ {numbers['autoattack']}\n"
        f"_Robust Accuracy (HO-FMN):_ {numbers['fmn']} (FMN, not tuned: see below)",
        "## Architecture details and normalization",
        "\n".join(f"- {note}" for note in notes),
    ]
    return "\n\n".join(parts) + "\n"
