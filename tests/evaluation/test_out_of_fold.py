"""One table of all folds: its rows, and metrics by fold and pooled."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from xenon_mx.errors import XenonError
from xenon_mx.evaluation import out_of_fold

HEAD = "study,study_type,images,probability,prediction,label"


def write(folder, name, header, *rows):
    (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return folder / name


def rows_of(data):
    return list(csv.reader(data.decode().splitlines()))


def test_the_fold_stands_at_the_end_and_digits_stay(tmp_path):
    one = write(tmp_path, "1.csv", HEAD, "a,XR_HAND,2,0.123456789,0,1")
    two = write(tmp_path, "2.csv", HEAD, "b,XR_HAND,1,1e-09,0,0")
    assert out_of_fold.join([one, two]).decode() == (
        f"{HEAD},fold\na,XR_HAND,2,0.123456789,0,1,1\nb,XR_HAND,1,1e-09,0,0,2\n"
    )


def test_columns_that_a_table_lacks_are_empty_but_for_told_patients(tmp_path):
    study = "M/train/XR_HAND/patient7/study1_positive/"
    tables = [
        write(tmp_path, "1.csv", HEAD, f"{study},XR_HAND,2,0.5,0,1"),
        write(
            tmp_path, "2.csv", f"{HEAD},patient,sex,age", "b,XR_HAND,1,0.25,0,0,P2,F,"
        ),
        write(tmp_path, "3.csv", f"{HEAD},site,sex", "'=c,XR_HAND,1,0.75,1,0,X,M"),
    ]
    head, first, second, third = rows_of(out_of_fold.join(tables))
    assert head == [*HEAD.split(","), "patient", "sex", "age", "site", "fold"]
    assert first[6:] == ["patient7", "", "", "", "1"]
    assert second[6:] == ["P2", "F", "", "", "2"]
    assert third[0] == "'=c"
    assert third[6:] == ["", "M", "", "X", "3"]


def test_a_study_of_two_folds_is_refused(tmp_path):
    row = "a,XR_HAND,2,0.5,0,1"
    tables = [write(tmp_path, f"{n}.csv", HEAD, row) for n in (1, 2)]
    with pytest.raises(XenonError, match="in two folds") as caught:
        out_of_fold.join(tables)
    assert list(caught.value.details) == ["a"]


def test_metrics_are_those_of_scikit_learn_by_fold_and_of_all(tmp_path):
    random = np.random.RandomState(5)
    labels, prob = random.randint(0, 2, 240), random.rand(240).round(3)
    folds = np.arange(240) % 12 + 1  # ten and more sort as numbers
    rows = [
        f"s{n},XR_HAND,1,{p},{int(p > 0.5)},{y},P{n // 24},{fold}"
        for n, (y, p, fold) in enumerate(zip(labels, prob, folds))
    ]
    table = write(tmp_path, "all.csv", f"{HEAD},patient,fold", *rows)
    *by_fold, overall = out_of_fold.metrics_by_fold(table, 12)
    assert [each.study_type for each in by_fold] == [str(n) for n in range(1, 13)]
    for number, each in enumerate(by_fold, 1):
        chosen = folds == number
        assert each.studies == chosen.sum()
        assert each.abnormal == labels[chosen].sum()
        kappa = cohen_kappa_score(labels[chosen], prob[chosen] > 0.5)
        assert each.kappa == pytest.approx(kappa)
        assert each.auroc == pytest.approx(roc_auc_score(labels[chosen], prob[chosen]))
    assert overall.study_type == "overall"
    assert overall.patients == 10
    assert overall.auroc == pytest.approx(roc_auc_score(labels, prob))
    low, high = overall.estimates["AUROC"][2:]
    assert low < overall.auroc < high
