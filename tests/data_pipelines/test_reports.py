"""How the published sets read reports."""

import pytest

from data_pipelines import reports


def test_a_numbered_list_becomes_items():
  text = "Findings\n1. Mass. Left side.\n\n2. A\n12. Oedema\nno number"
  assert reports.numbered_items(text) == ["Mass. Left side.", "Oedema"]


def test_the_shortest_line_has_five_characters():
  assert reports.numbered_items("1. A\n1. AB") == ["AB"]


@pytest.mark.parametrize("items, normal", [
    (["no significant abnormalities"], True),
    (["no abnormalities detected"], True),
    (["No significant abnormalities"], False),
    (["no significant abnormalities."], False),
    (["no significant abnormalities", "a cyst"], False)])
def test_normal_ct_is_one_exact_sentence(items, normal):
  assert reports.is_normal_ct(items) == normal
