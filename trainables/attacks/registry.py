"""The attacks that a study may name. Those made of others are added by the package, once these are there."""

from __future__ import annotations

from trainables.attacks.apgd import ApgdCe, ApgdDlr, ApgdTargeted
from trainables.attacks.autoattack import AutoAttack
from trainables.attacks.base import Attack
from trainables.attacks.fab import Fab
from trainables.attacks.fmn import Fmn
from trainables.attacks.minimal import CarliniWagner, DeepFool
from trainables.attacks.noise import Noise
from trainables.attacks.pgd import Fgsm, Pgd, RFgsm
from trainables.attacks.square import Square
from trainables.core.registry import Registry

ATTACKS: Registry[Attack] = Registry(
    "attack",
    Attack,
    {
        "pgd": Pgd,
        "fgsm": Fgsm,
        "rfgsm": RFgsm,
        "apgd-ce": ApgdCe,
        "apgd-dlr": ApgdDlr,
        "apgd-t": ApgdTargeted,
        "deepfool": DeepFool,
        "cw": CarliniWagner,
        "square": Square,
        "fab": Fab,
        "fmn": Fmn,
        "noise": Noise,
        "autoattack": AutoAttack,
    },
)
