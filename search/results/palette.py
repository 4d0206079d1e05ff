"""Colours that the colour-blind tell apart. Source: Okabe & Ito 2008, "Color universal design"."""

from __future__ import annotations

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW, BLACK = "#56B4E9", "#CC79A7", "#F0E442", "#000000"
