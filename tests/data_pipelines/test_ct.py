"""Hounsfield units: recognised, windowed, resampled, in one axis order."""

import pickle
import sys
import zipfile

import nibabel as nib
import numpy as np
import pytest

from data_pipelines.volumes import ct
from data_pipelines.volumes import torch_file
from data_pipelines.volumes.nifti import SeriesError
from itemclip_jax.data.volume import Volume
from tests.data_pipelines import ct_files


def _chest(rng=None) -> np.ndarray:
  """Air, lung, fat, water and bone in about the shares of a chest."""
  rng = rng or np.random.default_rng(0)
  means = rng.choice([-1000, -850, -100, 40, 700], p=[0.3, 0.25, 0.15, 0.25,
                                                      0.05], size=(20, 32, 32))
  return np.rint(rng.normal(means, 20)).astype(np.int16)


def _first_and_second(hu, intercept):
  """The files of both releases, and the table that both come with."""
  table = {"slope": 1.0, "intercept": float(intercept)}
  return (hu.astype(int) - intercept).astype(np.int16), hu, table


@pytest.mark.parametrize("intercept", [-1024, -8192])
@pytest.mark.parametrize("dtype", [np.int16, np.float64])
def test_the_releases_are_told_apart(intercept, dtype):
  first, second, table = _first_and_second(_chest(), intercept)
  assert ct.factors(first.astype(dtype), **table) == (1, intercept)
  assert ct.factors(second.astype(dtype), **table) == (1, 0)


def test_padding_far_below_air_does_not_mislead():
  hu = _chest()
  hu[:, :4] = -8192
  first, second, table = _first_and_second(hu, -8192)
  assert ct.factors(first, **table) == (1, -8192)
  assert ct.factors(second, **table) == (1, 0)


def test_factors_apply_in_floats():
  half = Volume(np.full((6, 4, 4), 3, np.int16), np.diag([1, 1, 1, 1.0]))
  assert (ct.chest(half, 0.5, -1000.0).voxels == -998).all()  # -998.5, to even


@pytest.mark.parametrize("change, reason", [
    (lambda x: x - 1024, "% are less than air"),        # rescaled twice
    (lambda x: x - 200, "% are less than air"),         # lung is no air
    (lambda x: x + 1024, "no air near -1000"),          # never rescaled
    (lambda x: np.clip(x, 0, 255), "no air"),
    (lambda x: np.full_like(x, -1000), "air and nothing else"),
    (lambda x: x.astype(np.float32) * np.nan, "not finite"),
    (lambda x: np.where(x > 0, 20000, x), "too many above 4000")])
def test_what_is_no_hounsfield_is_refused(change, reason):
  x = change(_chest())
  assert reason in ct.implausible(x)
  with pytest.raises(SeriesError, match=f"as hounsfield: .*{reason}"):
    ct.factors(x, slope=1.0, intercept=0.0)


def test_a_named_scale_is_not_guessed():
  hu = _chest()
  with pytest.raises(SeriesError, match="no Hounsfield units .as stored"):
    ct.factors(hu, slope=1.0, intercept=-1024.0, scale="stored")


@pytest.mark.parametrize("axes", ["LPS", "RAS", "LAS", "SPL", "PIR"])
def test_every_file_order_ends_in_one(tmp_path, axes):
  x = ct_files.patient()
  ct_files.write_nifti(tmp_path / "x.nii.gz", x, axes=axes)
  volume, placed = ct.read_nifti(tmp_path / "x.nii.gz")
  volume = ct.to_canonical(volume)
  assert placed
  np.testing.assert_array_equal(volume.voxels, x)
  np.testing.assert_allclose(volume.affine, [
      [0, 0, -0.5, 4], [0, -0.5, 0, 4], [2, 0, 0, 100], [0, 0, 0, 1]])


def test_four_axes_are_refused(tmp_path):
  nib.save(nib.Nifti1Image(np.zeros((3, 3, 3, 2), np.int16), np.eye(4)),
           tmp_path / "x.nii")
  with pytest.raises(SeriesError, match="want three axes"):
    ct.read_nifti(tmp_path / "x.nii")


