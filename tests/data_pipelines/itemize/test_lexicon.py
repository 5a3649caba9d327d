"""The vocabulary is whole, says one thing a term, and takes a user's own."""

import json

from data_pipelines.datasets import ct_rate
from data_pipelines.errors import PrepareError
from data_pipelines.itemize import language
from data_pipelines.itemize import lexicon
from data_pipelines.itemize import similarity
from data_pipelines.itemize import tokens
from data_pipelines.phantom import chest_findings
from data_pipelines.phantom import chest_report
from data_pipelines.phantom import lesions
from data_pipelines.phantom import report
import pytest

LEXICON = lexicon.load()
FILES = sorted(lexicon._FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_files_tell_source_and_version(path):
  value = json.loads(path.read_text("utf-8"))
  assert value["source"] and value["version"]


def test_no_term_means_two_things():
  meanings = {}
  part = lexicon._as_user({path.stem: json.loads(path.read_text("utf-8"))
                           for path in FILES})
  entries = [(f["name"], f["terms"]) for f in (*part["findings"],
                                               *part["anatomy"])]
  entries += [*part["cues"].items(), ("normal", part["normal"])]
  for name, terms in entries:
    for term in terms:
      assert meanings.setdefault(tokens.folded(term), name) == name, term


def test_all_labels_of_ct_rate_are_findings():
  labels = {f.ct_rate for f in LEXICON.findings.values()} - {None}
  assert labels == {*ct_rate.FINDINGS, "Medical material", "Lymphadenopathy"}


def test_all_categories_of_medfilip_can_be_reached():
  assert len(LEXICON.categories) == len(set(LEXICON.categories)) == 62
  reached = {c for f in LEXICON.findings.values()
             for c in (f.medfilip, *f.medfilip_terms.values())} - {None}
  assert reached == set(LEXICON.categories) - LEXICON.same.keys()
  assert set(LEXICON.same.values()) < reached


def test_category_follows_the_word_of_the_report():
  finding = LEXICON.findings["lung opacity"]
  assert finding.category("Opacities") == "opacity"
  assert finding.category("Infiltrates") == "infiltrate"
  assert LEXICON.findings["hydrocephalus"].category("hydrocephalus") is None


def test_names_that_entries_speak_of_exist():
  for finding in LEXICON.findings.values():
    assert finding.organ is None or finding.organ in LEXICON.parents
    for head, place in finding.place_of:
      assert head in LEXICON.findings and place in LEXICON.parents
  assert set(LEXICON.groups) <= LEXICON.parents.keys()


def test_anatomy_belongs_to_the_groups_of_fvlm():
  assert len(LEXICON.groups) == 35
  for text, group in [("jejunum", "small bowel"), ("ileum", "small bowel"),
                      ("duodenal wall", "small bowel"),
                      ("pericardial", "heart"), ("myocardium", "heart"),
                      ("LAD", "heart"), ("bronchi", "lung"),
                      ("middle lobe", "lung"), ("hiatal", "esophagus"),
                      ("oesophagus", "esophagus"), ("aortic arch", "aorta"),
                      ("pons", "brain"), ("T12 thoracic vertebra",
                                          "thoracic vertebrae")]:
    anatomy = language.analyse(f"{text} is normal").anatomy
    assert LEXICON.group(anatomy[0]) == group


@pytest.mark.parametrize("name, phrases", [
    *report.PHRASES.items(), *chest_report.PHRASES.items()])
def test_words_of_the_phantoms_are_known(name, phrases):
  assert name in {kind.name for kind in (*lesions.KINDS,
                                         *chest_findings.KINDS)}
  for phrase in phrases:
    vessel = chest_report.VESSEL.get(name)
    text = f"There is {phrase}" + (f" of the {vessel}." if vessel else ".")
    found = language.analyse(text).findings
    assert [(m.canonical, m.negated) for m in found] == [(name, False)]


@pytest.mark.parametrize("text", [
    *report.HARMLESS, *chest_report.HARMLESS, report.NORMAL,
    chest_report.NORMAL])
def test_harmless_sentences_of_the_phantoms_are_normal(text):
  assert language.analyse(text).normal


def test_a_users_own_file_adds_terms(tmp_path):
  path = tmp_path / "own.json"
  path.write_text(json.dumps({
      "findings": [{"name": "lung nodule", "terms": ["blip"]},
                   {"name": "gloop", "terms": ["gloopy lung"],
                    "organ": "lung", "of": [["cyst", "flange"]]}],
      "anatomy": [{"name": "flange", "terms": ["flange"], "part_of": "lung"}],
      "cues": {"negation_before": ["sans"]}, "normal": ["dandy"],
      "severity": [["whopping", "huge"]], "location": [["yonder"]]}))
  own = lexicon.load(str(path))
  names = lambda text: [(m.canonical, m.negated) for m in language.analyse(
      text, lexicon=own).findings]
  assert names("Sans blip; gloopy lungs.") == [("lung nodule", True),
                                               ("gloop", False)]
  assert names("A cyst of the flange.") == [("gloop", False)]
  assert names("Nodule.") == [("lung nodule", False)]
  assert language.analyse("All dandy.", lexicon=own).normal
  assert language.vocabulary("yonder", "location", own)[0].name == "yonder"
  assert language.vocabulary("huge", "severity", own)[0].name == "whopping"
  assert own.findings["lung nodule"].ct_rate == "Lung nodule"
  assert not language.analyse("A blip.").findings


@pytest.mark.parametrize("text", [
    "no json", "[1]", '{"finding": []}', '{"findings": [{"name": "x"}]}',
    '{"findings": [{"name": "x", "terms": ["y"], "colour": 1}]}',
    '{"findings": [{"name": "x", "terms": ["--"]}]}', '{"normal": "x"}',
    '{"anatomy": [{"name": "x", "terms": ["y"], "part_of": "nowhere"}]}'])
def test_a_wrong_file_is_refused_in_a_sentence(tmp_path, text):
  path = tmp_path / "own.json"
  path.write_text(text)
  with pytest.raises(PrepareError) as error:
    lexicon.load(str(path))
  assert str(error.value).endswith(".")


@pytest.mark.parametrize("one, other", [
    ("Oedema", "edema"), ("haemorrhages", "hemorrhage"), ("tumour", "tumor"),
    ("Ischaemic", "ischemic"), ("oesophageal", "esophageal"),
    ("calibre", "caliber"), ("centres", "center"), ("grey", "gray"),
    ("generalised", "generalized"), ("visualised", "visualized"),
    ("leukaemia", "leukemia"), ("metastases", "metastasis"),
    ("opacities", "opacity"), ("masses", "mass"), ("vertebrae", "vertebra"),
    ("ground-glass", "ground glass"), ("artefact", "artifact"),
    ("pneumothoraces", "pneumothorax"), ("caecum", "cecum")])
def test_spellings_and_numbers_fold_together(one, other):
  assert tokens.folded(one) == tokens.folded(other)


@pytest.mark.parametrize("word", [
    "raised", "disease", "noise", "pelvis", "ascites", "pancreas", "thymus",
    "atelectasis", "exercise", "hour", "four", "contour", "lens", "less"])
def test_words_that_only_look_foldable_stay(word):
  assert tokens.folded(word) == (word,)


def test_similarity_is_of_words():
  assert similarity.fold(" Mild OEDEMA!") == similarity.fold("mild edema")
  assert similarity.fold("1.5 cm") != similarity.fold("15 cm")
  assert similarity.content_words("There is no nodule in the lungs.") == {
      "no", "nodule", "lung"}
  assert similarity.jaccard("a small red car", "the small blue car") == 0.5
  assert similarity.jaccard(frozenset("ab"), frozenset("bc")) == 1 / 3
  assert similarity.jaccard("", "the") == 1.0
