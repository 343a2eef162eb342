"""DeLong's test against a published data set, sums over pairs, and pROC run by R."""

from __future__ import annotations

import math
import shutil
import subprocess

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from support.evaluation_sets import noisy_samples

from xenon_mx.evaluation.delong import delong


# aSAH: 113 patients with a subarachnoid haemorrhage, whether the outcome was poor, and
# the markers WFNS and S100 beta. Turck et al., Intensive Care Med 2010;36:107-115; a
# data set of the R package pROC (Robin et al., BMC Bioinformatics 2011;12:77).
def digits(text):
    return np.array([int(digit) for digit in text])


POOR = digits(
    "00001101001011001011101000000000100110110000000001100010001010011101101111000110"
    "100000010000000000001111110001000"
)
WFNS = digits(
    "11113254125255125225211112121134214541425511241125521251222151125214524414121421"
    "232421451154221113125225552445111"
)
S100B = np.array(
    "13 14 10 4 13 10 47 16 18 10 12 10 44 71 4 8 49 4 7 33 9 9 7 11 7 17 7 11 13 "
    "19 5 16 41 14 34 35 48 9 96 25 50 46 16 7 43 45 11 8 9 86 52 8 6 13 207 10 14 "
    "15 7 6 77 5 9 30 3 9 4 23 70 9 27 71 8 26 8 16 9 13 10 8 11 33 11 28 7 10 32 "
    "22 7 5 24 38 10 15 8 14 10 7 4 19 56 14 58 32 82 74 15 47 17 44 15 50 48".split(),
    dtype=float,
)  # in units of 0.01 microgram per litre


def test_published_example_of_the_package_proc():
    # roc.test(outcome, wfns, s100b), the first example of pROC's documentation of
    # roc.test: Z = 2.209, p-value = 0.02718, AUCs 0.8236789 and 0.7313686.
    assert (len(POOR), POOR.sum()) == (113, 41)
    found = delong(POOR, WFNS, S100B)
    assert found.first == pytest.approx(0.8236789, abs=5e-8)
    assert found.second == pytest.approx(0.7313686, abs=5e-8)
    assert found.z == pytest.approx(2.209, abs=5e-4)
    assert found.p == pytest.approx(0.02718, abs=5e-6)
    assert (found.low, found.high) == pytest.approx((0.01040618, 0.17421442), abs=5e-8)


def over_pairs(labels, first, second):
    """Compute z as DeLong et al. define it, from the matrix of all pairs."""
    areas, of_abnormal, of_normal = [], [], []
    for prob in (first, second):
        gaps = prob[labels == 1][:, None] - prob[labels == 0][None, :]
        kernel = np.where(gaps > 0, 1.0, np.where(gaps == 0, 0.5, 0.0))
        areas.append(kernel.mean())
        of_abnormal.append(kernel.mean(axis=1))
        of_normal.append(kernel.mean(axis=0))
    covariance = np.cov(of_abnormal) / len(of_abnormal[0])
    covariance = covariance + np.cov(of_normal) / len(of_normal[0])
    contrast = np.array([1, -1])
    return (areas[0] - areas[1]) / math.sqrt(contrast @ covariance @ contrast)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_give_what_all_pairs_give_with_ties(seed):
    ours = noisy_samples(150, seed=seed)
    theirs = np.clip(ours.prob + np.random.RandomState(seed).normal(0, 0.3, 150), 0, 1)
    theirs = theirs.round(1)
    found = delong(ours.labels, ours.prob, theirs)
    assert found.first == pytest.approx(roc_auc_score(ours.labels, ours.prob))
    assert found.second == pytest.approx(roc_auc_score(ours.labels, theirs))
    assert found.z == pytest.approx(over_pairs(ours.labels, ours.prob, theirs))


def test_exchanging_the_predictions_exchanges_the_signs():
    one, other = delong(POOR, WFNS, S100B), delong(POOR, S100B, WFNS)
    assert other.z == pytest.approx(-one.z)
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    assert other.p == pytest.approx(one.p)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_auroc(label):
    found = delong(np.full(5, label), np.arange(5) / 5, np.arange(5) / 7)
    assert all(math.isnan(value) for value in found)


def test_one_abnormal_sample_has_aurocs_but_no_test():
    found = delong(np.array([1, 0, 0]), np.array([0.9, 0.1, 0.2]), np.array([0.5] * 3))
    assert (found.first, found.second) == (1, 0.5)
    assert all(math.isnan(value) for value in found[2:])


def test_predictions_in_the_same_order_cannot_differ():
    found = delong(POOR, WFNS / 5, (WFNS / 5) ** 2)
    assert found.first == found.second
    assert math.isnan(found.p)


def test_with_equal_aurocs_p_is_uniform():
    # independent samples, which is what the test assumes
    random = np.random.RandomState(1)
    p = []
    for _ in range(400):
        labels = random.randint(0, 2, 120)
        shared = random.normal(labels, 1)
        first, second = (shared + random.normal(0, 1, 120) for _ in range(2))
        p.append(delong(labels, first, second).p)
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.09  # 4 sd of .011, and more above
    assert np.mean(np.array(p) < 0.5) == pytest.approx(0.5, abs=0.1)


_R = """
suppressMessages(library(pROC))
table <- read.csv(commandArgs(trailingOnly = TRUE)[1])
one <- roc(table$label, table$first, quiet = TRUE, direction = "<")
two <- roc(table$label, table$second, quiet = TRUE, direction = "<")
test <- roc.test(one, two, method = "delong", paired = TRUE)
numbers <- c(auc(one), auc(two), test$conf.int, test$statistic, test$p.value)
cat(sprintf("%.15g", numbers))
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_proc_run_by_r_agrees(tmp_path, seed):
    rscript = shutil.which("Rscript")
    if rscript is None:
        pytest.skip("R is not installed: apt-get install r-cran-proc")
    has_proc = subprocess.run(
        [rscript, "-e", "library(pROC)"], capture_output=True, check=False
    )
    if has_proc.returncode:
        pytest.skip("R has no pROC: apt-get install r-cran-proc")
    samples = noisy_samples(200, seed=seed)
    noise = np.random.RandomState(seed).normal(0, 0.25, 200)
    second = np.clip(samples.prob + noise, 0, 1).round(2)
    rows = zip(samples.labels, samples.prob, second)
    table, script = tmp_path / "table.csv", tmp_path / "delong.R"
    table.write_text(
        "label,first,second\n"
        + "".join(f"{a},{float(b)!r},{float(c)!r}\n" for a, b, c in rows)
    )
    script.write_text(_R)
    result = subprocess.run(
        [rscript, str(script), str(table)], capture_output=True, check=True, text=True
    )
    expected = [float(number) for number in result.stdout.split()]
    found = delong(samples.labels, samples.prob, second)
    assert list(found) == pytest.approx(expected, abs=1e-9)
