"""Which Korean speech level a text is in, by the endings of its sentences.

>>> [level(s) for s in ("감사합니다.", "고마워요!", "고마워.", "주문 번호: 12")]
['hapsyo', 'haeyo', 'banmal', None]

hapsyo 합쇼체 (-ㅂ니다, -ㅂ니까, -십시오), haeyo 해요체 (-요, -죠), banmal 반말 (해체 and 해라체: -다, -어, -지, -냐, ...).
A rule of endings, not a parser. A fragment without a verb shows no level (None). Endings that also end nouns (-지, -네, -자, -어)
count only where the sentence is closed by . ! ? ~ or the like, which headings and list items are not.
"""

import re
from typing import Literal

Speech = Literal["hapsyo", "haeyo", "banmal"]

FINALS = " ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
# Before -다 a verb has one of these: 했다 간다 없다 같다 좋다 않다 싶다 밝다 젊다 넓다. Nouns mostly have none: 바다 캐나다.
VERB_FINALS = set("ㅆㄴㅄㅌㅎㄶㅍㄺㄻㄼ")
SURE = re.compile(
    r"(이다|하다|되다|아니다|거든|잖아|[는은인한던]데|구나|느냐|더라|[았었했였됐겠있없]어|[어아해]라|[할갈줄볼될올]게|[을할갈볼]래|[을할갈볼]까"
    r"|거야|이야|는걸|을걸|하자|가자|[았었했겠]지|[았었했겠]네|는구나|단다|란다|줘|돼|해봐|할걸)$"
)
PERHAPS = re.compile(
    r"(다|어|아|야|지|네|니|냐|자|래|대|해|와|워|봐|써|가|라|까|나|군|게|걸|데|러|려|져|켜|여|춰|응|마|싸|돼|세)$"
)
# Nouns met at the end of a closed fragment ("회원 가입 필요.").
NOUNS = re.compile(
    r"(필요|중요|주요|수요|개요|소요|강요"
    r"|바다|의자|과자|모자|남자|여자|환자|문자|글자|숫자|투자|[담당사용소비관리개발참석신청]자|편지|정지|금지|유지|공지|이미지|페이지|메시지|강아지"
    r"|언어|영어|국어|단어|용어|어머니|할머니|언니|동네|미래|노래|거래|세대|시대|기대|최대|이해|오해|피해|올해|효과|결과|사과|나라|국가|평가|증가|추가|휴가|작가"
    r"|배려|우려|고려|참여|기여|급여|대여|무게|가게|하나|언제나)$"
)
ENDED = re.compile(r"[.!?~…。！？]")


def level(sentence: str) -> Speech | None:
    """The speech level of one sentence, or None when its end shows none."""
    body = re.sub(r"(?:[^가-힣A-Za-z0-9]|[ㄱ-ㅎㅏ-ㅣ])+$", "", sentence)  # .!?~ quotes, emoji, ㅋㅋ, ㅠㅠ
    found = re.search(r"[가-힣]+$", body)
    if not found:
        return None
    word, closed = found[0], bool(ENDED.search(sentence[len(body) :]))
    before = _final(word[-3]) if len(word) >= 3 else ""
    if (
        before == "ㅂ"
        and word.endswith(("니다", "니까", "디다", "디까", "시다"))
        or word.endswith(("십시오", "십시요", "십쇼"))
    ):
        return "hapsyo"
    if NOUNS.search(word):
        return None
    if word.endswith(("요", "죠", "에용", "해용")):
        return "haeyo"
    verb = len(word) >= 2 and word.endswith("다") and _final(word[-2]) in VERB_FINALS
    if verb or SURE.search(word) or closed and PERHAPS.search(word):
        return "banmal"
    return None


def levels(text: str) -> list[Speech]:
    """The levels of all sentences that show one, in order."""
    sentences = re.split(r"(?<=[.!?~…。！？])\s+|\n+", text)
    return [found for sentence in sentences if (found := level(sentence)) is not None]


def _final(syllable: str) -> str:
    """The final consonant of a Hangul syllable: "합" -> "ㅂ", "가" -> " "."""
    return FINALS[(ord(syllable) - 0xAC00) % 28]
