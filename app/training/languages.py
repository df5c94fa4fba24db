"""The months, days and halves of days of other languages in the texts of times.

A spec says what the words of its file are in English; the names of Unicode's CLDR are for guesses
and cures alone.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import islice

import polars as pl
from babel import Locale

from app.learner.spelling import DAYS, DOT, HALVES, MONTHS, UNDOTTED, WORD, bare_word

LANGUAGES = (
    *("en", "de", "fr", "es", "it", "pt", "nl", "pl", "sv", "nb", "da", "fi", "cs", "sk", "hu"),
    *("ro", "tr", "ru", "uk", "el", "bg", "hr", "sl", "sr", "sr_Latn", "mk", "sq", "id", "ms"),
    *("ca", "gl", "eu", "et", "lv", "lt", "is", "af", "he", "ar", "fa"),
)
# What programs and people write beside the names of CLDR; ordinals mean nothing.
OTHERS = {
    "en": dict.fromkeys(("st", "nd", "rd", "th"), ""),
    "de": {"Uhr": "", "Mrz": "March", "Jän": "January", "Jänner": "January"},
    "es": {"Set": "September", "setiembre": "September"},
    "fr": {"er": ""},
    # The word for "of the year", after it.
    "ru": {"\u0433": ""},
    "uk": {"\u0440": ""},
}
# A day and a year, or an hour and a minute.
TWO_NUMBERS = re.compile(r"\d\D+\d")
PREFIX = re.compile(r"^de\s|^d['\u2019]")
# Hungarian's short morning is a word of dates elsewhere.
PREPOSITIONS = {"de", "du"}
# Of a name that is cut off, fewer letters say too little.
LEAST_LETTERS = 3
# A day of the week alone is in no need of being read.
TELLING = {*MONTHS, *HALVES}
# Texts of more different words, or of which fewer have a month, are no times.
MOST_WORDS, LEAST_SHARE = 60, 0.9


def translated(text_N: pl.Series, words: Mapping[str, str]) -> pl.Series:
    """Texts in which words are what they mean."""
    if not words:
        return text_N
    meanings = {bare_word(word): meaning for word, meaning in words.items()}
    text_N = text_N.str.replace_all(DOT, UNDOTTED[0]).str.replace_all(DOT, UNDOTTED[0])
    there = text_N.str.extract_all(WORD).explode().drop_nulls().unique().to_list()
    # The longest first, and those of no meaning too: no word is sought inside of another.
    there.sort(key=len, reverse=True)
    english = [meanings.get(bare_word(word), word) for word in there]
    if there:
        text_N = text_N.str.replace_many(there, english, leftmost=True)
    return text_N.str.strip_chars()


def words_of(values: Iterable[str]) -> list[str]:
    """The words of texts, each once, without the dots at their ends."""
    found = dict[str, None]()
    for value in values:
        found.update(dict.fromkeys(re.findall(WORD, undotted(value))))
    return list(found)


def undotted(text: str) -> str:
    return re.sub(DOT, UNDOTTED[1], re.sub(DOT, UNDOTTED[1], text))


def languages_of(values: Sequence[str]) -> dict[str, dict[str, str]]:
    """The languages in which nearly every text has a month or a half of the day, and their words.

    Of those in which the months of the texts are whole names; else of those in which they are the
    beginnings of names. Languages that say the same are one.
    """
    dated = [set(words_of([value])) for value in values if TWO_NUMBERS.search(value)]
    words = list(dict.fromkeys(word for some in dated for word in some))
    if not words or len(words) > MOST_WORDS or len(dated) < LEAST_SHARE * len(values):
        return {}
    for meaning_of in (_whole, _begun):
        found, has_months = dict[str, dict[str, str]](), False
        for language in LANGUAGES:
            known = {word: meaning_of(language, word) for word in words}
            meanings = {word: meaning for word, meaning in known.items() if meaning is not None}
            telling = {word for word, meaning in meanings.items() if meaning in TELLING}
            named = sum(not telling.isdisjoint(some) for some in dated)
            if telling and named >= LEAST_SHARE * len(values):
                has_months |= not {meanings[word] for word in telling}.isdisjoint(MONTHS)
                every = {**_usual(language, words), **meanings}
                if every not in found.values():
                    found[language] = every
        if found:
            # Of halves of the day alone all languages mean the same.
            return found if has_months else dict(islice(found.items(), 1))
    return {}


def name_of(language: str) -> str:
    """The language's name in English."""
    return str(Locale.parse(language).get_display_name("en"))


def _whole(language: str, word: str) -> str | None:
    return _names(language).get(bare_word(word))


def _begun(language: str, word: str) -> str | None:
    """What a word means that may be the beginning of one month's name."""
    bare = bare_word(word)
    if (meaning := _names(language).get(bare)) is not None or len(bare) < LEAST_LETTERS:
        return meaning
    begun = {
        meaning
        for name, meaning in _names(language).items()
        if meaning in MONTHS and name.startswith(bare)
    }
    return begun.pop() if len(begun) == 1 else None


def _usual(language: str, words: Sequence[str]) -> dict[str, str]:
    """The names of a language that belong beside these words, in the order of the year."""
    known = _names(language)
    found = dict[str, str]()
    for kinds, meanings in ((_months(language), MONTHS), (_days(language), DAYS)):
        there = {bare for word in words if known.get(bare := bare_word(word)) in meanings}
        if there:
            # All names of a kind where that has every one of these: whole, or in short.
            fitting = [kind for kind in kinds if there <= {bare_word(name) for name in kind}]
            for kind in fitting or kinds:
                found = {**kind, **found}
    halves = {**_halves(language), "a.m": "AM", "p.m": "PM"}
    if not {bare_word(word) for word in words}.isdisjoint(map(bare_word, halves)):
        found = {**halves, **found}
    once = {bare_word(name): name for name in reversed(found)}
    order = (*MONTHS, *DAYS, *HALVES)
    return {
        name: found[name] for name in sorted(once.values(), key=lambda n: order.index(found[n]))
    }


@cache
def _names(language: str) -> dict[str, str]:
    """What each word of a language means, by its letters; months before days of the same name."""
    found = dict[str, str]()
    for kind in (*_months(language), OTHERS.get(language, {}), *_days(language), _halves(language)):
        for name, meaning in kind.items():
            found.setdefault(bare_word(name), meaning)
    return found


@cache
def _months(language: str) -> list[dict[str, str]]:
    """Whole and short names, inside of a date and alone."""
    months = Locale.parse(language).months
    return [
        {PREFIX.sub("", months[context][width][n + 1]).rstrip("."): MONTHS[n] for n in range(12)}
        for width in ("wide", "abbreviated")
        for context in ("format", "stand-alone")
    ]


@cache
def _days(language: str) -> list[dict[str, str]]:
    days = Locale.parse(language).days["format"]
    return [
        {days[width][n].rstrip("."): DAYS[n] for n in range(7)}
        for width in ("wide", "abbreviated", "short")
        if width in days
    ]


@cache
def _halves(language: str) -> dict[str, str]:
    periods = Locale.parse(language).day_periods["format"]
    return {
        words[half.lower()].rstrip("."): half
        for words in periods.values()
        for half in HALVES
        if half.lower() in words and bare_word(words[half.lower()]) not in PREPOSITIONS
    }
