"""How several data sets are mixed: what share of the steps each of them gets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def shares(rows: Mapping[str, int], temperature: float) -> dict[str, float]:
    """The share of each data set: its rows ** (1 / temperature), divided by the sum of these.

    1 is in proportion to the rows; the higher the temperature, the more even (Arivazhagan et al.
    2019; Raffel et al. 2020, section 3.5.2).
    """
    logs = np.log(np.maximum(np.array(list(rows.values()), np.float64), 1.0)) / temperature
    weights = np.exp(logs - logs.max())
    return dict(zip(rows, (weights / weights.sum()).tolist(), strict=True))


def turns(wanted: Mapping[str, float], steps: int) -> dict[str, int]:
    """The shares as whole numbers of steps, by the largest remainder, and never none at all."""
    exact = np.array(list(wanted.values())) * steps
    counts = np.maximum(np.floor(exact).astype(int), 1)
    for place in np.argsort(np.floor(exact) - exact, kind="stable"):
        if counts.sum() >= steps:
            break
        counts[place] += 1
    return dict(zip(wanted, counts.tolist(), strict=True))


def order(counts: Mapping[str, int], seed: int, epoch: int) -> list[str]:
    """The turns of one epoch, shuffled."""
    names = [name for name, count in counts.items() for _ in range(count)]
    chance = np.random.default_rng([seed, epoch, len(names)])
    return [names[i] for i in chance.permutation(len(names))]
