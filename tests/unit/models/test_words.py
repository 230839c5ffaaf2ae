"""Words of texts in any script."""

import re
import unicodedata

import pytest
import torch

from metaloop.models.bag_of_words import BagOfWords
from metaloop.models.hashed_words import HashedWords
from metaloop.models.words import split_words

LATIN = [
    "My card, my CARD!",
    "don't_stop 3.14 x-y",
    "Déjà vu — naïve café… “quoted” x² ½ ﬁne",
    "Straße ΑΒΓ Привет Ünïcode",
    "❤️ ok 👍🏽 #tag @me",
    "a\u200bb\u00ad c\u2028d",
]
SCRIPTS = {
    "Hindi": ("हिन्दी में नमस्ते", ["हिन्दी", "में", "नमस्ते"]),
    "Tamil": ("தமிழ் மொழி.", ["தமிழ்", "மொழி", "."]),
    "Persian": ("می\u200cروم خانه", ["میروم", "خانه"]),
    "Arabic in presentation forms": ("ﻣﺮﺣﺒﺎ", ["مرحبا"]),
    "Korean": ("한국어 문장", ["한국어", "문장"]),
    "Chinese": ("天气晴朗。好", ["天气", "气晴", "晴朗", "。", "好"]),
    "Chinese among Latin": ("我用iPhone手机15", ["我用", "iphone", "手机", "15"]),
    "Japanese": ("カタカナ漢字", ["カタ", "タカ", "カナ", "ナ漢", "漢字"]),
    "half-width kana": ("ｶﾞｽ", ["ガス"]),
    "Thai": ("ดีมาก", ["ดีม", "มา", "าก"]),
    "Burmese": ("မြန်မာ", ["မြန်", "န်မာ"]),
    "full width": ("ＨｉＴ １２！", ["hit", "12", "!"]),
    "NFD": (unicodedata.normalize("NFD", "Café"), ["café"]),
}


@pytest.mark.parametrize("text", LATIN)
def test_B8_words_of_separated_scripts_are_as_ever(text: str) -> None:
    assert split_words(text) == re.findall(r"\w+|[^\w\s]", text.lower())


@pytest.mark.parametrize("script", SCRIPTS)
def test_B8_words_of_every_script(script: str) -> None:
    text, expected = SCRIPTS[script]
    assert split_words(text) == expected


@pytest.mark.parametrize(
    ("topics", "fillers"),
    [
        (("天气晴朗", "股票下跌"), ("我听说", "大家都在谈", "今天的", "请问一下", "他们认为")),
        (("อากาศแจ่มใส", "หุ้นตกลงมาก"), ("ฉันได้ยินว่า", "ทุกคนพูดถึง", "วันนี้เรื่อง", "ขอถามว่า", "เขาคิดว่า")),
        (("मौसम की", "शेयर का"), ("मैंने सुना ", "सब लोग ", "आज की ख़बर ", "मुझे बताओ ", "वे मानते हैं ")),
    ],
)
def test_B8_texts_of_one_topic_are_alike(topics: tuple[str, str], fillers: tuple[str, ...]) -> None:
    texts = [filler + topic for topic in topics for filler in fillers]
    tokens = {name: torch.from_numpy(array) for name, array in HashedWords(4096)(texts, 64).items()}
    features = BagOfWords((64,), None, examples=tokens, size=4096)(tokens)
    alike = features @ features.T
    same = torch.tensor([[a // 5 == b // 5 for b in range(10)] for a in range(10)])
    other_filler = torch.tensor([[a % 5 != b % 5 for b in range(10)] for a in range(10)])
    assert alike[same & other_filler].min() > alike[~same & other_filler].max()
