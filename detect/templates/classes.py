"""What each of the 256 bytes is to the lexer, and the few words that it knows."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

DIGIT, HEX, LETTER, SPACE, HARD, DOT, SLASH, MARK = 1, 2, 4, 8, 16, 32, 64, 128
"""HEX: letters a-f (LETTER: the others, and every byte of a multi-byte character). HARD: a token by itself.
MARK: `\\`, `@`, `#` and what else makes an atom worth a second look."""
BREAK: Final = SPACE | HARD

MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
VALUES: Final = ("true", "True", "TRUE", "false", "False", "FALSE", "null", "NULL", "root", "ROOT")
"""Words that stand for a value wherever they are."""
DOMAINS: Final = ("com", "net", "org", "edu", "gov", "mil", "info", "biz", "local", "lan", "internal", "cloud", "arpa")
COUNTRIES: Final = (  # noqa: SIM905 - legible
    "ac ae ar at au be bg br by ca ch cl cn co cz de dk ee eg es eu fi fr gr hk hr hu ie il in io ir it jp kr kz lt lu "
    "lv ma mx my ng nl no nz om pe ph pk pt ro ru sa se sg si sk th tr tv tw ua uk us uz vn za").split()
SOURCES: Final = ("cc", "cpp", "cxx", "hpp", "go", "py", "js", "ts", "java", "rs", "rb", "sh", "php", "cs", "pl", "kt",
                  "scala", "swift", "mm", "sql", "log", "conf", "xml", "json", "yaml", "yml")
"""Behind the last dot of a file in which a line is named, `main.go:88`: no host with a port."""
REVERSED: Final = ("com", "net", "org", "edu", "gov", "java", "javax", "io", "sun", "mapred", "sys", "kernel")
"""A name that begins so is a class or a setting and no host."""


def _classes() -> NDArray[np.int64]:
    table = np.full(256, LETTER, np.int64)
    table[:33] = SPACE
    table[127] = SPACE
    for characters, kind in ((b"0123456789", DIGIT), (b"abcdefABCDEF", HEX), (b"()[]{}<>=,;:\"'|", HARD), (b".", DOT),
                             (b"/", SLASH), (b"\\@#$%&+~", MARK), (b"-_*!?^`", 0)):
        for character in characters:
            table[character] = kind
    return table


def _numbers(words: tuple[str, ...] | list[str]) -> NDArray[np.uint64]:
    return np.array([int.from_bytes(w.encode(), "little") for w in words], np.uint64)


CLASS: Final = _classes()
SOURCE_NUMBERS: Final = _numbers(SOURCES)
REVERSED_NUMBERS: Final = _numbers(REVERSED)


def fnv(word: bytes) -> int:
    """The hash that the lexer has of a word when it has read it (FNV-1a)."""
    value = 0xCBF29CE484222325
    for byte in word:
        value = (value ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return value


def _hashed(words: tuple[str, ...] | list[str]) -> NDArray[np.uint64]:
    """[512] each word's hash where nine of its bits point; so one look tells whether a word is one of these."""
    table = np.zeros(512, np.uint64)
    for word in words:
        at = fnv(word.encode()) >> 8 & 511
        if table[at]:
            raise ValueError(f"{word} meets another word")
        table[at] = fnv(word.encode())
    return table


def _pairs(words: list[str]) -> NDArray[np.bool_]:
    """[65536] whether two bytes, the first one counting for more, are one of these words."""
    table = np.zeros(65536, np.bool_)
    for word in words:
        table[int.from_bytes(word.encode(), "big")] = True
    return table


VALUE_HASHES: Final = _hashed(VALUES)
MONTH_HASHES: Final = _hashed(MONTHS)
DAY_HASHES: Final = _hashed(DAYS)
DOMAIN_HASHES: Final = _hashed(DOMAINS)
IS_COUNTRY: Final = _pairs(COUNTRIES)
