"""Raw text becomes plain text, whatever it was, in bounded time."""

import time

from data_pipelines.itemize import clean
from data_pipelines.itemize import language
from data_pipelines.itemize import sentences
import pytest

SLOW_SECONDS = 8     # of 50 000 characters; a quadratic step takes minutes


@pytest.mark.parametrize("raw, text, flags", [
    ("Nodule.", "Nodule.", ()),
    ("  No\u00a0 effusion ,  no mass .  ", "No effusion, no mass.", ()),
    ("Line one\r\nline two\rline three", "Line one\nline two\nline three", ()),
    ("a\n\n \n\nb", "a\n\nb", ()),
    ("\ufeffNo\x00 mass\u200b.\x07", "No mass.", ()),
    ("Oede\u0301me", "Oed\u00e9me", ()),
    ("the patient\u2019s \u201cmass\u201d", "the patient's \"mass\"", ()),
    ("<p>Nodule&nbsp;of <b>5</b> mm</p><p>No effusion &amp; no mass</p>",
     "Nodule of 5 mm\n\nNo effusion & no mass", ("markup",)),
    ("<style>p {a: b}</style><ul><li>mass</li></ul>", "mass", ("markup",)),
    ("Size < 5 mm and > 3 mm", "Size < 5 mm and > 3 mm", ()),
    ("Liver\tnormal", "Liver: normal.", ("markup",)),
    ("| Nodule | yes | 5 mm |\n|---|---|---|\n| Effusion | no |",
     "Nodule: yes, 5 mm.\n\nEffusion: no.", ("markup",)),
    ("<tr><td>Heart</td><td>normal</td></tr>", "Heart: normal.", ("markup",)),
    ("Seen by ___ on [**2101-3-4**] at XXXX.", "Seen by on at.",
     ("deidentified",)),
    ("___", "", ("deidentified",)),
    ("Xxxx nodule [REDACTED]", "nodule", ("deidentified",)),
    ("5 \u00c2\u00b0 caf\u00c3\u00a9", "5 \u00b0 caf\u00e9", ("mojibake",)),
    ("it\u00e2\u20ac\u2122s a \u00e2\u20ac\u0153mass\u00e2\u20ac\u009d",
     "it's a \"mass\"", ("mojibake",)),
    ("caf\u00c3\u0192\u00c2\u00a9", "caf\u00e9", ("mojibake",)),
    ("no\ufffdmass", "no mass", ("mojibake",)),
    ("", "", ()),
    (" \n.- ", "", ()),
])
def test_text_becomes_plain(raw, text, flags):
  assert clean.clean(raw) == (text, flags)


def test_plain_text_stays_as_it_is():
  text = ("FINDINGS: No effusion; a 1.5 cm nodule (series 3), 2.0 .5\n"
          "1. Mass in L4-5, R&D, 5% < 10%.\n\nIMPRESSION:\nNormal: none.")
  assert clean.clean(text) == (text, ())
  assert clean.clean(clean.clean("<i>a_ b</i> , c").text).text == "a_ b, c"


@pytest.mark.parametrize("text", [
    "Kein Nachweis eines Ergusses, die Lunge ist unauff\u00e4llig.",
    "Pas d'\u00e9panchement et absence de nodule dans les poumons.",
    "No se observa derrame pleural y los pulmones son normales con el.",
    "Non si osserva versamento pleurico, il cuore \u00e8 nella norma.",
    "Akci\u011ferde nod\u00fcl izlenmedi ve kalp boyutu normaldir.",
    "\u041b\u0435\u0433\u043a\u0438\u0435 \u0431\u0435\u0437 "
    "\u043f\u0430\u0442\u043e\u043b\u043e\u0433\u0438\u0438.",
    "\u80ba\u91ce\u6e05\u6670",
])
def test_other_languages_are_told(text):
  assert clean.clean(text).flags == ("language",)


@pytest.mark.parametrize("text", [
    "Mild cardiomegaly. Small effusion.", "Nodule de novo, en bloc.",
    "The lungs are clear and there is no effusion in the left pleura.",
    "There is a mass in the left lung of Mr. El Din and of the der ... con.",
    "Situs inversus. Cor pulmonale.", "", "a b c",
])
def test_english_is_not_taken_for_another_language(text):
  assert not clean.clean(text).flags


def test_too_long_is_told_from_the_next_character_on():
  longest = "nodule " * (clean.MAX_CHARACTERS // 7 + 1)
  longest = longest[:clean.MAX_CHARACTERS]
  assert not clean.clean(longest).flags
  assert clean.clean(longest + "x").flags == ("too_long",)


@pytest.mark.parametrize("unit", [
    "!", "a.", "1. ", "<a", "<!--", "[**", "x|", "a\t", "\u00c3\u00a9", "- ",
    "a.b@", "nodule, ", "mild, ", "nodule absent ", "aorta calcification ",
    "aorta and ", "except a, ", "no , mild ", "FINDINGS: ", "\n"])
def test_50_000_characters_take_no_quadratic_time(unit):
  raw = unit * (50_000 // len(unit))
  start = time.process_time()
  text = clean.clean(raw).text
  for sentence in sentences.split(text):
    language.analyse(sentence.text)
  language.analyse(text)
  assert time.process_time() - start < SLOW_SECONDS
