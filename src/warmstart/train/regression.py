"""The last layer of a head, fitted in one go by logistic regression."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor


def fitted_head(
    features: np.ndarray, targets: np.ndarray, classes: int, strength: float, *, bias: bool
) -> tuple[Tensor, Tensor | None]:
    """Weight [K, H] and bias [K] of a multinomial logistic regression.

    The features are centred (where there is a bias) and scaled to a mean length of 1 for it, and
    the weights are those for the features as they are.

    Args:
        features: [n, H].
        targets: class numbers [n].
        classes: K; a class that no row has gets a weight of zeros and the least bias.
        strength: C of scikit-learn.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    wide = features.astype(np.float64)
    middle = wide.mean(0) if bias else np.zeros(wide.shape[1])
    centred = wide - middle
    scale = max(float(np.linalg.norm(centred, axis=1).mean()), 1e-12)
    seen = np.unique(targets)
    weight, shift = np.zeros((classes, wide.shape[1])), np.zeros(classes)
    if len(seen) > 1:
        model: Any = LogisticRegression(C=strength, max_iter=500, fit_intercept=bias)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(centred / scale, targets)
        found, start = model.coef_, model.intercept_
        if len(seen) == 2:  # scikit-learn keeps the second class's side alone
            found, start = np.concatenate([-found, found]) / 2, np.array([-start[0], start[0]]) / 2
        weight[seen] = found / scale
        shift[:] = start.min() if bias else 0.0
        shift[seen] = start - found @ middle / scale
        missing = np.setdiff1d(np.arange(classes), seen)
        shift[missing] = shift[seen].min() if bias else 0.0
    made = torch.from_numpy(weight).float()
    return made, torch.from_numpy(shift).float() if bias else None
