"""The sentences on what the nets have seen."""

from __future__ import annotations

from xenon_mx.evaluation.seen import BY_RECORDS, Seen


def test_what_chose_the_checkpoints_has_advice_for_any_split():
    """Of a folder packed with --holdout, it is not to pack with --holdout."""
    words = str(Seen(BY_RECORDS, 10, validated=10))
    assert words.startswith("these images chose the checkpoints: metrics on them are")
    assert words.endswith(
        "such as valid.rec of a folder that was packed with --holdout"
    )
    assert "pack with" not in words
