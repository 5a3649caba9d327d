"""Files of a segmentation, on whatever grid, become one map of organs."""

import nibabel as nib
import numpy as np
import pytest

from data_pipelines.errors import PrepareError
from data_pipelines.organs import grouping
from data_pipelines.organs import masks
from data_pipelines.volumes.nifti import SeriesError
from itemclip_jax.data.volume import Volume

FOUR = grouping.grouping("ct_rate")
CLASSES = grouping.classes("totalsegmentator_2")
VALUE = {name: value for value, name in CLASSES.items()}
AFFINE = np.diag([-2.0, -1.0, 3.0, 1.0])


def labels() -> np.ndarray:
  x = np.zeros((6, 8, 5), np.uint8)
  x[1:3, 1:4, 1:4] = VALUE["lung_upper_lobe_left"]
  x[3:5, 1:4, 1:4] = VALUE["lung_middle_lobe_right"]
  x[1:3, 5:7, 2] = VALUE["heart"]
  x[4, 6, :] = VALUE["aorta"]
  return x


def write(path, voxels, affine=AFFINE):
  path.parent.mkdir(parents=True, exist_ok=True)
  nib.save(nib.Nifti1Image(voxels, affine), path)


def write_classes(folder, voxels, leave_out=()):
  for regions in FOUR.members(VALUE).values():
    for region in set(regions) - set(leave_out):
      write(folder / f"{region}.nii.gz",
            (voxels == VALUE[region]).astype(np.uint8))


def read(path) -> Volume:
  return masks.read(path, FOUR, "totalsegmentator_2")


def test_a_file_and_a_folder_say_the_same(tmp_path):
  write(tmp_path / "a.nii.gz", labels())
  write_classes(tmp_path / "b", labels())
  one, two = read(tmp_path / "a.nii.gz"), read(tmp_path / "b")
  np.testing.assert_array_equal(one.voxels, two.voxels)
  assert np.unique(one.voxels).tolist() == [0, 1, 2, 4]
  assert (one.voxels == 1).sum() == 36 and (one.voxels == 2).sum() == 4


def test_masks_are_found_by_the_names_of_studies(tmp_path):
  write(tmp_path / "train/train_1/train_1_a_1.nii.gz", labels())
  write_classes(tmp_path / "train/train_2_a_1", labels())
  found = masks.find(tmp_path)
  assert {k: v.name for k, v in found.items()} == {
      "train_1_a_1": "train_1_a_1.nii.gz", "train_2_a_1": "train_2_a_1"}
  write(tmp_path / "again/train_1_a_1.nii.gz", labels())
  with pytest.raises(PrepareError, match="'train_1_a_1' has 2 masks"):
    masks.find(tmp_path)


def test_no_mask_at_all_is_an_error(tmp_path):
  with pytest.raises(PrepareError, match="holds no mask of organs"):
    masks.find(tmp_path)


def test_a_mask_on_another_grid_is_read_where_it_lies(tmp_path):
  """The same places in the patient, from a turned file of other voxels."""
  write(tmp_path / "a.nii.gz", labels())
  plain = read(tmp_path / "a.nii.gz")
  step = np.array([[0, 0, 1, 0], [-1, 0, 0, 7], [0, 1, 0, 0], [0, 0, 0, 1.0]])
  turned = labels().transpose(1, 2, 0)[::-1]       # a[i, j, k] = x[k, 7-i, j]
  write(tmp_path / "b.nii.gz", turned, AFFINE @ step)
  moved = masks.on_grid(read(tmp_path / "b.nii.gz"), plain.shape, AFFINE)
  np.testing.assert_array_equal(moved, plain.voxels)
  fine = masks.on_grid(plain, (12, 16, 10), AFFINE @ np.array(
      [[.5, 0, 0, -.25], [0, .5, 0, -.25], [0, 0, .5, -.25], [0, 0, 0, 1]]))
  np.testing.assert_array_equal(fine[::2, ::2, ::2], plain.voxels)
  assert (fine > 0).sum() == 8 * (plain.voxels > 0).sum()


def test_another_patient_s_mask_is_refused(tmp_path):
  write(tmp_path / "a.nii.gz", labels())
  far = AFFINE.copy()
  far[0, 3] = 500
  with pytest.raises(SeriesError, match="no organ of the mask lies in"):
    masks.on_grid(read(tmp_path / "a.nii.gz"), (6, 8, 5), far)


def test_classes_on_different_grids_are_refused(tmp_path):
  write_classes(tmp_path / "a", labels())
  write(tmp_path / "a/heart.nii.gz", labels()[:-1])
  with pytest.raises(SeriesError, match=r"heart.nii.gz has \(5, 8, 5\) voxels"):
    read(tmp_path / "a")
  moved = AFFINE.copy()
  moved[2, 3] = 1
  write(tmp_path / "a/heart.nii.gz", labels(), moved)
  with pytest.raises(SeriesError, match="at other positions"):
    read(tmp_path / "a")


@pytest.mark.parametrize("voxels, reason", [
    (np.zeros((4, 4, 4), np.uint8), "no voxel of any organ"),
    (np.full((4, 4, 4), VALUE["liver"], np.uint8), "no voxel of any organ"),
    (np.full((4, 4, 4), 300, np.int16), "other than 0 to 255"),
    (np.full((4, 4, 4), 51.5, np.float32), "other than 0 to 255"),
    (np.full((4, 4, 4), 200, np.uint8), "value 200, which stands for none"),
    (np.full((4, 4), 51, np.uint8), "want three axes")])
def test_bad_masks_are_told(tmp_path, voxels, reason):
  write(tmp_path / "a.nii.gz", voxels)
  with pytest.raises(SeriesError, match=reason):
    read(tmp_path / "a.nii.gz")


def test_a_folder_without_a_class_is_refused(tmp_path):
  write_classes(tmp_path / "a", labels(), leave_out=["heart"])
  with pytest.raises(SeriesError, match="'heart'.*lacks the class heart"):
    read(tmp_path / "a")


def test_a_mask_without_a_position_is_refused(tmp_path):
  nib.save(nib.Nifti1Image(labels(), None), tmp_path / "a.nii.gz")
  with pytest.raises(SeriesError, match="where the patient is"):
    read(tmp_path / "a.nii.gz")