def test_chest_volumes_keep_the_place_of_everything(tmp_path):
  x = np.full((30, 60, 60), -1000, np.int16)
  x[6:9, 10:20, 40:50] = 100
  ct_files.write_nifti(tmp_path / "x.nii.gz", x, spacing=(0.5, 0.5, 1.0))
  volume, _ = ct.read_nifti(tmp_path / "x.nii.gz")
  stored = ct.chest(volume)
  assert stored.voxels.dtype == np.int16
  assert stored.shape == (10, 30, 30)
  np.testing.assert_allclose(stored.spacing_mm, (3, 1, 1))
  # The block is voxels 6..8 of 1 mm: voxel 2 of 3 mm, and so on.
  assert stored.voxels[2, 5:10, 20:25].min() == 100
  middle = stored.affine @ [2, 7, 22, 1]
  np.testing.assert_allclose(
      middle[:3], (4 - 0.5 * 44.5, 4 - 0.5 * 14.5, 107), atol=1e-6)


def test_int16_rounds_and_does_not_wrap():
  stored = ct.to_int16(Volume(np.array([[[-40000.0, 0.6, 40000.0]]]),
                              np.eye(4)))
  assert stored.voxels.tolist() == [[[-32768, 1, 32767]]]


@pytest.mark.parametrize("window, wanted", [
    ((40, 80), {-1000: 0, 0: 0, 40: 128, 80: 255, 1000: 255}),
    ((80, 200), {-20: 0, 80: 128, 180: 255}),
    ((600, 2800), {-800: 0, 600: 128, 2000: 255})])
def test_windows_map_levels_to_bytes(window, wanted):
  for hounsfield, stored in wanted.items():
    x = Volume(np.full((4, 8, 8), hounsfield, np.float32), ct_spl())
    view = ct.head_view(x, window, resize_to=(4, 8, 8), shape=(4, 8, 8))
    assert view.voxels.dtype == np.uint8
    assert (view.voxels == stored).all()


def test_a_picture_that_is_no_square_is_padded_with_air():
  x = Volume(np.full((4, 4, 8), 2000, np.float32), ct_spl())
  view = ct.head_view(x, (600, 2800), resize_to=(4, 8, 8), shape=(4, 8, 8))
  assert (view.voxels[:, 2:6] == 255).all()
  assert (view.voxels[:, [0, 1, 6, 7]] == 0).all()


def ct_spl() -> np.ndarray:
  return np.array([[0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])


def write_tensor(path, x: np.ndarray, *, module="torch._utils"):
  """What torch.save writes for one dense tensor, opcode by opcode."""
  storage = {"float32": "FloatStorage", "float16": "HalfStorage",
             "int16": "ShortStorage"}[x.dtype.name]
  ints = lambda values: b"(" + b"".join(
      b"J" + int(v).to_bytes(4, "little") for v in values) + b"t"
  text = lambda t: b"X" + len(t).to_bytes(4, "little") + t.encode()
  strides = [s // x.itemsize for s in x.strides]
  pickled = b"".join([
      b"\x80\x02c", module.encode(), b"\n_rebuild_tensor_v2\n((",
      text("storage"), b"ctorch\n", storage.encode(), b"\n", text("0"),
      text("cpu"), b"J", x.size.to_bytes(4, "little"), b"tQK\x00",
      ints(x.shape), ints(strides), b"\x89ccollections\nOrderedDict\n)RtR."])
  path.parent.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("x/data.pkl", pickled)
    archive.writestr("x/byteorder", sys.byteorder)
    archive.writestr("x/data/0", x.tobytes("A"))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int16])
@pytest.mark.parametrize("order", ["C", "F"])
def test_tensors_are_read_without_torch(tmp_path, dtype, order):
  x = np.arange(24).reshape(2, 3, 4).astype(dtype, order=order)
  write_tensor(tmp_path / "x.pt", x)
  read = torch_file.read_tensor(tmp_path / "x.pt")
  assert read.dtype == dtype
  np.testing.assert_array_equal(read, x)
  assert "torch" not in sys.modules


def test_a_file_that_would_run_code_is_refused(tmp_path):
  write_tensor(tmp_path / "x.pt", np.zeros((2, 2), np.float32), module="os")
  with pytest.raises(SeriesError, match="names os._rebuild_tensor_v2"):
    torch_file.read_tensor(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [
    b"hello", pickle.dumps([1, 2])])
def test_other_files_are_no_tensors(tmp_path, content):
  (tmp_path / "x.pt").write_bytes(content)
  with pytest.raises(SeriesError, match="not a readable .pt file"):
    torch_file.read_tensor(tmp_path / "x.pt")
