"""Reading a data set: its CSVs and folders, and every error in them."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any, Callable

import pytest

from xenon_mx.data import datasets, folders, mura
from xenon_mx.errors import XenonError

WRIST = "MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/image1.png"


def touch(root: Path, *paths: str) -> Path:
    """Create empty files: reading a data set opens no image."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def write(file: Path, *lines: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def test_read_file_in_mura_starts_two_folders_above_the_type(tmp_path: Path) -> None:
    file = tmp_path / "deep" / WRIST
    assert datasets.read_file(file).path == WRIST
    assert datasets.read_file(file).file == file


def test_read_file_relative_to_a_study_is_named_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, WRIST)
    monkeypatch.chdir((tmp_path / WRIST).parent)

    assert datasets.read_file(Path("image1.png")).path == WRIST
    assert datasets.read_file(Path("../study1_positive/image1.png")).path == WRIST


def test_read_file_at_the_top_of_the_disk_has_no_leading_slash() -> None:
    named = datasets.read_file(Path("/XR_HAND/p1/study1/image1.png"))
    assert named.path == "XR_HAND/p1/study1/image1.png"


def test_read_file_outside_the_layout_keeps_the_path_as_given() -> None:
    assert datasets.read_file(Path("./scans/a.png")).path == "scans/a.png"


def test_read_folder_orders_numbers_by_value(tmp_path: Path) -> None:
    folder = "MURA-v1.1/valid/XR_HAND/patient00002/study1_negative"
    other = "MURA-v1.1/valid/XR_HAND/patient00010/study1_negative"
    expected = [f"{folder}/image{i}.png" for i in (1, 2, 10, 11)]
    touch(tmp_path, f"{other}/image1.png", *reversed(expected))

    images = datasets.read_folder(tmp_path / "MURA-v1.1" / "valid")

    assert [image.path for image in images] == [*expected, f"{other}/image1.png"]


def test_natural_equal_numbers_are_ordered_whatever_comes_first() -> None:
    names = [Path("image1.png"), Path("image01.png"), Path("image1²3.png")]
    assert sorted(names, key=folders.natural_key) == sorted(
        names[::-1], key=folders.natural_key
    )


def test_read_folder_ignores_macos_companion_files(tmp_path: Path) -> None:
    study = "MURA-v1.1/train/XR_HAND/patient00001/study1_positive"
    touch(
        tmp_path,
        f"{study}/image1.png",
        f"{study}/._image1.png",
        f"{study}/.DS_Store",
        f"{study}/notes.txt",
        f"__MACOSX/{study}/image2.png",
    )
    (tmp_path / study / "folder.png").mkdir()

    assert [i.path for i in datasets.read_folder(tmp_path)] == [f"{study}/image1.png"]


def test_read_folder_below_a_hidden_folder_finds_images(tmp_path: Path) -> None:
    touch(tmp_path / ".cache", WRIST)
    assert len(datasets.read_folder(tmp_path / ".cache")) == 1


def test_read_folder_suffixes_in_any_case_are_images(tmp_path: Path) -> None:
    touch(tmp_path, "a.PNG", "b.JPG", "c.jpeg", "d.bmp", "e.TIF", "f.tiff", "g.gif")
    assert [i.file.name[0] for i in datasets.read_folder(tmp_path)] == list("abcdef")


def test_read_dataset_with_csvs_lists_them_in_their_order(
    mura_tree: Callable[..., Path],
) -> None:
    root = mura_tree()

    splits = datasets.read_dataset(root).splits

    for split in ("train", "valid"):
        lines = (root / f"{split}_image_paths.csv").read_text().splitlines()
        assert [i.path for i in splits[split]] == lines
        assert all(i.file.is_file() for i in splits[split])
        assert all(i.label == int("positive" in i.study) for i in splits[split])


def test_read_dataset_with_a_csv_ignores_other_files_in_the_folders(
    mura_tree: Callable[..., Path],
) -> None:
    root = mura_tree()
    study = next((root / "train" / "XR_HAND").glob("*/*"))
    touch(study, "image99.png")

    listed = [i.path for i in datasets.read_dataset(root).splits["train"]]

    assert not any(path.endswith("image99.png") for path in listed)


