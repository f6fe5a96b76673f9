"""Bytes to text, and what went wrong when it did: CP949, UTF-16, broken bytes, text that was encoded twice.

>>> repair("ì•ˆë…•í•˜ì„¸ìš”")
'안녕하세요'

Files are read as UTF-8 where every byte that is not stays visible (a lone surrogate), so the row it sits in can be named
and the rest can still be read. `examine` looks at a file's head before anything is parsed.
"""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from tunesmith.core.errors import DataError, SettingError

_HEAD = 1 << 20
_GZIP = b"\x1f\x8b"
_NOT_DATA = {
    b"%PDF-": "a PDF",
    b"\xd0\xcf\x11\xe0": "an old Office file (.xls, .doc)",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"(\xb5/\xfd": "a zstd archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"SQLite format 3": "an SQLite database",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself (git lfs pull fetches it)",
}

# The 2,350 syllables of EUC-KR: CP949 has all 11,172, but text that people write is made of these.
_HANGUL = (
    "[" + "".join(bytes([high, low]).decode("euc-kr") for high in range(0xB0, 0xC9) for low in range(0xA1, 0xFF)) + "]"
)

AUTO, REPAIR = "auto", "repair"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file's bytes, unpacked when they are gzip. What the system or a torn archive says becomes a DataError."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield cast(BinaryIO, unpacked)
            else:
                yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path} is a gzip file that cannot be unpacked to its end: {error}", fix="Copy or download it again."
        ) from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder.", wanted="A file.") from None
    except PermissionError:
        raise DataError(f"No permission to read {path}.", fix="Change its permissions.") from None


@contextmanager
def text_of(path: Path, encoding: str) -> Iterator[IO[str]]:
    """A file as a stream of text, line ends untouched, no byte order mark. Bytes that are not text stay as surrogates."""
    with opened(path) as file:
        try:
            yield io.TextIOWrapper(
                cast(IO[bytes], file), encoding=codec(encoding), errors="surrogateescape", newline=""
            )
        except UnicodeError as error:  # UTF-16 has errors that no escape can stand for
            where = f" at byte {error.start:,} of a block" if isinstance(error, UnicodeDecodeError) else ""
            reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
            raise DataError(
                f"{path} is not {encoding}: {reason}{where}.", fix="Leave data.encoding out to have the encoding named."
            ) from None


def codec(encoding: str) -> str:
    """Python's name for `data.encoding`."""
    if encoding.lower() in (AUTO, REPAIR, "utf-8", "utf8", "utf-8-sig"):
        return "utf-8-sig"
    name = "cp949" if encoding.lower() in ("euc-kr", "euckr", "ks_c_5601-1987") else encoding
    try:
        "".encode(name)  # base64, zlib and others are codecs, but not of text
        return codecs.lookup(name).name
    except (LookupError, UnicodeError):
        raise SettingError(
            f'There is no encoding "{encoding}".',
            fix="Common ones: utf-8, cp949, utf-16, cp1252, repair (for text encoded twice)",
        ) from None


