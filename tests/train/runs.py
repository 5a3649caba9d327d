"""What a run left in its work directory."""

import json
import pathlib


def read(workdir: pathlib.Path, name: str):
  return json.loads((workdir / name).read_text())


def metrics(workdir: pathlib.Path, name: str = "loss/total") -> dict:
  """Step -> value of one metric."""
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  return {line["step"]: line[name] for line in lines if name in line}


def assert_same_bytes(workdir, other, name: str):
  assert (workdir / name).read_bytes() == (other / name).read_bytes()


def checkpoints(workdir: pathlib.Path) -> list[int]:
  return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir()
                if p.name.isdigit())
