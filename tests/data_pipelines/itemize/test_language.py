"""What a sentence says: the labelled set, and what the set does not show."""

from data_pipelines.itemize import language
import pytest

from tests.data_pipelines.itemize import labelled
from tests.data_pipelines.itemize import measure

# Somewhat below what measure.py prints, so that a new term may cost a sentence.
LEAST = {"rules": (0.98, 0.98), "held_out": (0.94, 0.92)}


def _of(text):
  return {(m.canonical, m.negated) for m in language.analyse(text).findings}


def test_labelled_set_is_large_and_balanced():
  rows = labelled.sentences()
  assert len({row["text"] for row in rows}) == len(rows) >= 220
  assert len(labelled.sentences("held_out")) >= 60
  assert 0.4 < sum(row["abnormal"] for row in rows) / len(rows) < 0.65
  traps = {row["trap"] for row in rows}
  assert all(sum(row["trap"] == trap for row in rows) >= 3 for trap in traps)


@pytest.mark.parametrize("part", labelled.PARTS)
def test_labelled_sentences_are_read_as_well_as_documented(part):
  kept, findings = labelled.score(labelled.sentences(part), measure.by_rules)
  least_kept, least_findings = LEAST[part]
  assert min(kept.precision, kept.recall) >= least_kept
  assert min(findings.precision, findings.recall) >= least_findings


@pytest.mark.parametrize("text, kept", [
    ("No change in the 5 mm nodule.", True), ("No nodule.", False),
    ("The left base is not clear.", True), ("The left base is clear.", False),
    ("The effusion is no longer seen.", True),
    ("The lesion is not significantly changed.", True),
    ("Pneumonia cannot be excluded.", True), ("A curious finding.", True)])
def test_exceptions_of_the_specification(text, kept):
  assert language.analyse(text).abnormal == kept


@pytest.mark.parametrize("text, kind", [
    ("Lungs are clear.", "normal"), ("None.", "normal"),
    ("Mild atrophy.", "abnormal"), ("Follow-up is advised.", "recommendation"),
    ("The history is of stroke and glioma is seen.", "abnormal"),
    ("Patient with known glioma shows a new cyst in the pons.", "abnormal"),
    ("Patient with ___ has a 1.5 cm cyst in the pons.", "abnormal"),
    ("The patient has a history of lung cancer.", "history"),
    ("History of stroke.", "history"), ("No interval change.", "comparison"),
    ("CT without contrast.", "technique"), ("Something odd here.", "unknown")])
def test_kind_of_a_sentence(text, kind):
  analysis = language.analyse(text)
  assert analysis.kind == kind and analysis.normal == (kind == "normal")


def test_heading_decides_what_a_sentence_is_about():
  assert language.analyse("Lung cancer.").abnormal
  assert language.analyse("Lung cancer.", "history").kind == "history"
  assert language.analyse("Pneumonia?", "indication").kind == "history"


def test_scopes_end_with_the_sentence():
  assert _of("No effusion. Small nodule. No mass") == {
      ("pleural effusion", True), ("lung nodule", False), ("mass", True)}


def test_a_negation_reaches_over_lists_but_not_over_many_words():
  lost = "No thing whatever my dear colleague likes calling stuff nodule."
  assert _of(lost) == {("lung nodule", False)}
  assert _of("No effusion, abscess, cyst, stone or mass.") == {
      (name, True) for name in ("pleural effusion", "abscess", "cyst", "stone",
                                "mass")}


@pytest.mark.parametrize("text, found", [
    ("No prior imaging, lungs show nodules.", "lung nodule"),
    ("No effusion, small nodule or mass.",
     "-pleural effusion -lung nodule -mass"),
    ("No effusion, small nodule.", "-pleural effusion lung nodule"),
    ("No mass is seen, cyst.", "-mass cyst"),
    ("Apart from an abscess, nodules are not seen.", "abscess -lung nodule"),
    ("Consolidation is present and effusion is absent.",
     "consolidation -pleural effusion"),
    ("Hydrocephalus persists and effusion is absent.",
     "hydrocephalus -pleural effusion"),
    ("Consolidation, cyst and effusion are absent.",
     "-consolidation -cyst -pleural effusion"),
    ("Nodule in the lung, thyroid is normal.", "lung nodule"),
    ("A cyst, e.g. an abscess, is not seen.", "-cyst -abscess"),
    ("Non-calcified nodule.", "lung nodule"),
    ("None of the nodules shows fat stranding.", "lung nodule -inflammation"),
    ("Fibrosis is likely a scar.",
     "pulmonary fibrotic sequela pulmonary fibrotic sequela"),
    ("No evidence that the mass has grown.", "mass"),
    ("No enlargement of the known cyst.", "cyst"),
    ("A cyst but no stone, yet a mass.", "cyst -stone mass"),
])
def test_reach_of_a_cue(text, found):
  got = [("-" if m.negated else "") + m.canonical
         for m in language.analyse(text).findings]
  assert " ".join(got) == found


