"""What is said of images that are all abnormal, or all normal.

Owns the words of these warnings, and what to do; must not know settings, files or nets.
"""

from __future__ import annotations

from xenon_mx.data.mura import ClassWeights
from xenon_mx.data.pack_meta import PackMeta
from xenon_mx.runtime import text


def warning_of_split(meta: PackMeta, name: str) -> str:
    """Return the warning of a split that is to be evaluated; empty with both classes.

    Args:
        meta: The packed folder that holds it.
        name: The split.
    """
    counts = meta.splits[name].total
    if counts.abnormal and counts.normal:
        return ""
    remedy = "use fewer --folds or another --seed"
    if meta.holdout is not None:  # not made by cross-validation
        remedy = f"pack with a larger --{name}, or with studies of both classes in it"
    return (
        f"{name} holds {text.counted(counts.studies, 'study', 'studies')}, all "
        f"{'abnormal' if counts.abnormal else 'normal'}: kappa and AUROC are "
        f"undefined; {remedy}"
    )


def remedy_of_weights(pooled: ClassWeights) -> str:
    """Return what to do about a weight of 0, by the weights of all types together."""
    if 0 in pooled:
        return "pack training studies of both classes"
    return "add --pooled-weights or --loss plain to xenon-train"
