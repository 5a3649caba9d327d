"""The tables of classes and organs, and merging by them."""

import numpy as np
import pytest

from data_pipelines.errors import PrepareError
from data_pipelines.itemize import lexicon
from data_pipelines.organs import grouping
from data_pipelines.phantom import chest_anatomy


def test_tables_have_the_classes_of_both_releases():
  old, new = (grouping.classes(f"totalsegmentator_{n}") for n in (1, 2))
  assert (len(old), len(new)) == (104, 117)
  for classes in (old, new):
    assert len(set(classes.values())) == len(classes)
  # Values of the second release that its users know by heart.
  assert (old[7], new[52], new[51], new[61], new[117]) == (
      "aorta", "aorta", "heart", "atrial_appendage_left", "costal_cartilages")


def test_phantom_values_are_those_of_its_anatomy():
  assert grouping.classes("phantom_chest") == {
      v: k for k, v in chest_anatomy.LABEL.items() if v}


def test_the_paper_s_table_has_35_organs_that_the_dictionary_knows():
  organs = grouping.grouping("fvlm").organs
  assert len(organs) == 35 and set(organs) == set(lexicon.load().groups)
  assert sorted(map(len, organs.values()))[-1] == 24   # ribs
  assert organs["lumbar vertebrae"][-1] == "vertebrae_L5"
  assert grouping.grouping("ct_rate").names == (
      "lung", "heart", "esophagus", "aorta")


def test_no_class_belongs_to_two_organs_and_each_is_known():
  for name in grouping.groupings():
    regions = [r for rs in grouping.grouping(name).organs.values() for r in rs]
    assert len(set(regions)) == len(regions)
    assert set(regions) <= grouping.known_classes()


@pytest.mark.parametrize("release, heart", [
    ("totalsegmentator_1", 5), ("totalsegmentator_2", 2)])
def test_a_heart_is_what_the_release_makes_of_it(release, heart):
  classes = grouping.classes(release)
  members = grouping.grouping("ct_rate").members(classes.values())
  assert [len(m) for m in members.values()] == [5, heart, 1, 1]
  assert ("atrial_appendage_left" in members["heart"]) == (heart == 2)


def test_classes_of_an_organ_become_its_number_and_others_nothing():
  classes = grouping.classes("totalsegmentator_2")
  value = {name: v for v, name in classes.items()}
  labels = np.zeros((2, 3, 4), np.uint8)
  labels[0, 0] = [value["lung_upper_lobe_left"], value["aorta"],
                  value["lung_lower_lobe_right"], value["liver"]]
  labels[1, 2] = [value["atrial_appendage_left"], value["heart"], 0,
                  value["esophagus"]]
  got = grouping.grouped(labels, grouping.grouping("ct_rate"), classes)
  assert got.dtype == np.uint8 and got.shape == labels.shape
  assert got[0, 0].tolist() == [1, 4, 1, 0]
  assert got[1, 2].tolist() == [2, 2, 0, 3] and got.astype(bool).sum() == 6


def test_a_part_is_no_organ():
  of, classes = grouping.grouping("ct_rate"), grouping.classes(
      "totalsegmentator_2")
  with pytest.raises(PrepareError, match="'lung' of grouping 'ct_rate' lacks "
                     "the class lung_middle_lobe_right"):
    of.members(set(classes.values()) - {"lung_middle_lobe_right"})
  with pytest.raises(PrepareError, match="'face'.*fvlm_2"):
    grouping.grouping("fvlm").members(classes.values())
  grouping.grouping("fvlm_2").members(classes.values())


def test_a_value_of_no_class_is_told():
  with pytest.raises(ValueError, match="value 118, which stands for none of "
                     "the 117"):
    grouping.grouped(np.array([[0, 118, 52]], np.uint8),
                     grouping.grouping("ct_rate"),
                     grouping.classes("totalsegmentator_2"))


def test_unknown_names_are_told():
  with pytest.raises(PrepareError, match="no grouping 'x'.*ct_rate"):
    grouping.grouping("x")
  with pytest.raises(PrepareError, match="no release 'y'.*totalsegmentator_1"):
    grouping.classes("y")
