"""Pseudonyms of patients, studies and images, and the key that makes them.

Owns the key's file and how identifiers become names in paths; must not know DICOM
files, labels or outputs.

A pseudonym is a keyed hash (HMAC-SHA-256, RFC 2104) of identifiers. With the key, the
same patient has the same pseudonym in every export and on every machine, so that splits
by patient hold. Without it, nobody can compute the pseudonyms of the IDs that a
hospital can have, as could be done with a plain hash. Whoever has the key and a list of
IDs can: the key is as confidential as the IDs, and is never written beside outputs.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import os
import re
import stat
import unicodedata
from pathlib import Path
from typing import Mapping

from xenon_mx.errors import FileError, os_error
from xenon_mx.runtime import files, text

_log = logging.getLogger(__name__)

KEY_VARIABLE = "XENON_KEY"
_KEY_BYTES = 32  # as many as SHA-256 has: a longer key is no stronger (RFC 2104, 3)
_KEY = re.compile(rb"(?:[0-9a-fA-F]{2}){32,1024}\s*")
_LARGEST_KEY = 4096  # bytes read of its file

# Crockford's base 32 in small letters: none is taken for another (no i, l, o, u), and
# names differ on file systems that ignore case, too.
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
# 16 digits of 5 bits are 80 bits. Among ten million images, the probability that any
# two have the same pseudonym is n^2 / 2^81 = 4e-11.
_LENGTH = 16
# In an HMAC's input, so that another scheme would give other pseudonyms.
_SCHEME = "xenon pseudonym 1"
# First letters: a name that begins with a letter is text to every reader of tables,
# where 12e45 would be a number.
_LETTERS = {"patient": "p", "study": "s", "image": "i", "file": "f"}


class Naming:
    """The names of patients, studies, images and files in all that is written.

    Args:
        key: The key of pseudonyms; None keeps the identifiers, made safe for paths.
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    @property
    def keeps_identifiers(self) -> bool:
        """Return whether identifiers are written as they are."""
        return self._key is None

    def patient(self, patient_id: str, issuer: str) -> str:
        """Return the name of a patient, by an ID and who issued it, which may be ''."""
        plain = (patient_id, issuer) if issuer else (patient_id,)
        return self._name("patient", (patient_id, issuer), plain)

    def patient_of_study(self, study_uid: str) -> str:
        """Return the name of a patient without an ID, who is that of one study."""
        # No ID is read as empty, so that no patient with an ID has the same name.
        return self._name("patient", ("", "", study_uid), ("", study_uid))

    def study(self, study_uid: str, study_type: str, part: str = "") -> str:
        """Return the name of a study, which is one body part under a UID.

        Args:
            study_uid: StudyInstanceUID.
            study_type: `XR_*`.
            part: The body part, if its study type is unknown: several parts may be.
        """
        plain = (study_uid, part) if part else (study_uid,)
        return self._name("study", (study_uid, study_type, part), plain)

    def image(self, image_uid: str) -> str:
        """Return the name of an image, by its SOPInstanceUID."""
        return self._name("image", (image_uid,), (image_uid,))

    def file(self, path: str) -> str:
        """Return the name of a file that has no readable header, by its path."""
        if self._key is None:
            return text.one_line(path)
        return self._name("file", (path,), ())

    def __repr__(self) -> str:
        kind = "identifiers" if self._key is None else "pseudonyms"
        return f"<Naming by {kind}>"  # never the key

    def _name(self, kind: str, fields: tuple[str, ...], plain: tuple[str, ...]) -> str:
        if self._key is None:
            return "@".join(map(_safe, plain))
        normal = [unicodedata.normalize("NFC", field) for field in fields]
        # JSON, so that no two lists of fields are the same bytes.
        message = json.dumps([_SCHEME, kind, *normal], allow_nan=False).encode("ascii")
        digest = hmac.new(self._key, message, hashlib.sha256).digest()
        number = int.from_bytes(digest, "big")
        digits = (_DIGITS[number >> 5 * place & 31] for place in range(_LENGTH))
        return _LETTERS[kind] + "".join(digits)


def _safe(name: str) -> str:
    """Return an identifier as one folder's or file's name, different for each one.

    All but letters, digits, `-`, `.` and `_` is written as %XX, and so is what would
    hide a file or be read as a study type or a label in MURA's layout.
    """
    is_special = re.match(r"XR_|\.", name) or re.search(r"_(positive|negative)$", name)
    plain = "-" if is_special else "-._"
    return "".join(
        char
        if char.isalnum() or char in plain
        else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))
        for char in name
    )


def default_key_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the key is: `XENON_KEY`, or else in the user's configuration.

    That is `$XDG_CONFIG_HOME/xenon/pseudonym.key`, and `~/.config` in place of the
    variable if it is not set or no absolute path (XDG Base Directory Specification).
    """
    named = environment.get(KEY_VARIABLE)
    if named:
        return Path(named)
    folder = Path(environment.get("XDG_CONFIG_HOME", ""))
    if not folder.is_absolute():
        folder = Path(environment.get("HOME") or os.path.expanduser("~"), ".config")
    return folder / "xenon" / "pseudonym.key"


def naming(keep_identifiers: bool = False, key_file: Path | None = None) -> Naming:
    """Return the names to use, after making the key if there is none.

    Args:
        keep_identifiers: Whether to write identifiers as they are; no key is needed.
        key_file: The key's file; None is the default one.

    Raises:
        XenonError: The key cannot be read or made, can be read by others, or is none.
    """
    if keep_identifiers:
        return Naming(None)
    return Naming(_read_or_make(key_file or default_key_file()))


def _read_or_make(file: Path) -> bytes:
    try:
        with contextlib.suppress(FileNotFoundError):
            return _read_key(file)
        if _make_key(file):
            _log.warning(
                "made the key of the pseudonyms, %s: keep it secret, and keep a copy, "
                "since no other key gives the same pseudonyms",
                file,
            )
        return _read_key(file)
    except OSError as error:
        reason = os_error("", error).reason
        raise FileError(
            file,
            f"the key of the pseudonyms: {reason}; name another file with "
            f"{KEY_VARIABLE}",
        ) from error


def _read_key(file: Path) -> bytes:
    """Read a key, after checking that nobody else can."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    with open(os.open(file, flags), "rb") as stream:
        state = os.fstat(stream.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise FileError(file, "the key of the pseudonyms is no regular file")
        if state.st_mode & 0o077:
            quoted = text.shell_quote(file)
            raise FileError(
                file,
                f"the key of the pseudonyms can be used by others (mode "
                f"{stat.S_IMODE(state.st_mode):04o}): chmod 600 {quoted}",
            )
        content = stream.read(_LARGEST_KEY)
    if not _KEY.fullmatch(content):
        raise FileError(
            file,
            f"no key of pseudonyms: expected at least {2 * _KEY_BYTES} hexadecimal "
            f"digits, as xenon makes them; restore the key, or remove the file for a "
            f"new one, which gives other pseudonyms",
        )
    return bytes.fromhex(content.decode("ascii").strip())


def _make_key(file: Path) -> bool:
    """Make a random key, whole or not at all; return False if another process has."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = file.parent / files.partial_name()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(partial, flags, 0o600), "wb") as stream:
            stream.write(os.urandom(_KEY_BYTES).hex().encode("ascii") + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.link(partial, file)  # unlike a rename, replaces no key
        return True
    except FileExistsError:
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