def test_read_dataset_walked_counts_what_it_leaves_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = "XR_HAND/p1/study1_positive"
    touch(tmp_path, f"train/{study}/image1.png", f"train/{study}/image2.webp")
    touch(tmp_path, "valid/notes.txt", "outside.pdf")
    datasets.read_dataset(tmp_path)
    assert caplog.messages == ["left out 2 files that are no images: 1 .txt, 1 .webp"]


def test_read_dataset_without_an_image_says_what_there_is(tmp_path: Path) -> None:
    touch(tmp_path, "train/XR_HAND/p1/study1_positive/image1.webp")
    with pytest.raises(XenonError, match=r"no images: .*, but found 1 \.webp"):
        datasets.read_dataset(tmp_path)


def test_read_dataset_without_csvs_finds_the_same_images(
    mura_tree: Callable[..., Path],
) -> None:
    root = mura_tree()
    listed = datasets.read_dataset(root).splits
    for csv in root.glob("*.csv"):
        csv.unlink()
    walked = datasets.read_dataset(root).splits

    for split in ("train", "valid"):
        by_path = {i.path: (i.study, i.label) for i in listed[split]}
        assert {i.path: (i.study, i.label) for i in walked[split]} == by_path


def test_read_dataset_walked_through_a_link_names_the_folder_behind_it(
    tmp_path: Path,
) -> None:
    touch(tmp_path, WRIST)
    (tmp_path / "link").symlink_to("MURA-v1.1")
    assert datasets.read_dataset(tmp_path / "link").splits["train"][0].path == WRIST


def test_read_dataset_one_split_without_a_csv_is_walked(
    mura_tree: Callable[..., Path],
) -> None:
    root = mura_tree()
    expected = {i.path for i in datasets.read_dataset(root).splits["valid"]}
    (root / "valid_image_paths.csv").unlink()

    assert {i.path for i in datasets.read_dataset(root).splits["valid"]} == expected


def test_read_dataset_same_patient_under_two_types_is_two_studies(
    tmp_path: Path,
) -> None:
    for study_type in ("XR_HAND", "XR_WRIST"):
        touch(tmp_path, f"train/{study_type}/patient00001/study1_positive/image1.png")

    images = datasets.read_dataset(tmp_path).splits["train"]

    assert len({i.study for i in images}) == 2
    assert {i.patient for i in images} == {"patient00001"}


@pytest.mark.parametrize("make", ["nothing", "file", "missing", "empty splits"])
def test_read_dataset_no_data_set_is_refused(tmp_path: Path, make: str) -> None:
    source = tmp_path / "source"
    if make == "file":
        source.touch()
    elif make != "missing":
        source.mkdir()
    if make == "empty splits":
        (source / "train").mkdir()

    with pytest.raises(XenonError, match="no such file|is no folder|no images"):
        datasets.read_dataset(source)


def test_read_dataset_a_plain_folder_of_images_is_led_to_a_manifest(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "a.png", "b.png", "fracture/c.png", "notes.txt")
    with pytest.raises(XenonError, match=r": 3 images, but not in the folders of MURA"):
        datasets.read_dataset(tmp_path)


