"""SciPy's own bootstrap, an oracle of intervals of independent studies."""

from __future__ import annotations

import numpy as np
from scipy import stats


def percentile_interval(columns, statistic):
    """Return the ends of the 95% percentile interval of 1,000 paired draws."""
    interval = stats.bootstrap(
        columns,
        statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=1000,
        random_state=np.random.RandomState(5),
    ).confidence_interval
    return interval.low, interval.high


def auroc_by_ranks(labels, prob):
    """The AUROC as Mann and Whitney's U, which is quicker than scikit-learn's."""
    abnormal = stats.rankdata(prob)[labels == 1]
    others = len(labels) - len(abnormal)
    u = abnormal.sum() - len(abnormal) * (len(abnormal) + 1) / 2
    return u / (len(abnormal) * others)