def examine(path: Path, encoding: str) -> str:
    """Refuse what is not text, or not in `encoding`, by a look at the head. Returns the encoding's name to show.

    Raises DataError naming the encoding it seems to be, the first byte that shows it, and the key that reads it.
    """
    with opened(path) as file:
        head = file.read(_HEAD)
    if not head:
        raise DataError(f"{path} is empty.", wanted="At least one row.")
    for mark, what in _NOT_DATA.items():
        if head.startswith(mark):
            raise DataError(f"{path} is {what}.", wanted="Text (JSONL, JSON, CSV, TSV), Parquet or XLSX.")
    name = codec(encoding)
    if encoding.lower() not in (AUTO, REPAIR, "utf-8", "utf8", "utf-8-sig"):
        return name
    for mark, wide in (
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if head.startswith(mark):
            raise _other(path, wide, f"byte order mark {mark.hex(' ')} at byte offset 0", wide)
    zeros = head[:4096].count(0)
    if zeros > len(head[:4096]) // 5:
        wide = "utf-16-le" if head[1:4096:2].count(0) > zeros // 2 else "utf-16-be"
        raise _other(
            path, "utf-16", f"a zero byte at offset {head.index(0)}, {zeros} in the first {len(head[:4096]):,}", wide
        )
    if _first_bad(head, final=False) is not None:
        problem = wrong_bytes(path)
        if problem is not None and problem[0]:
            raise problem[1]
    return "utf-8 with a byte order mark" if head.startswith(codecs.BOM_UTF8) else "utf-8"


def wrong_bytes(path: Path) -> tuple[bool, DataError] | None:
    """Where a file stops being UTF-8, and why. None when it is UTF-8; True when the whole file is in another encoding."""
    at = _first_bad_in(path)
    if at is None:
        return None
    offset, line, byte, sample = at
    where = f"byte 0x{byte:02x} at offset {offset:,} (line {line:,}) is not UTF-8"
    guess = guess_encoding(sample)
    if guess is not None:
        return True, _other(path, "CP949 (EUC-KR)" if guess == "cp949" else guess, where, guess)
    return False, DataError(
        f"{path}: {where}.",
        wanted="Text in UTF-8.",
        fix="Correct it, leave such rows out (data.bad_rows: drop), or name the encoding (data.encoding: cp949)",
    )


def guess_encoding(sample: bytes) -> str | None:
    """The encoding of bytes that are not UTF-8; None when most lines are UTF-8 after all or nothing fits."""
    lines = [line for line in sample.splitlines()[:2000] if not line.isascii()]
    whole = sum(_first_bad(line, final=True) is None for line in lines)
    if not lines or whole > len(lines) // 4:
        return None
    body = b"\n".join(lines)
    for name, script in (("cp949", _HANGUL), ("shift_jis", "[ぁ-ヿ]"), ("gb18030", "[一-鿿]"), ("cp1252", "[À-ÿ]")):
        text = body.decode(name, "ignore")
        lost = len(body) - len(text.encode(name, "ignore"))
        foreign = len(re.findall("[^\x00-\x7f]", text))
        # Japanese and Chinese bytes read as CP949 give rare syllables and many Chinese characters.
        if name == "cp949" and len(re.findall("[\u4e00-\u9fff\uf900-\ufaff]", text)) > 0.1 * foreign:
            continue
        if lost <= 2 + len(body) // 200 and foreign > 2 and len(re.findall(script, text)) >= 0.5 * foreign:
            return name
    return None


def bad_byte(text: str) -> int | None:
    """The first byte of a string that was not text in its file (see `text_of`); None when all is well."""
    found = re.search("[\udc80-\udcff]", text)
    return ord(found[0]) - 0xDC00 if found else None


# A byte 0x80-0xBF as Windows-1252 (or Latin-1, where that has nothing) shows it.
_SHOWN = {chr(byte): byte for byte in range(0x80, 0x100)}
for _byte in range(0x80, 0xA0):
    try:
        _SHOWN[bytes([_byte]).decode("cp1252")] = _byte
    except UnicodeDecodeError:
        continue
_REST = "[" + re.escape("".join(character for character, byte in _SHOWN.items() if byte < 0xC0)) + "]"
_TWICE = re.compile(f"(?:[\u00c2-\u00df]{_REST}|[\u00e0-\u00ef]{_REST}{{2}}|[\u00f0-\u00f4]{_REST}{{3}})+")
_KOREAN_BYTES = re.compile("(?:[\u00b0-\u00c8][\u00a1-\u00fe]){2,}")


def repair(text: str) -> str:
    """Put right what was decoded with the wrong table once and encoded again; other text comes back as it is.

    >>> repair("itâ€™s"), repair("¾È³ç"), repair("café")
    ('it’s', '안녕', 'café')
    """
    if text.isascii():
        return text
    return _KOREAN_BYTES.sub(_from_cp949, _TWICE.sub(_from_utf8, text))


def _from_utf8(found: re.Match[str]) -> str:
    try:
        text = bytes(_SHOWN[character] for character in found[0]).decode("utf-8")
    except UnicodeDecodeError:
        return found[0]
    # A single pair can be honest text (an É before an ellipsis), so it must turn into something usual.
    usual = len(text) > 1 or re.fullmatch(
        "[가-힣ㄱ-ㅎㅏ-ㅣ\u00a0-\u00ff\u2010-\u203a\u20ac\U0001f300-\U0001faff]", text
    )
    return text if usual else found[0]


def _from_cp949(found: re.Match[str]) -> str:
    try:
        text = found[0].encode("latin-1").decode("euc-kr")
    except UnicodeDecodeError:
        return found[0]
    return text if re.fullmatch("[가-힣]+", text) else found[0]


def _other(path: Path, name: str, where: str, key: str) -> DataError:
    return DataError(
        f"{path} seems to be {name}: {where}.", wanted="Text in UTF-8.", fix=f"Read it as it is: data.encoding: {key}"
    )


def _first_bad(data: bytes, *, final: bool) -> int | None:
    try:
        codecs.utf_8_decode(data, "strict", final)
    except UnicodeDecodeError as error:
        return error.start
    return None


def _first_bad_in(path: Path) -> tuple[int, int, int, bytes] | None:
    """Offset, line and value of the first byte that is not UTF-8, and up to 1 MB of lines from there on."""
    with opened(path) as file:
        rest, base, line = b"", 0, 1
        while True:
            block = file.read(_HEAD)
            data = rest + block
            try:
                consumed = codecs.utf_8_decode(data, "strict", not block)[1]
            except UnicodeDecodeError as error:
                start = data.rfind(b"\n", 0, error.start) + 1
                line += data.count(b"\n", 0, error.start)
                return base + error.start, line, data[error.start], data[start:] + file.read(_HEAD)
            if not block:
                return None
            line += data.count(b"\n", 0, consumed)
            rest, base = data[consumed:], base + consumed