def test_read_dataset_images_outside_the_layout_are_all_listed(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.png", "train/XR_HAND/b.png")
    with pytest.raises(XenonError, match="2 images lie outside") as caught:
        datasets.read_dataset(tmp_path)
    assert [Path(line).name for line in caught.value.details] == ["b.png", "a.png"]


@pytest.mark.parametrize("name", ["ima\tge.png", "ima\nge.png", "ima\udce9ge.png"])
def test_read_dataset_path_that_no_list_can_hold_is_refused(
    tmp_path: Path, name: str
) -> None:
    touch(tmp_path, f"train/XR_HAND/p1/study1_positive/{name}")
    with pytest.raises(XenonError, match="1 path has a tab") as caught:
        datasets.read_dataset(tmp_path)
    caught.value.details[0].encode()


def labelled_set(root: Path, studies: str, *rows: str) -> Path:
    """Write a train split of one-image studies and its labels CSV."""
    for study in studies.split():
        touch(root, f"train/XR_HAND/{study}/image1.png")
    write(root / "train_labeled_studies.csv", *rows)
    return root


def test_labels_without_suffix_come_from_the_csv(tmp_path: Path) -> None:
    labelled_set(
        tmp_path,
        "p1/study1 p2/study1",
        "MURA-v1.1/train/XR_HAND/p1/study1/,1",
        "MURA-v1.1/train/XR_HAND/p2/study1/,0",
    )
    assert [i.label for i in datasets.read_dataset(tmp_path).splits["train"]] == [1, 0]


def test_labels_study_without_trailing_slash_is_the_same_study(tmp_path: Path) -> None:
    labelled_set(tmp_path, "p1/study1", "MURA-v1.1/train/XR_HAND/p1/study1,1")
    assert datasets.read_dataset(tmp_path).splits["train"][0].label == 1


def test_labels_data_set_named_like_a_study_type_are_found(tmp_path: Path) -> None:
    root = labelled_set(
        tmp_path / "XR_all", "p1/study1", "MURA-v1.1/train/XR_HAND/p1/study1/,1"
    )
    assert datasets.read_dataset(root).splits["train"][0].label == 1


def test_labels_against_the_folder_name_are_refused_and_all_listed(
    tmp_path: Path,
) -> None:
    labelled_set(
        tmp_path,
        "p1/study1_positive p2/study1_negative p3/study1_positive",
        "MURA-v1.1/train/XR_HAND/p1/study1_positive/,0",
        "MURA-v1.1/train/XR_HAND/p2/study1_negative/,1",
        "MURA-v1.1/train/XR_HAND/p3/study1_positive/,1",
    )
    with pytest.raises(XenonError, match="2 labels contradict") as caught:
        datasets.read_dataset(tmp_path)
    first, second = caught.value.details
    assert first.endswith("train/XR_HAND/p1/study1_positive/ is 0 in the CSV")
    assert second.endswith("train/XR_HAND/p2/study1_negative/ is 1 in the CSV")


def test_labels_missing_are_refused_and_all_listed(tmp_path: Path) -> None:
    labelled_set(
        tmp_path,
        "p1/study1 p2/study1 p3/study1",
        "MURA-v1.1/train/XR_HAND/p2/study1/,1",
    )
    with pytest.raises(XenonError, match="2 studies have no label") as caught:
        datasets.read_dataset(tmp_path)
    assert [line.split("/")[-3] for line in caught.value.details] == ["p1", "p3"]


def test_labels_missing_without_a_csv_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/XR_HAND/p1/study1/image1.png")
    with pytest.raises(XenonError, match="1 study has no label"):
        datasets.read_dataset(tmp_path)


@pytest.mark.parametrize("label", ["2", "-1", "1.0", "", "abnormal", "Label"])
def test_labels_not_0_or_1_are_refused_with_their_line(
    tmp_path: Path, label: str
) -> None:
    labelled_set(
        tmp_path, "p1/study1", "x/XR_HAND/p1/study1/,1", f"x/XR_A/p/s/,{label}"
    )
    with pytest.raises(XenonError, match=r"studies\.csv:2: the label must be 0 or 1"):
        datasets.read_dataset(tmp_path)


def test_labels_study_with_both_is_refused(tmp_path: Path) -> None:
    row = "MURA-v1.1/train/XR_HAND/p1/study1/"
    labelled_set(tmp_path, "p1/study1", f"{row},1", f"{row},0")
    with pytest.raises(XenonError, match="1 study has both labels") as caught:
        datasets.read_dataset(tmp_path)
    csv = tmp_path / "train_labeled_studies.csv"
    assert caught.value.details == (f"{csv}:2: {row}",)


BOTH = ("p1/study1_positive", "p1/study1_negative", "p2/study2_positive")


@pytest.mark.parametrize("csvs", ["none", "paths", "labels of both", "labels of one"])
def test_a_study_in_folders_of_both_labels_is_refused(
    tmp_path: Path, csvs: str
) -> None:
    root = tmp_path / "MURA-v1.1"
    names = [f"MURA-v1.1/train/XR_HAND/{study}/" for study in BOTH]
    touch(tmp_path, *(f"{name}image1.png" for name in names))
    if csvs != "none":
        paths = [f"{name}image1.png" for name in names]
        write(root / "train_image_paths.csv", *paths)
    if csvs.startswith("labels"):
        rows = [f"{name},{int('positive' in name)}" for name in names]
        rows = rows[:2] if csvs == "labels of both" else rows[1:]
        write(root / "train_labeled_studies.csv", *rows)

    with pytest.raises(XenonError, match="1 study is in several folders") as caught:
        datasets.read_dataset(root)

    (detail,) = caught.value.details
    assert sorted(detail.split(" and ")) == sorted(names[:2])


def test_a_study_with_both_labels_in_the_labels_csv_alone_is_refused(
    tmp_path: Path,
) -> None:
    rows = [f"MURA-v1.1/train/XR_HAND/{s},{int('pos' in s)}" for s in BOTH]
    labelled_set(tmp_path, f"{BOTH[0]} {BOTH[2]}", *rows)
    with pytest.raises(XenonError, match="1 study is in several folders"):
        datasets.read_dataset(tmp_path)


def test_a_study_with_another_label_in_each_split_is_refused(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/XR_HAND/p1/study1_positive/image1.png",
        "valid/XR_HAND/p1/study1_negative/image1.png",
    )
    with pytest.raises(XenonError, match="1 study is in several folders") as caught:
        datasets.read_dataset(tmp_path)
    assert "train/XR_HAND" in caught.value.details[0]
    assert "valid/XR_HAND" in caught.value.details[0]


def test_labels_file_with_a_header_is_refused(tmp_path: Path) -> None:
    labelled_set(tmp_path, "p1/study1", "study,label", "x/XR_HAND/p1/study1/,1")
    with pytest.raises(XenonError, match=r":1: the label must be 0 or 1, not 'label'"):
        datasets.read_dataset(tmp_path)


def test_labels_file_with_one_column_is_refused(tmp_path: Path) -> None:
    labelled_set(tmp_path, "p1/study1", "MURA-v1.1/train/XR_HAND/p1/study1/;1")
    with pytest.raises(XenonError, match="expected 2 columns without a header, got 1"):
        datasets.read_dataset(tmp_path)


def test_read_paths_keeps_paths_and_order_of_the_csv(tmp_path: Path) -> None:
    second = WRIST.replace("image1", "image2")
    touch(tmp_path, WRIST, second)
    csv = write(tmp_path / "paths.csv", second, WRIST)

    images = datasets.read_paths(csv)

    assert [i.path for i in images] == [second, WRIST]
    assert [i.file.resolve() for i in images] == [tmp_path / second, tmp_path / WRIST]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n", ""])
def test_read_paths_line_endings_and_byte_order_mark_do_not_matter(
    tmp_path: Path, ending: str
) -> None:
    touch(tmp_path, WRIST)
    csv = tmp_path / "paths.csv"
    csv.write_bytes(b"\xef\xbb\xbf" + WRIST.encode() + ending.encode())

    assert [i.path for i in datasets.read_paths(csv)] == [WRIST]


@pytest.mark.parametrize("name", ["NA", "null", "007", "1e5", "été", 'a"b', " a"])
def test_read_paths_text_is_never_converted(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    csv = write(tmp_path / "paths.csv", '"' + name.replace('"', '""') + '"')
    assert datasets.read_paths(csv)[0].path == name


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\n\n", id="blank lines"),
        pytest.param(b"\xef\xbb\xbf", id="only a byte order mark"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xfe", id="an image"),
        pytest.param(b"\0\0\0\0", id="zeros"),
        pytest.param("a.png\n".encode("utf-16"), id="UTF-16"),
        pytest.param(b"a.png,1\n", id="two columns"),
        pytest.param(b"a.png\nb.png,1\n", id="columns differ"),
        pytest.param(b'"a.png\n', id="open quote"),
        pytest.param(b"path\n", id="only a header"),
    ],
)
def test_read_paths_no_csv_of_paths_is_one_clear_error(
    tmp_path: Path, content: bytes
) -> None:
    touch(tmp_path, "a.png", "b.png")
    csv = tmp_path / "paths.csv"
    csv.write_bytes(content)

    with pytest.raises(XenonError) as caught:
        datasets.read_paths(csv)

    assert str(caught.value).startswith(f"{csv}: ")
    assert "\n" not in str(caught.value)


def test_read_paths_missing_or_folder_is_refused(tmp_path: Path) -> None:
    for csv in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(XenonError, match="cannot be read as CSV"):
            datasets.read_paths(csv)


def test_read_dataset_csv_with_a_header_is_refused_by_name(
    mura_tree: Callable[..., Path],
) -> None:
    csv = mura_tree() / "train_image_paths.csv"
    csv.write_text("image_path\n" + csv.read_text())
    with pytest.raises(XenonError, match="1 image lies outside") as caught:
        datasets.read_dataset(csv.parent)
    assert caught.value.details == ("image_path",)


def test_read_paths_duplicates_are_refused_and_all_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    csv = write(tmp_path / "p.csv", "a.png", "b.png", "c.png", "b.png", "a.png")
    with pytest.raises(XenonError, match="2 images are listed twice") as caught:
        datasets.read_paths(csv)
    assert caught.value.details == ("a.png", "b.png")


def located(csv: Path, root: Path | None = None) -> Path:
    """Return where the only path of a CSV was found."""
    (image,) = datasets.read_paths(csv, root)
    assert image.path == WRIST
    return image.file.resolve()


@pytest.mark.parametrize("cwd", [".", "MURA-v1.1", "MURA-v1.1/train/XR_WRIST", "else"])
@pytest.mark.parametrize("place", [".", "MURA-v1.1"])
@pytest.mark.parametrize("relative", [True, False])
def test_read_paths_is_found_from_any_working_directory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cwd: str,
    place: str,
    relative: bool,
) -> None:
    touch(tmp_path, WRIST)
    csv = write(tmp_path / place / "paths.csv", WRIST)
    (tmp_path / cwd).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / cwd)

    assert located(Path(os.path.relpath(csv)) if relative else csv) == tmp_path / WRIST


