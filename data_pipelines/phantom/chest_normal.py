"""What is said of a normal organ of the chest, in many words.

    <one of the organ's openings> <one of its details>

as reports do, while the default sentence ("Heart shows no significant
abnormalities.") is the same for all. Every sentence is true of an organ without
findings and of all that is told of it (chest_organs.py): so the stomach's fit
one of which a part lies in a hiatal hernia, which is told of the oesophagus.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from data_pipelines.phantom import wording

OPENINGS = {
    "lung": (
        "The lungs are clear.", "Both lungs are well aerated.",
        "Lung parenchyma is normal.", "Normal lungs.",
        "The lungs are well expanded.", "Attenuation of both lungs is normal."),
    "heart": (
        "The heart is of normal size.", "The heart is not enlarged.",
        "Cardiac size is within normal limits.", "Normal heart.",
        "The heart is unremarkable.", "The cardiac contour is normal."),
    "esophagus": (
        "The esophagus is unremarkable.", "Normal esophagus.",
        "The esophagus has a normal course.", "The esophagus is not dilated.",
        "The esophageal wall is of normal thickness.",
        "Width of the esophagus is normal."),
    "aorta": (
        "The aorta is of normal diameter.", "Normal thoracic aorta.",
        "The aorta has a normal course.", "The aorta is not dilated.",
        "The aorta is unremarkable.", "Aortic contours are smooth."),
    "trachea": (
        "The trachea is midline.", "The trachea is patent.", "Normal trachea.",
        "The trachea is of normal width.", "The trachea is not displaced.",
        "The tracheal lumen is free."),
    "vertebrae": (
        "The vertebral bodies are of normal height.",
        "The vertebrae are normally aligned.", "Normal thoracic spine.",
        "The vertebrae are unremarkable.", "The thoracic vertebrae are intact.",
        "The thoracic spine has a normal curve."),
    "rib": (
        "The ribs are intact.", "Normal ribs on both sides.",
        "The ribs are unremarkable.", "The ribs are symmetric.",
        "Rib contours are smooth.", "The bony thorax is intact."),
    "liver": (
        "The liver is of normal size.", "The liver is not enlarged.",
        "The liver is homogeneous.", "Normal liver.",
        "The liver is unremarkable.", "The visible part of the liver is normal."
    ),
    "spleen": (
        "The spleen is of normal size.", "The spleen is not enlarged.",
        "The spleen is homogeneous.", "Normal spleen.",
        "The spleen is unremarkable.",
        "The visible part of the spleen is normal."),
    "stomach": (
        "The gastric wall is of normal thickness.",
        "The stomach wall is unremarkable.", "The stomach is not distended.",
        "Gastric folds are normal.", "The stomach wall is not thickened.",
        "The wall of the stomach is smooth."),
}
DETAILS = {
    "lung": (
        "No consolidation.", "No lung opacity.", "No pulmonary nodule.",
        "No pleural effusion on either side.", "There is no emphysema.",
        "No lung mass.", "The pleura is not thickened."),
    "heart": (
        "No pericardial effusion.", "The pericardium is not thickened.",
        "No coronary artery calcification.",
        "The coronary arteries are not calcified.",
        "No fluid around the heart.", "The cardiac chambers are not dilated.",
        "There is no cardiomegaly."),
    "esophagus": (
        "No wall thickening.", "No esophageal mass.", "No hiatal hernia.",
        "The hiatus is not widened.", "Its lumen is not distended.",
        "The fat around it is clear.", "No fluid around it."),
    "aorta": (
        "No aneurysm.", "No wall calcification.",
        "The aortic wall is not calcified.", "No atherosclerotic plaque.",
        "The aortic arch is of normal width.", "Its wall is not thickened.",
        "The descending aorta is of normal width."),
    "trachea": (
        "No stenosis.", "Its wall is not thickened.", "No endoluminal lesion.",
        "No secretions in the lumen.", "The carina is sharp.",
        "There is no tracheal narrowing.", "No tracheal mass."),
    "vertebrae": (
        "No vertebral fracture.", "No compression of a vertebral body.",
        "The disc spaces are preserved.", "No bone destruction.",
        "No lytic or sclerotic lesion.", "Bone density is normal.",
        "The spinal canal is not narrowed."),
    "rib": (
        "No rib fracture.", "No displaced fracture.", "No lytic lesion.",
        "No sclerotic lesion.", "The cortex is intact.",
        "No bone destruction.", "Bone density is normal."),
    "liver": (
        "No focal lesion.", "No liver mass.", "Its contour is smooth.",
        "Its attenuation is normal.", "The bile ducts are not dilated.",
        "There is no steatosis.", "No cyst is seen."),
    "spleen": (
        "No focal lesion.", "There is no splenomegaly.",
        "Its contour is smooth.", "Its attenuation is normal.",
        "No splenic mass.", "No fluid around the spleen.", "No cyst is seen."),
    "stomach": (
        "No gastric mass.", "No ulcer is seen.", "The fat around it is clear.",
        "No polyp is seen.", "Its lumen is not narrowed.",
        "There is no free gas.", "No fluid around the stomach."),
}


def describe(key: Sequence[int], organ: str) -> str:
  """One of its descriptions; the same for the same subject and organ.

  Args:
    key: numbers that a subject is drawn from.
    organ: of chest_organs.GROUPING.
  """
  # A generator of its own, so that nothing else of the subject changes.
  rng = np.random.default_rng([*key, zlib.crc32(organ.encode())])
  return " ".join(wording.pick(rng, options[organ])
                  for options in (OPENINGS, DETAILS))
