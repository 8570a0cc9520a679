"""Texts that tokenizers disagree about: many scripts, emoji sequences, code, white space, bytes."""
import random

SENTENCES = (
    "The quick brown fox jumps over the lazy dog; it's 3.14 o'clock, isn't it? WE'LL SEE.",
    "Voix ambiguë d’un cœur qui, au zéphyr, préfère les jattes de kiwis. Straße, GRÜSSE!",
    "Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy. Árvíztűrő tükörfúrógép.",
    "Tiếng Việt có nhiều dấu thanh: ngã, hỏi, nặng. İstanbul'da ışıklar söndü.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Ґанок, їжак, ёлка.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία· ΟΔΥΣΣΕΥΣ ἐν ἀρχῇ ἦν ὁ λόγος.",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق. ٠١٢٣٤٥",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה. שָׁלוֹם עֲלֵיכֶם",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश। १२३४५६",
    "আমি বাংলায় গান গাই। কৃষ্ণচূড়া ফুটেছে ০১২৩",
    "தமிழ் மொழி உலகின் பழமையான மொழிகளில் ஒன்று. ௧௨௩",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ๑๒๓",
    "いろはにほへと ちりぬるを。我が輩は猫である。名前はまだ無い。ｶﾀｶﾅ ＡＢＣ１２３",
    "天地玄黃,宇宙洪荒。日月盈昃,辰宿列張。你好，世界！简体中文与繁體中文。",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. 한국어",
    "ყველა ადამიანი იბადება თავისუფალი. Բոլոր մարդիկ ծնվում են ազատ։",
    "ሰው ሁሉ ነጻ ሆኖ ይወለዳል። ມະນຸດທຸກຄົນເກີດມາ ខ្មែរ ភាសា བོད་སྐད་",
    "def f(x, *args):\n\tif x >= 0x1F and not args[-1]:\n\t\treturn {'a': x**2, \"b\": [1_000]}  # ok\n",
    "#include <vector>\r\nint main() {\r\n    std::vector<int> v{1, 2, 3};\r\n    return v[0] << 3;\r\n}\r\n",
    "SELECT * FROM t WHERE a != 'x' AND b::int % 10 = 7; -- https://example.org/?q=a%20b&c=d#e",
    "$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt\\pi}{2}$ ∀x∈ℝ: ⌈x⌉ ≤ ½ ² ³ ⅷ Ⅷ ① ㊗",
)
EMOJI = ("🙂", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪🇫🇷", "❤️", "👨🏿‍🚀", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🫨", "🫱🏻‍🫲🏿", "☃", "♀️", "🧑‍💻")
SPACES = (" ", "  ", "   ", "        ", "\t", "\n", "\n\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85",
          "\u00a0", "\u1680", "\u180e", "\u2000", "\u2003", "\u2009", "\u200b", "\u200d", "\u2028",
          "\u2029", "\u202f", "\u205f", "\u2581", "\u3000", "\ufeff", " \n ", "\t ")
# Blocks that have letters, marks, numbers or symbols; the last ones astral.
RANGES = ((0x00, 0x7F), (0x80, 0xFF), (0x100, 0x24F), (0x250, 0x36F), (0x370, 0x52F), (0x530, 0x6FF),
          (0x700, 0x8FF), (0x900, 0xDFF), (0xE00, 0x11FF), (0x1200, 0x18AF), (0x1900, 0x1CFF),
          (0x1E00, 0x1FFF), (0x2000, 0x2BFF), (0x2C00, 0x2FFF), (0x3000, 0x33FF), (0x3400, 0x9FFF),
          (0xA000, 0xABFF), (0xAC00, 0xD7A3), (0xE000, 0xFFFF), (0x10000, 0x11FFF),
          (0x12000, 0x1CFFF), (0x1D000, 0x1EFFF), (0x1F000, 0x1FAFF), (0x20000, 0x323AF),
          (0xE0000, 0x10FFFF))
CONTRACTIONS = ("'s", "'S", "'T", "'re", "'VE", "'ll", "'LL", "'d", "'ſ", "’s", "'K", "''", "'")


def snippet(rng):
    sentence = rng.choice(SENTENCES)
    start = rng.randrange(len(sentence))
    return sentence[start:start + rng.choice((1, 2, 5, 12, 40))]


def block_text(rng):
    low, high = rng.choice(RANGES)
    points = (rng.randint(low, high) for _ in range(rng.choice((1, 2, 4, 9))))
    return "".join(chr(c) for c in points if not 0xD800 <= c < 0xE000)


def byte_text(rng):
    return bytes(rng.randrange(256) for _ in range(rng.choice((1, 3, 8, 20))))


def text(rng, extra=()):
    """A random text; `extra` are strings (special tokens) that some texts hold."""
    parts = []
    for _ in range(rng.choice((1, 1, 2, 3, 5, 9))):
        kind = rng.randrange(12)
        if kind < 4:
            parts.append(snippet(rng))
        elif kind < 6:
            parts.append(block_text(rng))
        elif kind == 6:
            parts.append(rng.choice(EMOJI))
        elif kind < 9:
            parts.append(rng.choice(SPACES) * rng.choice((1, 1, 1, 2, 5)))
        elif kind == 9:
            parts.append(rng.choice(CONTRACTIONS))
        elif kind == 10:
            parts.append(str(rng.randrange(10 ** rng.randrange(1, 9))))
        elif extra and rng.random() < 0.5:
            parts.append(rng.choice(extra))
        else:
            parts.append(byte_text(rng).decode("utf-8", "replace"))
    return "".join(parts)


def corpus(seed=1, lines=3000):
    """Lines to train vocabularies on: words of the sentences, shuffled."""
    rng = random.Random(seed)
    words = [sentence.split(" ") for sentence in SENTENCES]
    result = list(SENTENCES)
    for _ in range(lines):
        chosen = rng.choice(words)
        result.append(" ".join(rng.choice(chosen) for _ in range(8)))
    return result
