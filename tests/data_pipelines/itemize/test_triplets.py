"""Triplets of sentences that have tripped the reader before."""

import pytest

from data_pipelines.itemize import itemize


@pytest.mark.parametrize("sentence, want", [
    ("A small effusion is seen on the left.", ("small", "left", "effusion")),
    ("Mild atelectasis on the right.", ("mild", "right", "atelectasis")),
    ("Opacity in the left lower lobe.", (None, "left lower lobe", "opacity")),
])
def test_a_side_is_said_once(sentence, want):
  record = {"id": "a", "sections": {"findings": sentence}}
  found, = itemize(record, "triplet").triplets
  assert (found.severity, found.location, found.category) == want
