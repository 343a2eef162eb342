"""The images that a prediction left out: which, why, and what became of their studies.

Owns the content of `left_out` in a table's record, and its words for the log. Must not
know files or how images are read.

An image is named as the table of images would name it, so that an archive's are
pseudonyms; no reason holds a path.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Iterator, Sequence

from xenon_mx.data.mura import Image
from xenon_mx.runtime import text


@dataclass(frozen=True)
class LeftOutImage:
    """An image that was left out.

    Attributes:
        image: Its name, as in a table of images.
        study: Its study; empty if its header does not tell it.
        reason: Why it cannot be read.
    """

    image: str
    study: str
    reason: str


@dataclass(frozen=True)
class LeftOut:
    """The images that a prediction left out.

    Attributes:
        images: The images.
        studies: The studies without a prediction: none of their images can be read.
    """

    images: tuple[LeftOutImage, ...] = ()
    studies: tuple[str, ...] = ()

    @classmethod
    def of(cls, bad: Sequence[LeftOutImage], predicted: Sequence[Image]) -> LeftOut:
        """Return the images left out beside those that were predicted."""
        there = {image.study for image in predicted}
        lost = dict.fromkeys(each.study for each in bad if each.study not in there)
        return cls(tuple(bad), tuple(study for study in lost if study))

    @classmethod
    def from_json(cls, content: Any) -> LeftOut:
        """Parse a JSON object; None, as in older records, means that none was left out.

        Raises:
            KeyError, TypeError, ValueError: It is not valid.
        """
        if content is None:
            return cls()
        images = tuple(
            LeftOutImage(str(each["image"]), str(each["study"]), str(each["reason"]))
            for each in content["images"]
        )
        return cls(images, tuple(map(str, content["studies"])))

    def lines(self, predicted: Sequence[Image]) -> Iterator[str]:
        """Yield in words what was left out, a line each, and the counts at the end.

        Args:
            predicted: The images that were predicted.
        """
        for each in self.images:
            yield f"left out: {each.image}: {each.reason}"
        bad = Counter(each.study for each in self.images)
        for study in self.studies:
            if study not in {each.image for each in self.images}:
                yield f"no prediction: {study}: none of its images can be read"
        good = Counter(image.study for image in predicted)
        partial = [study for study in bad if study in good]
        for study in partial:
            count = text.counted(bad[study] + good[study], "image")
            yield f"predicted by {good[study]:,} of {count}: {study}"
        yield f"left out {text.counted(len(self.images), 'image')}{self.effects()}"

    def effects(self) -> str:
        """Return after a colon what became of the studies; empty if none is known."""
        effects = []
        if self.studies:
            lost = text.counted(len(self.studies), "study has", "studies have")
            effects.append(f"{lost} no prediction")
        partial = {each.study for each in self.images} - {*self.studies, ""}
        if partial:
            others = text.counted(len(partial), "study is", "studies are")
            effects.append(f"{others} predicted by the other images")
        return f": {', and '.join(effects)}" if effects else ""

    def warning(self) -> str:
        """Return what was left out of a table, in words; empty if nothing was."""
        if not self.images:
            return ""
        images = text.counted(
            len(self.images),
            "image could not be read and was left out",
            "images could not be read and were left out",
        )
        return f"{images}{self.effects()}"
