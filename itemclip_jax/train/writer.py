"""Metrics to `metrics.jsonl` and TensorBoard, JSON files written whole."""

import json
import math
import pathlib

import tensorboardX


def write_json(path: pathlib.Path, content):
  """Writes under another name first, so that no reader meets half a file.

  Numbers that are not finite become null: JSON has no word for them.
  """
  partial = path.with_name(path.name + ".partial")
  partial.write_text(json.dumps(_finite(content), indent=2) + "\n")
  partial.replace(path)


def _finite(x):
  if isinstance(x, dict):
    return {k: _finite(v) for k, v in x.items()}
  if isinstance(x, (list, tuple)):
    return [_finite(v) for v in x]
  return None if isinstance(x, float) and not math.isfinite(x) else x


class Writer:
  """Appends one JSON object a call; forgets what lies beyond `step`.

  A resumed run therefore leaves the lines of a run left alone.
  """

  def __init__(self, workdir: pathlib.Path, step: int):
    path = workdir / "metrics.jsonl"
    kept = [line for line in _lines(path) if json.loads(line)["step"] < step]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(line + "\n" for line in kept))
    partial.replace(path)
    self._file = path.open("a")
    self._board = tensorboardX.SummaryWriter(str(workdir / "tensorboard"),
                                             purge_step=step)

  def __call__(self, step: int, metrics: dict[str, float]):
    self._file.write(json.dumps(_finite({"step": step} | metrics)) + "\n")
    self._file.flush()
    for name, value in metrics.items():
      self._board.add_scalar(name, value, step)

  def close(self):
    self._file.close()
    self._board.close()


class Silent:
  """The writer of processes that are not the main one."""

  def __call__(self, step: int, metrics: dict[str, float]):
    del step, metrics

  def close(self):
    """Nothing to close."""


def last_loss(workdir: pathlib.Path) -> float | None:
  """The loss of the last line of `metrics.jsonl`."""
  lines = _lines(workdir / "metrics.jsonl")
  return json.loads(lines[-1])["loss/total"] if lines else None


def _lines(path: pathlib.Path) -> list[str]:
  """Whole lines; a last one that was cut off by an interruption is dropped."""
  if not path.exists():
    return []
  text = path.read_text()
  return text[:text.rfind("\n") + 1].splitlines()