def test_read_paths_csv_elsewhere_is_found_from_the_data_sets_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "data", WRIST)
    csv = write(tmp_path / "lists" / "deep" / "paths.csv", WRIST)
    monkeypatch.chdir(tmp_path / "data")

    assert located(csv) == tmp_path / "data" / WRIST


def test_read_paths_csv_one_folder_below_the_data_set_is_found_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, WRIST)
    write(tmp_path / "lists" / "paths.csv", WRIST)
    monkeypatch.chdir(tmp_path / "lists")

    assert located(Path("paths.csv")) == tmp_path / WRIST


def test_read_paths_renamed_data_set_is_recognised(tmp_path: Path) -> None:
    touch(tmp_path, WRIST.replace("MURA-v1.1", "bones"))
    csv = write(tmp_path / "bones" / "paths.csv", WRIST)

    assert located(csv) == tmp_path / WRIST.replace("MURA-v1.1", "bones")


@pytest.mark.parametrize("root", ["data", "data/MURA-v1.1"])
def test_read_paths_with_root_looks_there(tmp_path: Path, root: str) -> None:
    touch(tmp_path / "data", WRIST)
    csv = write(tmp_path / "lists" / "paths.csv", WRIST)

    assert located(csv, tmp_path / root) == tmp_path / "data" / WRIST