def test_mention_tells_term_and_place_in_the_text():
  text = "R\u00f6ntgen: \u0130 Mild bibasilar Ground-Glass Opacities, left."
  mention, = language.analyse(text).findings
  assert mention.canonical == "lung opacity"
  assert mention.term == text[mention.start:mention.end] == (
      "Ground-Glass Opacities")


def test_uncertain_gone_and_context():
  uncertain, = language.analyse("Possible pneumonia.").findings
  assert uncertain.uncertain and not uncertain.negated
  gone, = language.analyse("The effusion has resolved.").findings
  assert gone.gone and gone.negated
  contexts = [m.context for m in language.analyse(
      "History of stroke. MRI to exclude glioma. Mother had lung cancer. "
      "A meningioma.").findings]
  assert contexts == ["history", "hypothetical", "family", "study"]


@pytest.mark.parametrize("text, numbers", [
    ("A 1.5 cm nodule", ("15 mm",)), ("1.2 x 0.8 cm", ("12 mm", "8 mm")),
    ("3-5 mm", ("3 mm", "5 mm")), ("2 cm x 14 mm", ("20 mm", "14 mm")),
    ("two cysts, 0,5 cm", ("2", "5 mm")), ("No. 3 rib", ("3",)),
    ("disc at L4-5, T2, COVID-19", ()), ("1.50 cm and 15 mm", ("15 mm",))])
def test_sizes_are_in_millimetres(text, numbers):
  assert language.analyse(text).numbers == numbers


@pytest.mark.parametrize("text, side, all_sides", [
    ("Left upper lobe nodule", "left", {"left"}),
    ("Nodule on the right", "right", {"right"}),
    ("Effusions on both sides", "bilateral", {"bilateral"}),
    ("Effusion on the right and the left", "bilateral", {"left", "right"}),
    ("A nodule", None, set()),
    ("No pneumothorax, small left effusion", None, {"left"})])
def test_side_of_a_finding(text, side, all_sides):
  analysis = language.analyse(text)
  assert analysis.findings[0].laterality == side
  assert analysis.laterality == all_sides


@pytest.mark.parametrize("text, name", [
    ("Calcified plaques in the LAD", "coronary artery wall calcification"),
    ("The aortic arch shows calcification", "arterial wall calcification"),
    ("Calcification in the thyroid", "calcification"),
    ("The heart is enlarged", "cardiomegaly"),
    ("Enlarged hilar lymph nodes", "lymphadenopathy"),
    ("Nodule of the left lobe of the thyroid", "thyroid nodule"),
    ("An effusion around the heart", "pericardial effusion"),
    ("Pleural effusion, heart is normal", "pleural effusion"),
    ("The interlobular septa are thickened", "interlobular septal thickening")])
def test_place_names_a_finding(text, name):
  assert _of(text) == {(name, False)}


def test_anatomy_is_followed_by_what_it_is_part_of():
  anatomy = language.analyse("Nodule in the left lower lobe.").anatomy
  assert anatomy == ("lower lobe", "lung")
  assert set(language.analyse("The putamen is normal.").anatomy) == {
      "basal ganglia", "brain"}


@pytest.mark.parametrize("text, found", [
    ("Compared with 12/03/2020, stable.", ["12/03/2020"]),
    ("Seen on 3 May 2019.", ["3 May 2019"]),
    ("Discussed with Dr. Jane Smith at 10:30 am.",
     ["Discussed with Dr. Jane Smith", "10:30 am"]),
    ("Called at 10:30 am", ["10:30 am"]), ("Seen at 14:05 h", ["14:05 h"]),
    ("MRN: 123-456", ["MRN: 123-456"]), ("Accession 12345678", None),
    ("Signed by John Miller", ["Signed by John Miller"]),
    ("Nodule on image 12 of series 3, 4.5 x 3.2 mm at L4-5, may be benign", []),
])
def test_identifiers_are_found(text, found):
  spans = [text[a:b] for a, b in language.analyse(text).identifiers]
  assert spans == (found if found is not None else [text])


def test_vocabulary_takes_the_longest_word():
  names = lambda text, which: [
      text[s.start:s.end] for s in language.vocabulary(text, which)]
  assert names("Mild to moderate left lower lobe opacity", "severity") == [
      "Mild to moderate"]
  found = language.vocabulary("Both lower lobes and the heart", "location")
  assert [s.name for s in found] == ["bilateral lower lobe", "heart"]
  # The first of two names that fold together counts.
  assert language.vocabulary("ventricles", "location")[0].name == "ventricle"
