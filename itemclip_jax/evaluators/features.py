"""The studies of a split, encoded once and kept on disk.

What a vision tower says of a study does not depend on what it is asked, so it
is kept, in a folder of the parameters and the data that it came from:

    <folder>/<parameters>/<data>/   the files of `kept`

Every process writes those of the rows that it encodes, and reads all.
Interrupted, encoding goes on behind the last whole batch. The folder takes
about half of the volumes' size in bfloat16, for HLIP's patches.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

import itemclip_jax
from itemclip_jax.data import loader, record
from itemclip_jax.data.example import MakeExample
from itemclip_jax.errors import UserError
from itemclip_jax.evaluators.embed import Encoder
from itemclip_jax.evaluators.kept import Kept
from itemclip_jax.parallel import multihost

# What the device needs of a batch.
_INPUTS = ("volume", "series_mask", "series_names")


@dataclasses.dataclass(frozen=True, eq=False)
class Studies:
  """One split as a model sees it: n studies in record order.

  Attributes:
    split: opened.
    make_example: record -> example.
    batch: studies of a step, of all processes together.
    image: [n, E] float32 global vectors, not normalised.
    num_series: [n] int, as encoded.
    labels: [n, F] int8, -1 = not annotated; F = 0 without findings.
    texts: the stored items of every study.
  """
  split: record.Split
  make_example: MakeExample
  batch: int
  image: np.ndarray
  num_series: np.ndarray
  labels: np.ndarray
  texts: tuple[tuple[str, ...], ...]
  _kept: tuple["Kept", ...]   # of every process

  def __len__(self) -> int:
    return len(self.image)

  @functools.cached_property
  def study_id(self) -> np.ndarray:
    """[n] str."""
    return self.split.index["study_id"].astype(str)

  @functools.cached_property
  def patient_id(self) -> np.ndarray:
    """[n] str, what intervals resample."""
    return self.split.index["patient_id"].astype(str)

  @property
  def findings(self) -> tuple[str, ...]:
    """Names of the label columns."""
    return tuple(self.split.findings)

  @functools.cached_property
  def sha256(self) -> str:
    """Of which studies these are, their labels, items and preprocessing."""
    facts = [self.split.sha256, self.split.findings, self.labels.tolist(),
             self.texts, self.split.contract.to_dict()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

  @property
  def steps(self) -> int:
    """Batches of the split."""
    return -(-len(self) // self.batch)

  def rows(self, step: int) -> np.ndarray:
    """Numbers of the studies of one batch, of all processes."""
    return np.arange(step * self.batch, min(len(self), (step + 1) * self.batch))

  def local(self, step: int) -> dict[str, np.ndarray]:
    """This process's rows of a batch, as `Features` by name."""
    share = self.batch // jax.process_count()
    first = step * self.batch + jax.process_index() * share
    # What lies behind the last study repeats it; nobody reads the answers.
    rows = np.minimum(np.arange(first, first + share), len(self) - 1)
    return self.features(rows)

  def features(self, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Any rows, series padded to the most that a study of the split has."""
    each = [self._tokens(int(row)) for row in rows]
    per_series = len(each[0]) // self.num_series[rows[0]]
    size = per_series * int(self.num_series.max())
    tokens = np.zeros((len(rows), size, each[0].shape[1]), each[0].dtype)
    mask = np.zeros(tokens.shape[:2], bool)
    for i, one in enumerate(each):
      tokens[i, :len(one)], mask[i, :len(one)] = one, True
    return {"image": self.image[rows], "tokens": tokens, "mask": mask}

  def _tokens(self, row: int) -> np.ndarray:
    process, place = _place(row, self.batch, len(self._kept))
    return self._kept[process].tokens(place)

  def example(self, row: int) -> dict[str, np.ndarray]:
    """What an evaluator may see of a record; see `data.example`."""
    return self.make_example(self.split.study(row), int(self.num_series.max()))

  def items(self, row: int) -> tuple[str, ...]:
    """The stored findings of a study."""
    return self.texts[row]


def encode(name: str, make_example: MakeExample, encoder: Encoder, params, mesh,
           *, folder: pathlib.Path, batch: int, what: str) -> Studies:
  """Encodes what is not kept yet; every process calls it.

  Args:
    name: of a split of config.data.root.
    make_example: record -> example.
    encoder: compiled functions of the model.
    params: its parameters.
    mesh: whose devices share a batch.
    folder: of the parameters; all processes see it.
    batch: studies at a time, of all processes.
    what: the title of the progress bar.

  Raises:
    UserError: there is no such split, two records have one id, or the disk is
      too small.
  """
  root = make_example.config.data.root
  split = record.open_split(root, name, ground_truth=False)
  _require_distinct(split)
  processes = jax.process_count()
  folder = folder / _data_digest(split, make_example, batch, encoder)
  kept = tuple(Kept(folder, p) for p in range(processes))
  ours = kept[jax.process_index()]
  steps = -(-len(split.source) // batch)
  first = int(multihost.least(ours.begin()))
  ours.cut(first)
  batches = loader.eval_batches(
      split, make_example, batch=batch, process=jax.process_index(),
      num_processes=processes, first=first)
  bar = tqdm.tqdm(batches, desc=what, unit="batch", total=steps, initial=first,
                  disable=first == steps or not multihost.is_main())
  for number, local in enumerate(bar, first):
    inputs = multihost.to_global({k: local[k] for k in _INPUTS}, mesh)
    out = encoder.features(params, *(inputs[k] for k in _INPUTS))
    ours.add(multihost.local_rows(out), local)
    if number == first:
      _require_disk(folder, ours.size() * (steps - first) * processes)
  multihost.sync("features")
  return _opened(record.open_split(root, name), make_example, batch, kept)


def _opened(split, make_example, batch, kept) -> Studies:
  """Everybody's files as one."""
  n = len(split.source)
  parts = [k.read() for k in kept]
  places = [_place(row, batch, len(kept)) for row in range(n)]
  about = [parts[p][1][i] for p, i in places]
  return Studies(
      split=split, make_example=make_example, batch=batch, _kept=kept,
      image=np.stack([parts[p][0][i] for p, i in places]),
      num_series=np.array([a["series"] for a in about]),
      labels=np.array([a["labels"] for a in about], np.int8).reshape(n, -1),
      texts=tuple(tuple(a["items"]) for a in about))


def _place(row: int, batch: int, processes: int) -> tuple[int, int]:
  """Which process encoded a row, as its how many-th."""
  share = batch // processes
  step, rest = divmod(row, batch)
  return rest // share, step * share + rest % share


def _data_digest(split: record.Split, make_example: MakeExample, batch: int,
                 encoder: Encoder) -> str:
  """Of all that features depend on beside the parameters."""
  config, processes = make_example.config, jax.process_count()
  facts = {
      "version": itemclip_jax.__version__, "studies": split.sha256,
      "contract": split.contract.to_dict(), "findings": split.findings,
      "files": split.source.files(), "dtype": str(jnp.dtype(encoder.dtype)),
      "max_series": config.data.max_series, "fill": config.data.series_fill,
      "shape": config.vision.volume_shape,
      "rows": [processes, batch if processes > 1 else 0]}
  text = json.dumps(facts, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _require_distinct(split: record.Split):
  ids, counts = np.unique(split.index["study_id"].astype(str),
                          return_counts=True)
  if (counts > 1).any():
    raise UserError(
        f"{int((counts > 1).sum())} study ids stand for several records, such "
        f"as {str(ids[counts > 1][0])!r}; scores could not be told apart. "
        "Build the data set again from an archive with distinct ids.")


def _require_disk(folder: pathlib.Path, needed: int):
  free = shutil.disk_usage(folder).free
  if needed > free:
    raise UserError(
        f"The encoded studies take {needed / 1e9:.1f} GB and {folder} has "
        f"{free / 1e9:.1f} GB free; free some, or choose another --workdir.")