def test_read_paths_with_root_looks_nowhere_else(tmp_path: Path) -> None:
    touch(tmp_path, WRIST)
    (tmp_path / "other").mkdir()
    csv = write(tmp_path / "paths.csv", WRIST)

    with pytest.raises(XenonError, match="none of its 1 image was found"):
        datasets.read_paths(csv, tmp_path / "other")


# The places of an image that a CSV in `data/set` lists, in the order to try them.
PLACES = [
    f"data/set/{WRIST}",
    WRIST.replace("MURA-v1.1", "data/set"),
    f"data/{WRIST}",
    WRIST.replace("MURA-v1.1", "data"),
    f"work/{WRIST}",
    WRIST.replace("MURA-v1.1", "work"),
]
RULES = ["source", "parent", "parent", "parent", *["working directory"] * 2]


@pytest.mark.parametrize("first", range(len(PLACES)))
def test_an_image_in_several_places_is_taken_from_the_first(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    first: int,
) -> None:
    touch(tmp_path, *PLACES[first:])
    csv = write(tmp_path / "data" / "set" / "train_image_paths.csv", WRIST)
    (tmp_path / "work").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "work")
    caplog.set_level(logging.INFO)

    assert located(csv) == tmp_path / PLACES[first]
    folder = str(tmp_path / PLACES[first])[: -len(WRIST) + len("MURA-v1.1")]
    folder = folder if PLACES[first].endswith(WRIST) else str(located(csv).parents[4])
    assert caplog.messages[0] == f"{csv}: images from {folder}"
    assert datasets.read_dataset(csv.parent).rules == {"train": RULES[first]}


