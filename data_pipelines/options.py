"""Flags of `data_pipelines.prepare` that are options of a data set.

A flag has the name of the field of `Dataset` that it sets; which data sets have
it stands in brackets. Only those that are given are passed on.
"""

from absl import flags

from data_pipelines.errors import PrepareError

_OPTIONS = (
    flags.DEFINE_string(
        "source", None, "Folder of the raw archive, as it was downloaded. "
        "Phantoms: where to write it, <out>/raw unless given. Others: "
        "required."),
    flags.DEFINE_list(
        "shape", None, "Stored voxels D,H,W of every series, e.g. 48,224,224. "
        "(MRI, head CT)"),
    flags.DEFINE_list(
        "resize", None, "D,H,W before the centre crop to --shape, e.g. "
        "48,256,256. (MRI, head CT)"),
    flags.DEFINE_string(
        "intensity", None, "percentiles (HLIP's rule, the default) or median "
        "(keeps the brightness of tissue whatever the lesion). (MRI)"),
    flags.DEFINE_string(
        "scale", None, "What the NIfTI files hold: stored numbers, hounsfield "
        "units, or auto, told by their range. (ct_rate)"),
    flags.DEFINE_list("brain_window", None, "Level,width of the view in "
                      "Hounsfield units: 40,80 unless given. (head CT)"),
    flags.DEFINE_list("blood_window", None, "Likewise: 80,200. (head CT)"),
    flags.DEFINE_list("bone_window", None, "Likewise: 600,2800. (head CT)"),
    flags.DEFINE_float("max_tilt", None, "Largest gantry tilt in degrees: 30 "
                       "unless given. (head CT)"),
    flags.DEFINE_list("spacing", None, "Stored voxel D,H,W in millimetres: "
                      "9,5,5 unless given. (phantom_chest)"),
    flags.DEFINE_string(
        "normal_texts", None, "What is said of normal organs: default, one "
        "sentence an organ, unless given, or varied, as in reports. "
        "(phantom_chest)"),
    flags.DEFINE_string(
        "organ_masks", None, "Folder of segmentations, <study>.nii.gz or a "
        "folder a study; records then hold organs. (ct_rate)"),
    flags.DEFINE_list(
        "organ_texts", None, "JSON file of what is said of each organ, or two: "
        "findings,impression; from the items by rules unless given. (ct_rate)"),
    flags.DEFINE_string(
        "organ_grouping", None, "Which classes make up an organ: ct_rate, the "
        "default, fvlm or fvlm_2. (ct_rate)"),
    flags.DEFINE_string(
        "organ_classes", None, "What the values of a mask stand for: "
        "totalsegmentator_2, the default, or totalsegmentator_1. (ct_rate)"),
    flags.DEFINE_string(
        "organ_order", None, "How two sections become a text: code, the "
        "default, or paper. (ct_rate)"),
    flags.DEFINE_string(
        "items", None, "JSON file of items: for rsicd { row of train.csv: "
        "[items] }; for itemized_cc in place of "
        "<source>/first_300000_rewrites.json."),
    flags.DEFINE_string(
        "labels", None, "The published table of labels, in the archive's root "
        "unless given. (pub_brain_5, rsicd)"),
    flags.DEFINE_string(
        "reports", None, "Reports in place of those in the archive: a CSV file "
        "of study, numbered list (studies), or a JSON file, such as HLIP's raw "
        "or organ-wise texts. (ct_rate)"),
    flags.DEFINE_bool(
        "keep_ids", None, "Keep the names of studies and patients instead of "
        "salted hashes. (studies)"),
    flags.DEFINE_string(
        "salt", None, "File of the hashes' salt, drawn unless it exists; "
        "<out>.salt unless given. (studies)"),
    flags.DEFINE_string(
        "report", None, "Whence the items: items, the generator's own, unless "
        "given, or free_text, itemised by rules. (phantom_brain)"),
    flags.DEFINE_integer("side", None, "Pixels of a picture's edge: 96 "
                         "unless given. (phantom_radiograph)"),
    flags.DEFINE_float("expert_share", None, "Of the training studies, those "
                       "with a heatmap: 0.25 unless given. "
                       "(phantom_radiograph)"),
    flags.DEFINE_integer("seed", None, "Of an embedded set."),
    flags.DEFINE_integer("num_train", None, "Studies of its split train."),
    flags.DEFINE_integer("num_valid", None, "Studies of its split valid."),
    flags.DEFINE_integer("num_test", None, "Studies of its split test."),
)

# Lists of numbers: their type, and an example of the right length.
_NUMBERS = {"shape": (int, "48,224,224"), "resize": (int, "48,256,256"),
            "spacing": (float, "9,5,5"), "brain_window": (float, "40,80"),
            "blood_window": (float, "80,200"),
            "bone_window": (float, "600,2800")}


def given() -> dict:
  """The options on the command line, as a data set takes them.

  Raises:
    PrepareError: a list of numbers is none.
  """
  values = {f.name: f.value for f in _OPTIONS if f.value is not None}
  return {name: _numbers(name, value) if name in _NUMBERS else value
          for name, value in values.items()}


def _numbers(name: str, parts: list[str]) -> tuple:
  kind, example = _NUMBERS[name]
  try:
    numbers = tuple(kind(part) for part in parts)
  except ValueError:
    numbers = ()
  if len(numbers) != example.count(",") + 1 or not any(numbers):
    raise PrepareError(f"--{name} is {','.join(parts)!r}; want "
                       f"{example.count(',') + 1} numbers such as {example}.")
  return numbers
