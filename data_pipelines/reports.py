"""How the published sets read a report: numbered lists and normal studies.

Source: Lyu et al. 2025, https://arxiv.org/abs/2512.11141 and its public code.
The rule for normal MRI studies stands in data_pipelines/volumes/study.py.
"""

MIN_LINE = 5  # characters; shorter lines hold no finding

_NORMAL_CT = ("no significant abnormalities", "no abnormalities detected")


def numbered_items(text: str) -> list[str]:
  """Items of a list, one a line: what follows the first ". " of the line.

  Short lines and lines without a number are left out.
  """
  return [line.split(". ", 1)[1] for line in text.splitlines()
          if len(line) >= MIN_LINE and ". " in line]


def is_normal_ct(items: list[str]) -> bool:
  """True where the only item is CT-RATE's sentence for a normal study.

  Case counts, and a final period makes it another sentence.
  """
  return len(items) == 1 and items[0] in _NORMAL_CT
