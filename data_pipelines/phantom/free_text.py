"""A phantom's study as a radiologist would dictate it: one report in prose.

The items of `report.write` stand among sentences that are no items: history,
technique, what is normal, what is not there, a comparison, an impression that
says the findings once more in other words, and what to do next. Which of it
are findings is known, so a method that itemises reports can be scored. The
sentences around the items are of their own wording, and never deny what the
study shows.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from data_pipelines.phantom import lesions
from data_pipelines.phantom import report
from data_pipelines.phantom.wording import pick

# What may be denied, by the kind of lesion that would make it untrue.
DENIED = {
    "acute infarct": ("acute infarct", "recent ischaemia", "acute stroke",
                      "territorial infarction"),
    "vasogenic oedema": ("vasogenic oedema", "brain edema", "brain swelling"),
    "microhaemorrhages": ("microhaemorrhages", "cerebral microbleeds"),
    "haematoma": ("haematoma", "intracranial hemorrhage", "subdural hematoma"),
    "enhancing mass": ("enhancing mass", "brain tumour", "metastasis"),
    "cystic lesion": ("arachnoid cyst", "cystic lesion"),
    "lipoma": ("lipoma", "fatty lesion"),
    "": ("midline shift", "hydrocephalus", "cerebral herniation",
         "venous sinus thrombosis", "extra-axial collection"),
}
DENIALS = (
    "No {a}.",
    "No {a} or {b}.",
    "There is no sign of {a}.",
    "There is no evidence of {a}, {b} or {c}.",
    "{a} is not identified.",
    "Neither {a} nor {b} is demonstrated.",
    "The examination is negative for {a}.",
    "The brain is free of {a}.",
    "Without indication of {a} or {b}.",
    "{a} can be ruled out.",
    "{a} was not found on any of the sequences.",
    "Absence of {a} and {b}.",
    "I see no {a}.",
    "Nothing suggests {a}.",
    "{a}: none.",
)
ORDINARY = (
    "The ventricular system is of normal width.",
    "Ventricles and sulci are age-appropriate.",
    "The lateral ventricles are symmetric and not dilated.",
    "Midline structures are in their usual position.",
    "Normal flow voids of the large intracranial vessels.",
    "The pituitary gland is unremarkable.",
    "The corpus callosum is fully formed and of regular thickness.",
    "The craniocervical junction is normal.",
    "Paranasal sinuses and mastoid air cells are clear.",
    "Both orbits appear normal.",
    "The calvarium is intact.",
    "Grey-white matter differentiation is preserved.",
    "The cerebellopontine angles are clear on both sides.",
    "Bone marrow signal is within normal limits.",
    "The internal auditory canals are normal bilaterally.",
    "Regular appearance of the hippocampi.",
    "The basal cisterns are well preserved.",
    "The remaining brain parenchyma shows normal signal.",
    "The dural venous sinuses are patent.",
    "The optic chiasm is inconspicuous.",
    "No abnormality of the skull base.",
    "The soft tissues of the scalp show nothing abnormal.",
)
REASONS = (
    "Headache for three weeks.",
    "First seizure yesterday.",
    "Dizziness and falls.",
    "Known {kind}.",
    "Suspected {kind}.",
    "Rule out {kind}.",
    "Previous operation for a {kind} in the {place}.",
    "Follow-up of {kind}, {place}.",
    "58-year-old with weakness of the {side} arm, {kind}?",
    "Memory problems; mother had a {kind}.",
)
SPOKEN_HISTORY = (
    "The patient has a history of {kind}.",
    "History of {kind} in the {place}, treated elsewhere.",
    "The referring doctor asks about {kind}.",
)
TECHNIQUE = (
    "MRI of the brain in several planes.",
    "Multiplanar multisequence imaging was performed with and without "
    "gadolinium.",
    "T1, T2 and FLAIR images were acquired at 3 T.",
    "Images are slightly degraded by motion.",
)
COMPARED = ("None.", "None available.", "MRI of the previous year.")
UNCHANGED = (
    "No significant change since the previous examination.",
    "Compared with the last study the appearance is stable.",
    "No prior studies are available for comparison.",
    "The {kind} described previously is no longer seen.",
)
ADVICE = (
    "Follow-up MRI in three months is advised.",
    "Recommend clinical correlation.",
    "A neurosurgical opinion is recommended.",
    "Consider contrast-enhanced imaging if symptoms persist.",
    "We suggest repeat imaging to exclude {kind}.",
    "The ward was informed by telephone.",
)
ALL_WELL = (
    "Normal MRI of the brain.",
    "No acute intracranial abnormality.",
    "Unremarkable examination.",
    "Nothing abnormal was found.",
    "Study is unremarkable.",
)
CONCLUSIONS = (
    "{Kind} in the {place}.",
    "{place} {kind}.",
    "{Kind}, {place}.",
    "{Kind} of the {place} as described.",
)
PLAIN_CONCLUSIONS = ("{Kind}.", "{Kind} as described.")
# Said before or after an item without a change of what it means.
LEAD_INS = ("", "", "", "", "Also: ", "In addition: ", "Brain: ")
TAILS = ("", "", "", "", " without midline shift", ", no mass effect",
         " with no sign of herniation", ", but the ventricles are normal")
HEADINGS = (
    ("HISTORY:", "TECHNIQUE:", "COMPARISON:", "FINDINGS:", "IMPRESSION:"),
    ("Clinical information:", "Procedure:", "Comparison:", "Findings:",
     "Conclusion:"),
    ("Indication:", "Technique:", "Prior studies:", "Report:", "Opinion:"),
    ("Reason for exam:", "Protocol:", "Comparison:", "Description:",
     "Summary:"),
)


def write(
    rng: np.random.Generator, items: Sequence[str], about: Mapping[int, str]
) -> dict[str, str]:
  """The report of a study, section by section.

  Args:
    rng: of its own; the items are drawn already.
    items: as `report.write` returns them.
    about: item -> the finest name of what it speaks of, see
      `report.finding_names`; items that are not in here are no finding.

  Returns:
    {"text": all of it, under headings} for every other report, else {"findings"
    (with the history), "impression"}.
  """
  absent = [kind.name for kind in lesions.KINDS
            if not any(name.startswith(kind.name) for name in about.values())]
  titles = HEADINGS[rng.integers(len(HEADINGS))]
  history, findings = _before(rng, titles), _findings(rng, items, about, absent)
  impression = _impression(rng, items, about, absent)
  if rng.random() < 0.5:
    return {"findings": f"{history}\n{findings}", "impression": impression}
  return {"text": f"{history}\n\n{titles[3]}\n{findings}\n\n{titles[4]}\n"
                  f"{impression}"}


def _before(rng, titles: tuple[str, ...]) -> str:
  """What stands above the findings, some of it in most reports."""
  lines = [f"{titles[0]} {_fill(rng, pick(rng, REASONS))}"]
  if rng.random() < 0.5:
    lines.append(f"{titles[1]} {pick(rng, TECHNIQUE)}")
  if rng.random() < 0.5:
    lines.append(f"{titles[2]} {pick(rng, COMPARED)}")
  return "\n".join(lines)


def _findings(rng, items, about: Mapping[int, str], absent: list[str]) -> str:
  """The items in their order, and between them what is no finding."""
  others = [ORDINARY[k] for k in rng.permutation(len(ORDINARY))[
      :rng.integers(3, 9)]]
  others += [_deny(rng, absent) for _ in range(rng.integers(1, 4))]
  if rng.random() < 0.3:
    others.append(_fill(rng, pick(rng, UNCHANGED), absent))
  if rng.random() < 0.3:
    others.append(_fill(rng, pick(rng, SPOKEN_HISTORY)))
  said = [others[k] for k in rng.permutation(len(others))]
  places = np.sort(rng.integers(len(said) + 1, size=len(items)))[::-1]
  for k, place in zip(range(len(items) - 1, -1, -1), places):
    if k in about:
      said.insert(place, _dictate(rng, items[k]))
    elif items[k] != report.NORMAL:
      said.insert(place, items[k])
  gaps = [" ", "\n"] if rng.random() < 0.5 else [" "]
  return "".join(s + pick(rng, gaps) for s in said).strip()


def _impression(rng, items, about: Mapping[int, str], absent) -> str:
  """Every finding once more, as a list or in prose."""
  said = [_conclude(rng, items[k], name) for k, name in sorted(about.items())]
  if not said:
    said = [pick(rng, ALL_WELL)]
  elif rng.random() < 0.2:
    said = ["As above."]
  if rng.random() < 0.4:
    said.append(_deny(rng, absent))
  if rng.random() < 0.4:
    said.append(_fill(rng, pick(rng, ADVICE), absent))
  mark = pick(rng, ("{n}. ", "{n}) ", "- "))
  if rng.random() < 0.5:
    return "\n".join(mark.format(n=n) + s for n, s in enumerate(said, 1))
  return " ".join(said)


def _dictate(rng, item: str) -> str:
  """The item, at times within a longer sentence."""
  lead = pick(rng, LEAD_INS)
  return f"{lead}{item[:-1]}{pick(rng, TAILS)}."


def _conclude(rng, item: str, name: str) -> str:
  """In other words, and with no more detail than the item gives."""
  kind, _, place = name.partition(", ")
  phrase = pick(rng, (kind, *report.PHRASES[kind]))
  said = place if all(word in item.lower() for word in place.split()) else ""
  text = pick(rng, CONCLUSIONS if said else PLAIN_CONCLUSIONS).format(
      Kind=phrase[0].upper() + phrase[1:], kind=phrase, place=said)
  return text[0].upper() + text[1:]


def _deny(rng, absent: list[str]) -> str:
  """A sentence that denies one to three things that are not there."""
  kinds = [*absent, ""]
  chosen = [kinds[k] for k in rng.permutation(len(kinds))[:3]]
  words = dict(zip("abc", (pick(rng, DENIED[kind]) for kind in chosen)))
  templates = DENIALS
  if len(chosen) < 3:
    templates = [t for t in DENIALS if "{b}" not in t and "{c}" not in t]
  text = pick(rng, templates).format(**words)
  return text[0].upper() + text[1:]


def _fill(rng, template: str, kinds: Sequence[str] | None = None) -> str:
  """A kind, be it in the study or not: none of it says that it is there."""
  kind = pick(rng, kinds or [kind.name for kind in lesions.KINDS])
  return template.format(kind=kind, place=pick(rng, lesions.PLACES).name,
                         side=pick(rng, ("left", "right")))
