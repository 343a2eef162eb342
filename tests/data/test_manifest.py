"""A manifest: its columns, the rules for missing ones, and its contradictions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from support import image_files as files

from xenon_mx.commands import pack
from xenon_mx.config import PackConfig, PredictConfig
from xenon_mx.data import manifest, mura, packed_folder
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.inference import input_listing

HEADER = "image,study,patient,study_type,label,split,scanner"
ROWS = [
    "films/1.png,S1,P1,XR_HAND,1,train,A",
    "films/2.png,S1,P1,XR_HAND,1,train,A",
    "films/3.png,S2,P1,XR_WRIST,0,train,B",
    "films/4.png,S3,P2,XR_HAND,0,train,A",
    "films/5.png,S4,P3,XR_WRIST,1,train,A",
    "films/6.png,S5,P4,XR_HAND,1,valid,B",
    "films/7.png,S6,P5,XR_WRIST,0,valid,B",
]


def draw(folder: Path, count: int) -> None:
    (folder / "films").mkdir(parents=True)
    pixels = files.samples(files.drawing(), 8)[..., 0]
    for number in range(1, count + 1):
        Image.fromarray(pixels + number).save(folder / "films" / f"{number}.png")


def written(tmp_path: Path, rows: list[str], header: str = HEADER) -> Path:
    """Write a manifest beside its images."""
    draw(tmp_path, 9)
    (tmp_path / "studies.csv").write_text("\n".join([header, *rows]) + "\n")
    return tmp_path / "studies.csv"


def columns(rows: list[str], *names: str) -> tuple[str, list[str]]:
    """Return header and rows with some columns only, in another order."""
    numbers = [HEADER.split(",").index(name) for name in names]
    cells = [row.split(",") for row in rows]
    return ",".join(names), [",".join(row[n] for n in numbers) for row in cells]


def test_each_row_is_an_image_with_all_that_the_columns_tell(tmp_path):
    read = manifest.read_manifest(written(tmp_path, ROWS))
    first, third = read.images[0], read.images[2]
    assert first == mura.Image(
        path="films/1.png",
        file=tmp_path / "films/1.png",
        study="S1",
        study_type="XR_HAND",
        patient="P1",
        label=1,
    )
    assert (first.extra, third.extra) == ({"scanner": "A"}, {"scanner": "B"})
    assert read.splits == ["train"] * 5 + ["valid"] * 2
    assert read.patients_known
    assert read.rule == "source"


def test_columns_may_have_any_order_and_spreadsheets_any_separator(tmp_path):
    header, rows = columns(ROWS, "label", "image", "scanner", "study")
    file = written(tmp_path, rows, header.replace("image", " Image "))
    text = file.read_text().replace(",", ";")
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert manifest.is_manifest(file)
    images = manifest.read_manifest(file).images
    assert [image.study for image in images[:3]] == ["S1", "S1", "S2"]
    assert [image.label for image in images[:3]] == [1, 1, 0]


def test_the_folder_that_is_named_is_the_one_that_was_used(tmp_path, caplog):
    """All images in one folder made it W/films of --root W."""
    file = written(tmp_path / "W", ROWS).rename(tmp_path / "studies.csv")
    with caplog.at_level("INFO"):
        pack.pack(PackConfig(file, tmp_path / "out", root=tmp_path / "W", size=32))
    assert f"images from {tmp_path / 'W'}" in caplog.messages


def test_what_is_missing_follows_the_stated_rules(tmp_path):
    file = written(tmp_path, ["films/1.png", "films/2.png"], "image")
    read = manifest.read_manifest(file)
    assert [image.study for image in read.images] == ["films/1.png", "films/2.png"]
    assert [image.patient for image in read.images] == ["", ""]
    assert {image.study_type for image in read.images} == {"XR_UNKNOWN"}
    assert {image.label for image in read.images} == {None}
    assert read.splits is None
    assert not read.patients_known


@pytest.mark.parametrize(
    ("rows", "details"),
    [
        (["films/1.png,S1,P1,XR_HAND,1,train,A", "films/2.png,S1,P2,XR_HAND,1,train,A"],
         ["study S1: patients P1, P2"]),
        (["films/1.png,S1,P1,XR_HAND,1,train,A", "films/2.png,S1,P1,XR_HAND,0,train,A"],
         ["study S1: labels 1, 0"]),
        (["films/1.png,S1,P1,XR_HAND,1,train,A", "films/2.png,S1,P1,XR_FOOT,1,train,A"],
         ["study S1: types XR_HAND, XR_FOOT"]),
        (["films/1.png,S1,P1,XR_HAND,1,train,A", "films/2.png,S1,P1,XR_HAND,1,valid,A"],
         ["study S1: splits train, valid", "patient P1: splits train, valid"]),
        (["films/1.png,S1,P1,XR_HAND,1,train,A", "films/2.png,S2,P1,XR_HAND,1,valid,A"],
         ["patient P1: splits train, valid"]),
    ],
)  # fmt: skip
def test_contradictions_are_listed_in_full(tmp_path, rows, details):
    with pytest.raises(XenonError, match="contradictions? between its rows") as caught:
        manifest.read_manifest(written(tmp_path, rows))
    assert list(caught.value.details) == details


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",S1,P1,XR_HAND,1,train,A", "row 2: no image"),
        ("films/1.png,,P1,XR_HAND,1,train,A", "row 2: no study"),
        ("films/1.png,S1,,XR_HAND,1,train,A", "row 2: no patient"),
        ("films/1.png,S1,P1,XR_HAND,2,train,A", "row 2: the label must be 0, 1"),
        ("films/1.png,S1,P1,XR_HAND,1,test,A", "row 2: the split must be train"),
        ("films/1.png,S1,P1,hand,1,train,A", "row 2: the study type must be named"),
        ("films/1.png,S1,P1,XR_HAND,1,train", "row 2"),
    ],
)
def test_an_invalid_cell_is_named_by_its_row(tmp_path, row, reason):
    with pytest.raises(XenonError, match=r"studies\.csv: 1 ") as caught:
        manifest.read_manifest(written(tmp_path, [row]))
    assert caught.value.details[0].startswith(reason)


def test_many_cells_of_one_kind_take_one_line(tmp_path):
    rows = [f"films/{n}.png,{('yes', 'no')[n % 2]}" for n in range(3000)]
    with pytest.raises(XenonError, match="3,000 invalid cells") as caught:
        manifest.read_manifest(written(tmp_path, rows, "image,label"))
    must = "the label must be 0, 1, normal or abnormal, not"
    assert list(caught.value.details) == [
        f"1,500 rows, such as row 2: {must} 'yes'",
        f"1,500 rows, such as row 3: {must} 'no'",
    ]


def test_labels_may_be_words_as_those_of_an_archive(tmp_path):
    rows = ["films/1.png,normal", "films/2.png,Abnormal", "films/3.png,"]
    images = manifest.read_manifest(written(tmp_path, rows, "image,label")).images
    assert [image.label for image in images] == [0, 1, None]


def test_many_missing_images_take_one_line(tmp_path):
    rows = [f"films/{n}.png,{n % 2}" for n in range(1, 100)]
    source = written(tmp_path, rows, "image,label")
    with pytest.raises(XenonError, match="90 images cannot be read") as caught:
        pack.pack(PackConfig(source, tmp_path / "out", size=32, valid=0.5))
    (line,) = caught.value.details
    assert re.fullmatch(
        r"90 images, such as \S+films/\d+\.png: No such file or directory", line
    )


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("image,label,label", "'label' twice"),
        ("image,,label", "a column without a name"),
        ("image,label", "lists no images"),
    ],
)
def test_an_invalid_header_is_an_error(tmp_path, header, reason):
    with pytest.raises(XenonError, match=reason):
        manifest.read_manifest(written(tmp_path, [], header))


@pytest.mark.parametrize(
    ("known", "column"),
    [
        ("label", "labels"),
        ("patient", "pateint"),
        ("patient", "patient_id"),
        ("study", "Study ID"),
        ("split", "splits"),
        ("study_type", "studytype"),
    ],
)
def test_a_misspelt_column_is_no_further_column(tmp_path, known, column):
    """A misspelt patient let patients into both splits; a label said nothing of it."""
    names = HEADER.replace(known + ",", column + ",", 1)
    if known == "study":
        names = HEADER.replace(",study,", f",{column},")
    file = written(tmp_path, ROWS, names)
    asked = rf"did you mean the column '{known}' by '{column}'\? Then rename it; else"
    with pytest.raises(XenonError, match=asked):
        manifest.read_manifest(file)


def test_all_misspelt_columns_are_named_at_once(tmp_path):
    file = written(tmp_path, ["films/1.png,P1,1"], "image,pateint,labels")
    asked = "the column 'patient' by 'pateint', and 'label' by 'labels'"
    with pytest.raises(XenonError, match=asked):
        manifest.read_manifest(file)


def test_further_columns_may_be_about_the_patient(tmp_path):
    header = "image,study,label,patient_sex,patient_age,site,view,age,label_date"
    file = written(tmp_path, ["films/1.png,S1,1,F,60,A,PA,60,2020"], header)
    (image,) = manifest.read_manifest(file).images
    assert list(image.extra) == header.split(",")[3:]
    with_patients = written(
        tmp_path / "b", ["films/1.png,P1,7"], "image,patient,patient_id"
    )
    assert manifest.read_manifest(with_patients).images[0].extra == {"patient_id": "7"}


def test_a_manifest_without_labels_cannot_be_packed_and_no_study_is_listed(tmp_path):
    header, rows = columns(ROWS, "image", "study", "scanner")
    config = PackConfig(written(tmp_path, rows, header), tmp_path / "out")
    reason = "no column 'label'.*, only 'image', 'study', 'scanner'$"
    with pytest.raises(XenonError, match=reason) as caught:
        pack.pack(config)
    assert caught.value.details == ()


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("images,label", "has the columns 'images', 'label': did you mean the column "
                         "'image' by 'images'"),
        ("file,label", "is no manifest, .* 'image', and not 'file', 'label'; for MURA"),
        ("x" * 99 + ",b" * 20, "not 'x{37}...', 'b', .* and 13 more; for MURA"),
    ],
)  # fmt: skip
def test_a_first_line_without_images_is_shown(tmp_path, header, reason):
    file = written(tmp_path, [], header)
    with pytest.raises(XenonError, match=reason):
        pack.pack(PackConfig(file, tmp_path / "out"))


def test_a_manifest_to_predict_has_its_misspelt_column_named(tmp_path):
    file = written(tmp_path, ["films/1.png,1"], "images,label")
    with pytest.raises(XenonError, match="'image' by 'images'"):
        input_listing.list_inputs(PredictConfig((file,), tmp_path / "out.csv", ()))


def test_an_image_that_is_listed_twice_is_an_error(tmp_path):
    with pytest.raises(XenonError, match="1 image is listed twice"):
        manifest.read_manifest(written(tmp_path, [ROWS[0], ROWS[0]]))


def test_muras_csvs_are_no_manifests(tmp_path):
    csv = tmp_path / "valid_image_paths.csv"
    csv.write_text("MURA-v1.1/valid/XR_WRIST/patient1/study1_positive/image1.png\n")
    assert not manifest.is_manifest(csv)
    with pytest.raises(XenonError, match="is no manifest"):
        pack.pack(PackConfig(csv, tmp_path / "out"))


# --- packed ---


@pytest.mark.parametrize(("label", "name"), [("1", "abnormal"), ("0", "normal")])
def test_a_split_of_one_class_is_told(tmp_path, caplog, label, name):
    valid = [
        "films/6.png,S5,P4,XR_HAND,{},valid,B",
        "films/7.png,S5,P4,XR_HAND,{},valid,B",
    ]
    source = written(tmp_path, ROWS[:5] + [row.format(label) for row in valid])
    pack.pack(PackConfig(source, tmp_path / "out", size=32))
    assert (
        f"valid holds 1 study, all {name}: kappa and AUROC are undefined; pack with a "
        f"larger --valid, or with studies of both classes in it"
    ) in caplog.text


def test_pooled_weights_are_advised_only_where_they_help(tmp_path, caplog):
    source = written(tmp_path / "a", [row.replace(",0,", ",1,") for row in ROWS])
    pack.pack(PackConfig(source, tmp_path / "a/out", size=32))
    assert "; pack training studies of both classes" in caplog.text
    assert "--pooled-weights" not in caplog.text
    one_type = [row.replace("S4,P3,XR_WRIST,1", "S4,P3,XR_WRIST,0") for row in ROWS]
    source = written(tmp_path / "b", one_type)
    pack.pack(PackConfig(source, tmp_path / "b/out", size=32))
    assert "XR_WRIST: the training images do not hold both classes" in caplog.text
    assert "; add --pooled-weights or --loss plain to xenon-train" in caplog.text


def test_both_classes_are_not_worth_a_word(tmp_path, caplog):
    pack.pack(PackConfig(written(tmp_path, ROWS), tmp_path / "out", size=32))
    assert "undefined" not in caplog.text


def test_a_manifest_is_packed_and_read_back(tmp_path):
    source = written(tmp_path, ROWS)
    packed = pack.pack(PackConfig(source, tmp_path / "out", size=32))
    assert packed.splits == ["train", "valid"]
    assert packed.meta.patients_known
    valid = packed.split("valid").listed()
    asked = manifest.read_manifest(source).images[5:]
    facts = ("path", "study", "study_type", "patient", "label", "extra")
    for read, expected in zip(valid, asked):
        for fact in facts:
            assert getattr(read, fact) == getattr(expected, fact)
    counts = packed.meta.splits["train"].counts
    assert (counts["XR_HAND"].images, counts["XR_HAND"].studies) == (3, 2)
    assert packed_folder.open_packed(tmp_path / "out").fingerprint == packed.fingerprint


def test_packing_is_the_same_wherever_the_images_lie(tmp_path):
    packed = [
        pack.pack(PackConfig(written(tmp_path / name, ROWS), tmp_path / f"{name}-out"))
        for name in ("a", "b")
    ]
    for name in ("pack.json", "train.rec", "train.csv", "valid.csv"):
        contents = [(each.folder / name).read_bytes() for each in packed]
        assert contents[0] == contents[1]


def test_a_changed_manifest_of_a_packed_folder_is_noticed(tmp_path):
    packed = pack.pack(PackConfig(written(tmp_path, ROWS), tmp_path / "out", size=32))
    file = tmp_path / "out" / "valid.csv"
    file.write_text(file.read_text().replace("P4", "P9"))
    with pytest.raises(XenonError, match=r"valid\.csv: changed on disk"):
        packed.split("valid")


def test_without_splits_patients_are_held_out_by_a_stable_hash(tmp_path):
    header = "image,study,patient,label"
    draw(tmp_path, 60)
    rows = [f"films/{n}.png,S{n},P{n // 2},{n % 4 // 2}" for n in range(1, 61)]
    source = tmp_path / "studies.csv"
    source.write_text("\n".join([header, *rows]) + "\n")

    def patients(out: str, **options) -> dict[str, set[str]]:
        config = PackConfig(source, tmp_path / out, size=32, **options)
        packed = pack.pack(config)
        return {
            name: {image.patient_or_study for image in packed.split(name).listed()}
            for name in packed.splits
        }

    usual = patients("a", valid=0.3)
    again = patients("b", valid=0.3, holdout=0.3)
    assert usual["valid"] == again["valid"]  # whatever else is held out
    assert len(patients("c", valid=0.6)["valid"]) > len(usual["valid"]) > 0
    assert not usual["train"] & usual["valid"]
    parts = again["train"], again["valid"], again["holdout"]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 31
    source.write_text("\n".join([header, *rows[:-8]]) + "\n")
    fewer = patients("d", valid=0.3)  # some leave, and none changes sides
    assert fewer["valid"] <= usual["valid"]


def test_unknown_patients_are_recorded_and_said(tmp_path, caplog):
    header, rows = columns(ROWS, "image", "study", "label", "split")
    source = written(tmp_path, rows, header)
    packed = pack.pack(PackConfig(source, tmp_path / "out", size=32))
    assert not packed.meta.patients_known
    assert "patients unknown" in caplog.text
    assert not packed_folder.open_packed(tmp_path / "out").meta.patients_known


def test_studies_without_a_label_cannot_be_packed(tmp_path):
    rows = [row.replace(",1,", ",,") for row in ROWS]
    with pytest.raises(XenonError, match="3 studies have no label") as caught:
        pack.pack(PackConfig(written(tmp_path, rows), tmp_path / "out"))
    assert list(caught.value.details) == ["S1", "S4", "S5"]


def test_a_share_for_validation_contradicts_splits(tmp_path):
    config = PackConfig(written(tmp_path, ROWS), tmp_path / "out", valid=0.2)
    with pytest.raises(ConfigError, match="--valid: has no effect"):
        pack.pack(config)


@pytest.mark.parametrize("name", ["holdout", "calibration"])
def test_a_share_contradicts_a_split_that_the_rows_tell(tmp_path, name):
    """Its images were lost, replaced by the share."""
    rows = [row.replace("0,train,", f"0,{name},") for row in ROWS if "S2" not in row]
    config = PackConfig(written(tmp_path, rows), tmp_path / "out", **{name: 0.4})
    with pytest.raises(ConfigError, match=f"--{name}: has no effect"):
        pack.pack(config)


def test_the_rows_may_tell_what_to_calibrate_on(tmp_path):
    rows = [row.replace(",valid,", ",calibration,") for row in ROWS]
    packed = pack.pack(PackConfig(written(tmp_path, rows), tmp_path / "out", size=32))
    assert packed.splits == ["train", "calibration"]
    assert packed.validation_split is None
    assert packed.meta.calibration == 0.0
    source = tmp_path / "studies.csv"
    source.write_text(source.read_text().replace("P4", "P1"))
    with pytest.raises(XenonError, match="1 contradiction") as caught:
        pack.pack(PackConfig(source, tmp_path / "other"))
    assert list(caught.value.details) == ["patient P1: splits train, calibration"]


def test_names_like_formulas_are_guarded_in_a_packed_folder_and_come_back(tmp_path):
    """And in a manifest, since a table that xenon wrote may be given as one."""
    draw(tmp_path, 2)
    (tmp_path / "films/1.png").rename(tmp_path / "=1.png")
    rows = ["=1.png,@S,=P,XR_HAND,1,train,-1.5", "'=2.png,S,P,XR_HAND,0,train,+A"]
    (tmp_path / "films/2.png").rename(tmp_path / "=2.png")
    (tmp_path / "studies.csv").write_text("\n".join([HEADER, *rows]))
    packing = PackConfig(tmp_path / "studies.csv", tmp_path / "out", size=32)
    packed = pack.pack(packing)
    listed = {image.path: image for image in packed.split("train").listed()}
    assert set(listed) == {"=1.png", "=2.png"}
    first = listed["=1.png"]
    assert (first.study, first.patient) == ("@S", "=P")
    assert [image.extra["scanner"] for image in listed.values()] in (
        ["-1.5", "+A"],
        ["+A", "-1.5"],
    )
    written_rows = (tmp_path / "out" / "train.csv").read_text().splitlines()
    assert "'=1.png,'@S,'=P,XR_HAND,1,-1.5" in written_rows
    assert "'=2.png,S,P,XR_HAND,0,'+A" in written_rows