def test_an_incomplete_copy_is_not_replaced_by_another_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy holds one image of 200, which a sample of the paths would miss."""
    names = [WRIST.replace("image1", f"image{n}") for n in range(1, 201)]
    touch(tmp_path, *names)
    copy = names[170].replace("MURA-v1.1", "cleaned")
    touch(tmp_path, copy)
    csv = write(tmp_path / "cleaned" / "paths.csv", *names)
    monkeypatch.chdir(tmp_path)

    images = datasets.read_paths(csv)

    assert {i.file.resolve().parents[4] for i in images} == {tmp_path / "cleaned"}
    assert [i.file.is_file() for i in images].count(True) == 1
    assert images[170].file.is_file()


def test_two_data_sets_of_one_csv_do_not_become_one(tmp_path: Path) -> None:
    names = [WRIST, WRIST.replace("MURA-v1.1", "LERA")]
    touch(tmp_path, WRIST.replace("MURA-v1.1", "both"))
    csv = write(tmp_path / "both" / "paths.csv", *names)
    with pytest.raises(XenonError, match="none of its 2 images was found"):
        datasets.read_paths(csv)


def test_a_source_that_may_not_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read any folder, so this is patched."""
    touch(tmp_path, WRIST, WRIST.replace("MURA-v1.1", "cleaned"))
    csv = write(tmp_path / "cleaned" / "paths.csv", WRIST)
    monkeypatch.chdir(tmp_path)
    stat = os.stat

    def refusing(path: Any, **options: Any) -> os.stat_result:
        if "cleaned/train" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refusing)
    with pytest.raises(XenonError, match="cleaned/train.*: Permission denied"):
        datasets.read_paths(csv)


def test_the_folder_of_the_images_is_logged_once_if_splits_agree(
    mura_tree: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = mura_tree()
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    datasets.read_dataset(Path("MURA-v1.1"))
    (root / "valid_image_paths.csv").unlink()  # walked from now on
    datasets.read_dataset(Path("MURA-v1.1"))
    assert caplog.messages == [f"train, valid: images from {root}"] * 2


def test_a_copy_without_a_split_does_not_get_another_data_sets(
    mura_tree: Callable[..., Path], tmp_path: Path
) -> None:
    root = mura_tree()
    shutil.copytree(root, tmp_path / "cleaned")
    shutil.rmtree(tmp_path / "cleaned" / "valid")
    with pytest.raises(XenonError, match="splits were found in different") as caught:
        datasets.read_dataset(tmp_path / "cleaned")
    wanted = f"train in {tmp_path}/cleaned; valid in {root}: .* with --root"
    assert re.search(wanted, str(caught.value))


def test_a_split_in_source_and_one_below_root_are_read(
    mura_tree: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    root = mura_tree()
    source = tmp_path / "source"
    shutil.copytree(root / "valid", source / "valid")
    shutil.copy(root / "train_image_paths.csv", source)
    with pytest.raises(XenonError, match="splits were found in different"):
        datasets.read_dataset(source)
    rules = datasets.read_dataset(source, tmp_path).rules
    assert rules == {"train": "root", "valid": "source"}
    assert caplog.messages == [
        f"train: images from {root}",
        f"valid: images from {source}",
    ]


def test_splits_of_two_data_sets_beside_a_folder_of_csvs_are_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = "LERA/valid/XR_FOOT/p1/study1_negative/image1.png"
    touch(tmp_path, WRIST, other)
    write(tmp_path / "lists" / "train_image_paths.csv", WRIST)
    write(tmp_path / "lists" / "valid_image_paths.csv", other)
    rules = datasets.read_dataset(tmp_path / "lists").rules
    assert rules == {"train": "parent", "valid": "parent"}
    assert caplog.messages == [
        f"train: images from {tmp_path}/MURA-v1.1",
        f"valid: images from {tmp_path}/LERA",
    ]


def test_read_paths_nothing_found_names_the_folders_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv = write(tmp_path / "a" / "lists" / "paths.csv", WRIST)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")

    with pytest.raises(XenonError) as caught:
        datasets.read_paths(csv)

    for place in ("cwd", "a/lists", "a"):
        assert str(tmp_path / place) in str(caught.value)
    assert WRIST in str(caught.value)
    assert "--root" in str(caught.value)


@pytest.mark.parametrize("path", ["../secret.png", "MURA-v1.1/../../secret.png"])
def test_read_paths_leaving_the_root_is_refused(tmp_path: Path, path: str) -> None:
    touch(tmp_path, "secret.png", "inner/a.png")
    csv = write(tmp_path / "inner" / "paths.csv", "a.png", path)
    for root in (None, tmp_path / "inner"):
        with pytest.raises(XenonError, match="1 path leaves the root") as caught:
            datasets.read_paths(csv, root)
        assert caught.value.details == (path,)


def test_read_paths_absolute_needs_a_root_around_it(tmp_path: Path) -> None:
    inside, outside = tmp_path / "data" / "a.png", tmp_path / "b.png"
    touch(tmp_path, "data/a.png", "b.png")
    csv = write(tmp_path / "paths.csv", str(inside))

    assert datasets.read_paths(csv, tmp_path / "data")[0].file == inside
    with pytest.raises(XenonError, match="absolute paths need --root"):
        datasets.read_paths(csv)
    with pytest.raises(XenonError, match="1 path leaves the root"):
        datasets.read_paths(write(csv, str(outside)), tmp_path / "data")


def test_read_paths_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "secret.png", "data/a.png")
    (tmp_path / "data" / "b.png").symlink_to(tmp_path / "secret.png")
    csv = write(tmp_path / "data" / "paths.csv", "a.png", "b.png")

    with pytest.raises(XenonError, match="1 link leads out") as caught:
        datasets.read_paths(csv, tmp_path / "data")
    assert caught.value.details == ("b.png",)


def test_read_paths_linked_data_set_is_found_beside_its_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "disk", WRIST)
    write(tmp_path / "disk" / "MURA-v1.1" / "paths.csv", WRIST)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "MURA-v1.1").symlink_to(tmp_path / "disk" / "MURA-v1.1")
    monkeypatch.chdir(tmp_path / "work")

    assert located(Path("MURA-v1.1/paths.csv")) == tmp_path / "disk" / WRIST


