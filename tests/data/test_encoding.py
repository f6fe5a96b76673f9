import codecs
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.core.errors import DataError, SettingError
from tunesmith.data.encoding import bad_byte, codec, examine, opened, repair, text_of, wrong_bytes

KOREAN = '{"question": "배송은 언제 오나요?", "answer": "이틀 안에 도착합니다."}\n'


def file(tmp_path, content: bytes, name="a.jsonl"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            KOREAN.encode("cp949") * 3,
            r"CP949 \(EUC-KR\): byte 0xb9 at offset 14 \(line 1\) is not UTF-8.*\n.*\n.*data.encoding: cp949",
        ),
        (KOREAN.encode("utf-16"), r"utf-16: byte order mark ff fe at byte offset 0"),
        (KOREAN.encode("utf-16-le"), r"utf-16: a zero byte at offset 1.*\n.*\n.*data.encoding: utf-16-le"),
        (KOREAN.encode("utf-16-be"), r"data.encoding: utf-16-be"),
        (codecs.BOM_UTF32_LE + KOREAN.encode("utf-32-le"), r"utf-32"),
        ("質問はなんですか。わかりません。\n".encode("shift_jis") * 3, r"shift_jis"),
        ("你好，我想问一下退款的问题。\n".encode("gb18030") * 3, r"gb18030"),
        ("Café Zürich déjà vu\n".encode("cp1252") * 3, r"cp1252: byte 0xe9 at offset 3"),
        (b"", "is empty"),
        (b"%PDF-1.7 ...", "is a PDF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "Git LFS pointer"),
    ],
)
def test_what_is_not_utf8_is_named(tmp_path, content, says):
    with pytest.raises(DataError, match=says):
        examine(file(tmp_path, content), "auto")


@pytest.mark.parametrize("encoding", ["cp949", "euc-kr", "utf-16", "utf-16-le", "shift_jis"])
def test_a_named_encoding_is_read(tmp_path, encoding):
    text = KOREAN if encoding != "shift_jis" else "質問\n"
    path = file(tmp_path, text.encode(encoding))
    examine(path, encoding)
    with text_of(path, encoding) as stream:
        assert stream.read() == text


def test_utf8_with_and_without_a_mark_and_packed(tmp_path):
    assert examine(file(tmp_path, KOREAN.encode()), "auto") == "utf-8"
    marked = file(tmp_path, KOREAN.encode("utf-8-sig"))
    assert examine(marked, "auto") == "utf-8 with a byte order mark"
    with text_of(marked, "auto") as stream:
        assert stream.read() == KOREAN
    with text_of(file(tmp_path, gzip.compress(KOREAN.encode()), "a.jsonl.gz"), "auto") as stream:
        assert stream.read() == KOREAN


def test_a_torn_archive_is_named(tmp_path):
    path = file(tmp_path, gzip.compress(KOREAN.encode() * 100)[:-9], "a.jsonl.gz")
    with pytest.raises(DataError, match="gzip file that cannot be unpacked"), opened(path) as stream:
        stream.read()


def test_one_broken_byte_in_a_utf8_file_is_not_another_encoding(tmp_path):
    lines = [KOREAN.encode()] * 20
    lines[7] = lines[7].replace("이틀".encode(), b"\xec\x9d")
    path = file(tmp_path, b"".join(lines))
    assert examine(path, "auto") == "utf-8"
    whole, error = wrong_bytes(path)
    offset = b"".join(lines).index(b"\xec\x9d ")
    assert not whole and f"byte 0xec at offset {offset:,} (line 8)" in str(error)
    with text_of(path, "auto") as stream:
        assert [bad_byte(line) for line in stream] == [None] * 7 + [0xEC] + [None] * 12


def test_the_offset_is_exact_far_into_a_file(tmp_path):
    content = KOREAN.encode() * 30_000
    assert len(content) > 2 << 20
    path = file(tmp_path, content + b"ok\xff\n")
    assert f"byte 0xff at offset {len(content) + 2:,} (line 30,001)" in str(wrong_bytes(path)[1])
    assert wrong_bytes(file(tmp_path, content)) is None


def test_an_unknown_encoding_is_refused():
    with pytest.raises(SettingError, match='no encoding "utf-99"'):
        codec("utf-99")


@pytest.mark.parametrize("text", ["안녕하세요", "it’s – “so”", "café", "日本語です", "5€ ½", "🙂 ok", "뷁 쀍"])
@pytest.mark.parametrize("table", ["cp1252", "latin-1"])
def test_text_encoded_twice_is_put_right(text, table):
    shown = "".join(
        bytes([byte]).decode(table, "ignore") or chr(byte) for byte in text.encode()
    )  # bytes without a character stay as Latin-1 controls, as browsers do
    assert shown != text and repair(shown) == text
    assert repair(f"앞 {shown} 뒤") == f"앞 {text} 뒤"


def test_cp949_read_as_latin1_is_put_right():
    assert repair("안녕하세요".encode("cp949").decode("latin-1")) == "안녕하세요"


@pytest.mark.parametrize(
    "honest",
    ["É… è vero", "DÉJÀ VU «à la»", "naïve café’s", "Ã is a letter", "Größe ½ × 3°", "Â", "中文 한글 ñandú", "Ünïcödé"],
)
def test_honest_text_stays(honest):
    assert repair(honest) == honest


@given(st.text("가나다abc é€ñ漢字 ’–", max_size=30))
def test_repairing_twice_changes_nothing_more(text):
    assert repair(repair(text)) == repair(text)
