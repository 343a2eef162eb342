"""The bytes of .rec files, against MXNet's reader and writer and fixed bytes."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path
from typing import Sequence, Tuple

import numpy as np
import pytest
from support import paths

from xenon_mx.data import recordio

MAGIC = bytes.fromhex("0a23d7ce")  # 0xced7230a, little-endian

# Labels and the encoded image of a record.
Content = Tuple[Sequence[int], bytes]


def plain(*lengths: int) -> list[bytes]:
    return [np.random.bytes(length).replace(MAGIC, b"....") for length in lengths]


def magical() -> list[bytes]:
    """Return images that contain the magic at aligned and other offsets."""
    images = [bytes(at) + MAGIC + bytes(rest) for at in range(9) for rest in range(5)]
    images += [MAGIC * n for n in (1, 2, 3, 5)]
    images += [MAGIC[:k] + MAGIC + MAGIC[k:] for k in range(4)]
    images += [b"ab" + MAGIC * 3, MAGIC + b"abc" + MAGIC + b"d" + MAGIC]
    pieces = [MAGIC, MAGIC[:2], b"\0", b"\0\0\0\0", b"abc"]
    for _ in range(50):
        chosen = np.random.randint(0, len(pieces), 12)
        images.append(b"".join(pieces[i] for i in chosen))
    return images


CASES = {
    "every length mod 4": lambda: plain(1, 2, 3, 4, 5, 6, 7, 8, 1021, 1022, 1023, 1024),
    "magic inside": magical,
    "one large": lambda: plain(3_000_001),
}


@pytest.fixture(params=list(CASES))
def contents(request: pytest.FixtureRequest) -> list[Content]:
    return [
        ((i % 2, i % 7, i), image) for i, image in enumerate(CASES[request.param]())
    ]


def packed(contents: Sequence[Content]) -> bytes:
    return b"".join(
        recordio.pack(i, labels, image) for i, (labels, image) in enumerate(contents)
    )


def packed_by_mxnet(contents: Sequence[Content], folder: Path) -> bytes:
    """Return the bytes that MXNet writes of the same records."""
    from xenon_mx.runtime.mxnet import mx

    rec = folder / "mxnet.rec"
    writer = mx.recordio.MXIndexedRecordIO(str(folder / "mxnet.idx"), str(rec), "w")
    for i, (labels, image) in enumerate(contents):
        header = mx.recordio.IRHeader(0, np.array(labels, np.float32), i, 0)
        writer.write_idx(i, mx.recordio.pack(header, image))
    writer.close()
    return rec.read_bytes()


def read(data: bytes) -> list[recordio.Record]:
    return list(recordio.read(io.BytesIO(data)))


# --- against MXNet ---


def test_pack_writes_the_bytes_that_mxnet_writes(
    contents: list[Content], tmp_path: Path
) -> None:
    assert packed(contents) == packed_by_mxnet(contents, tmp_path)


def test_pack_is_read_by_mxnet_in_any_order(
    contents: list[Content], tmp_path: Path
) -> None:
    from xenon_mx.runtime.mxnet import mx

    data = packed(contents)
    (tmp_path / "a.rec").write_bytes(data)
    offsets = [record.offset for record in read(data)]
    lines = [f"{i}\t{offset}\n" for i, offset in enumerate(offsets)]
    (tmp_path / "a.idx").write_text("".join(lines))

    reader = mx.recordio.MXIndexedRecordIO(
        str(tmp_path / "a.idx"), str(tmp_path / "a.rec"), "r"
    )
    for i in np.random.permutation(len(contents)):
        header, image = mx.recordio.unpack(reader.read_idx(int(i)))
        assert header.id == i
        assert header.label.tolist() == list(contents[i][0])
        assert image == contents[i][1]
    reader.close()


def test_read_yields_what_mxnet_wrote(contents: list[Content], tmp_path: Path) -> None:
    records = read(packed_by_mxnet(contents, tmp_path))

    assert [record.number for record in records] == list(range(len(contents)))
    assert [record.image for record in records] == [image for _, image in contents]
    for record, (labels, _) in zip(records, contents):
        assert record.labels.dtype == np.float32
        assert record.labels.tolist() == list(labels)

    index = (tmp_path / "mxnet.idx").read_text().split()
    assert [record.offset for record in records] == [int(o) for o in index[1::2]]


# --- fixed bytes ---


def test_the_lines_of_the_docs_read_what_mxnet_wrote(
    contents: list[Content], tmp_path: Path
) -> None:
    page = (paths.ROOT / "docs/files.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"^```python\n(.*?)^for ", page, re.DOTALL | re.MULTILINE)
    names: dict = {}
    exec(lines, names)  # noqa: S102 - the page's own words
    (tmp_path / "a.rec").write_bytes(packed_by_mxnet(contents, tmp_path))
    found = list(names["records"](tmp_path / "a.rec"))
    assert [number for number, _, _ in found] == list(range(len(contents)))
    assert [(tuple(labels), image) for _, labels, image in found] == contents
    (tmp_path / "cut.rec").write_bytes(packed(contents)[4:])
    with pytest.raises(AssertionError, match="not a .rec file"):
        next(names["records"](tmp_path / "cut.rec"))


def test_pack_small_record_is_these_bytes() -> None:
    words = [
        "0a23d7ce",  # magic
        "29000000",  # whole, 41 bytes
        "03000000",  # flag: three labels
        "00000000",  # the scalar label, unused
        "02010000",  # id 258
        "00000000",
        "00000000",  # id2
        "00000000",
        "0000803f",  # 1.0
        "00000040",  # 2.0
        "00004040",  # 3.0
        "696d6167",  # imag
        "65000000",  # e and the padding
    ]
    assert recordio.pack(258, (1, 2, 3), b"image").hex() == "".join(words)


def test_pack_magic_in_the_image_splits_the_record() -> None:
    record = recordio.pack(0, (0, 0, 0), b"abcd" + MAGIC + MAGIC + b"e")
    first, middle, last = (
        struct.pack("<I", kind << 29 | length)
        for kind, length in ((1, 40), (2, 0), (3, 1))
    )
    assert record[:8] == MAGIC + first
    assert record[44:] == b"abcd" + MAGIC + middle + MAGIC + last + b"e\0\0\0"


def test_pack_study_number_of_16_million_is_exact() -> None:
    (record,) = read(recordio.pack(2**40, (0, 1, 2**24), b"x"))
    assert record.number == 2**40
    assert record.labels.tolist() == [0, 1, 2**24]


def test_read_empty_file_yields_nothing() -> None:
    assert read(b"") == []


# --- damage ---


def three() -> tuple[bytes, list[int]]:
    """Return three records, the second in parts, and the offset of each."""
    parts = [
        recordio.pack(0, (0, 1, 2), b"first"),
        recordio.pack(1, (1, 1, 2), b"four" + MAGIC + b"more" + MAGIC),
        recordio.pack(2, (0, 0, 3), b"third!"),
    ]
    starts = [0, len(parts[0]), len(parts[0]) + len(parts[1])]
    return b"".join(parts), starts


def test_read_cut_anywhere_but_between_records_is_refused() -> None:
    data, starts = three()
    for kept in range(len(data)):
        if kept in starts:
            assert len(read(data[:kept])) == starts.index(kept)
            continue
        with pytest.raises(recordio.DamageError):
            read(data[:kept])


def test_read_yields_the_records_before_the_damage() -> None:
    data, starts = three()
    reader = recordio.read(io.BytesIO(data[:-1]))
    assert [next(reader).offset, next(reader).offset] == starts[:2]
    with pytest.raises(recordio.DamageError, match=f"byte {starts[2]}"):
        next(reader)


def test_read_any_changed_bit_of_a_magic_is_refused() -> None:
    data, starts = three()
    for start in starts:
        for bit in range(32):
            damaged = bytearray(data)
            damaged[start + bit // 8] ^= 1 << bit % 8
            with pytest.raises(recordio.DamageError, match=f"at byte {start}"):
                read(bytes(damaged))


def test_read_changed_length_is_refused_or_changes_padding_only() -> None:
    data, starts = three()
    for start in starts:
        for bit in range(32):
            damaged = bytearray(data)
            damaged[start + 4 + bit // 8] ^= 1 << bit % 8
            try:
                records = read(bytes(damaged))
            except recordio.DamageError:
                continue
            # Another length with the same padded size cannot be detected.
            assert bit < 2
            assert [record.offset for record in records] == starts


def test_read_any_changed_kind_of_any_part_is_refused() -> None:
    data, starts = three()
    heads = [at for at in range(0, len(data), 4) if data[at : at + 4] == MAGIC]
    assert len(heads) == len(starts) + 2
    for head in heads:
        for kind in range(1, 8):
            damaged = bytearray(data)
            damaged[head + 7] ^= kind << 5
            with pytest.raises(recordio.DamageError):
                read(bytes(damaged))


@pytest.mark.parametrize("kind", range(1, 8))
def test_read_part_without_the_other_parts_is_refused(kind: int) -> None:
    data = bytearray(recordio.pack(0, (0, 0, 0), b"abcd"))
    data[7] |= kind << 5
    with pytest.raises(recordio.DamageError):
        read(bytes(data))
    with pytest.raises(recordio.DamageError):
        read(bytes(data) + recordio.pack(1, (0, 0, 0), b"abcd"))


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"1234", id="no header"),
        pytest.param(struct.pack("<IfQQ", 3, 0, 0, 0), id="no labels"),
        pytest.param(struct.pack("<IfQQ3f", 3, 0, 0, 0, 0, 0, 0), id="no image"),
        pytest.param(struct.pack("<IfQQ", 0, 1, 0, 0) + b"x" * 20, id="scalar label"),
        pytest.param(
            struct.pack("<IfQQ2f", 2, 0, 0, 0, 0, 0) + b"x" * 20, id="2 labels"
        ),
        pytest.param(b"\xff" * 40, id="absurd label count"),
    ],
)
def test_read_record_of_other_content_is_refused(payload: bytes) -> None:
    record = MAGIC + struct.pack("<I", len(payload)) + payload
    with pytest.raises(recordio.DamageError, match="no image with 3 labels"):
        read(record + bytes(-len(record) % 4))


def test_read_other_files_are_refused() -> None:
    for data in (b"\x89PNG\r\n\x1a\n", b"0\t0\n", bytes(8), b"\n"):
        with pytest.raises(recordio.DamageError):
            read(data)