def patients_of(images: list[mura.Image]) -> set[str]:
    return {i.patient for i in images}


def test_hold_out_no_patient_is_on_both_sides(mura_tree: Callable[..., Path]) -> None:
    images = datasets.read_dataset(mura_tree(patients=12)).splits["train"]

    rest, holdout = mura.hold_out(images, 0.3, seed=0)

    assert rest
    assert holdout
    assert not patients_of(rest) & patients_of(holdout)
    assert [i for i in images if i in rest] == rest
    assert sorted(rest + holdout, key=images.index) == images


def test_a_study_that_the_csv_lacks_is_refused_though_its_folder_has_a_label(
    tmp_path: Path,
) -> None:
    labelled_set(
        tmp_path,
        "p1/study1_positive p2/study1_negative",
        "MURA-v1.1/train/XR_HAND/p1/study1_positive/,1",
    )
    with pytest.raises(XenonError, match="1 study has no label") as caught:
        datasets.read_dataset(tmp_path)
    assert "p2/study1_negative" in caught.value.details[0]


def test_labelled_studies_without_images_cause_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labelled_set(
        tmp_path,
        "p1/study1_positive",
        "MURA-v1.1/train/XR_HAND/p1/study1_positive/,1\n"
        "MURA-v1.1/train/XR_HAND/p9/study1_negative/,0",
    )
    datasets.read_dataset(tmp_path)
    assert "1 labelled study has no image, such as XR_HAND/p9" in caplog.text


def test_a_linked_study_type_is_walked_and_a_loop_of_links_ends(tmp_path: Path) -> None:
    touch(tmp_path, "store/XR_HAND/p1/study1_positive/image1.png")
    folder = tmp_path / "MURA-v1.1" / "train"
    folder.mkdir(parents=True)
    (folder / "XR_HAND").symlink_to(tmp_path / "store" / "XR_HAND")
    (folder / "XR_LOOP").symlink_to(folder)
    (image,) = datasets.read_dataset(tmp_path / "MURA-v1.1").splits["train"]
    assert image.path == "MURA-v1.1/train/XR_HAND/p1/study1_positive/image1.png"
