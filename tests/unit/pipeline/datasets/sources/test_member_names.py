from __future__ import annotations

import pytest

from pipeline.datasets.sources.member_names import decode_name, guess_encoding
from pipeline.errors import BadArchive

NAMES = {
    "gbk": [
        "袋鼠 浣熊",
        "苹果 香蕉",
        "猫 狗",
        "正常 缺陷",
        "训练集 不合格",
        "玫瑰 郁金香 向日葵",
        "图片1 图片2",
    ],
    "cp932": ["カンガルー アライグマ", "猫 犬", "りんご みかん", "正常 異常", "表 裏", "ソファ 椅子"],
    "big5": ["貓 狗", "蘋果 香蕉", "袋鼠 浣熊", "正常 瑕疵", "玫瑰 鬱金香"],
    "cp949": ["고양이 개", "사과 바나나", "정상 불량", "고양이 강아지"],
    "cp437": ["Känguru Waschbär", "café thé", "Äpfel Öl", "Größe Straße", "Müll"],
    "cp850": ["maçã não", "Ávila Óscar", "ÄPFEL", "køter ål", "Vögel"],
    "cp852": ["kočka žlutý", "źrebię żółw", "łoś", "Měsíc"],
    "cp866": ["кошка собака", "енот кенгуру", "Кошки Собаки", "РОЗА ТЮЛЬПАН", "да нет"],
    "cp1251": ["кошка собака", "Кошки Собаки", "да нет"],
    "cp1252": ["maçã não", "Känguru Waschbär"],
    "utf-8": ["Känguru Waschbär", "袋鼠 浣熊", "кошка", "A\u0308pfel", "Cafe\u0301 The\u0301"],
    "cp737": ["γάτα σκύλος", "Γάτες Σκύλοι", "μήλο αχλάδι"],
}


@pytest.mark.parametrize(("encoding", "words"), [(name, each) for name in NAMES for each in NAMES[name]])
def test_short_names_are_read_as_their_writers_system_wrote_them(encoding: str, words: str) -> None:
    names = [f"all/{word}/{number}.jpg".encode(encoding) for word in words.split() for number in range(2)]
    guessed = guess_encoding([name for name in names if not name.isascii()])
    assert guessed is not None
    assert [name.decode(guessed.encoding) for name in names] == [name.decode(encoding) for name in names]


def test_a_second_reading_is_named_where_it_is_nearly_as_likely() -> None:
    guessed = guess_encoding(["猫/1.jpg".encode("gbk"), "狗/1.jpg".encode("gbk")])
    assert guessed is not None
    assert "read as gbk: 猫, 狗; it might be 癡 (big5)" in guessed.describe("a.zip")
    assert guess_encoding([]) is None


def test_a_name_that_is_none_in_an_encoding_is_refused() -> None:
    with pytest.raises(BadArchive, match="cannot be read as cp949.*Correct `encoding`"):
        decode_name(b"\xff\xff", "cp949", "a.zip")
