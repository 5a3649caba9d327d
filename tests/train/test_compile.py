"""The command compiles the train step for chips that nobody here has.

Golden texts of the collectives stand in golden_collectives/; write them anew by
`GOLDEN=write ./run.sh test tests/train/test_compile.py`, and read the change.
"""

import collections
import gzip
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from itemclip_jax.train.ahead import chips

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = pathlib.Path(__file__).parent / "golden_collectives"
CONFIGS = ("chest_ct", "natural_images")


def _main(workdir, *flags, config="chest_ct", module="main", **environment):
  kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
  more = () if module != "main" else (
      f"--config={ROOT}/configs/{config}.py:smoke", "--mode=compile",
      "--config.train.global_batch=16", "--config.eval.batch=16")
  return subprocess.run(
      [sys.executable, "-m", f"itemclip_jax.{module}", f"--workdir={workdir}",
       *more, *flags], cwd=workdir, capture_output=True, text=True, check=False,
      env=kept | {"PYTHONPATH": str(ROOT)} | environment)


def _has_compiler() -> bool:
  return subprocess.run(
      [sys.executable, "-c", "from itemclip_jax.train.ahead import libtpu\n"
       "libtpu.prepare()"], cwd=ROOT, capture_output=True,
      check=False).returncode == 0


compiler = pytest.mark.skipif(
    not _has_compiler(), reason="libtpu is missing; ./run.sh test installs it")


@pytest.fixture(name="compiled", scope="module", params=CONFIGS)
def _compiled(request, tmp_path_factory):
  """Name, work directory and numbers of a config compiled for 16 v5e."""
  workdir = tmp_path_factory.mktemp(request.param)
  done = _main(workdir, "--topology=v5e:4x4", config=request.param)
  assert done.returncode == 0, done.stderr
  found = json.loads((workdir / "compile.json").read_text())
  return request.param, workdir, found | {"said": done.stdout}


@compiler
def test_it_says_what_a_step_needs_and_how_long_it_would_take(compiled):
  _, _, found = compiled
  chip = chips.CHIPS["v5e"]
  assert (found["topology"], found["num_devices"]) == ("v5e:4x4", 16)
  assert found["fits"] and found["hbm_limit_bytes"] == chip.hbm
  assert 0 < found["hbm_bytes_per_device"] < chip.hbm
  assert found["unknown_loops"] == []
  kernels = sum(c["seconds"] for c in found["custom_calls"])
  seconds = found["estimated_cycles"] / chip.clock + kernels
  assert found["estimated_step_ms"] == pytest.approx(1e3 * seconds, abs=1e-3)
  assert found["estimated_mfu"] == pytest.approx(
      found["model_flops_per_device"] / (chip.peak * seconds), abs=1e-4)
  assert sum(p["share"] for p in found["parts"].values()) == pytest.approx(
      1, abs=0.01)
  assert "takes minutes" in found["said"]
  assert any(name.startswith("attention") for name in found["parts"])


@compiler
def test_products_of_the_text_are_those_of_the_model_and_what_runs_again(
    compiled):
  name, _, found = compiled
  # Blocks of chest CT run again in the backward pass; those of pictures do not.
  least, most = (1.0, 1.5) if name == "chest_ct" else (0.95, 1.3)
  assert least <= found["recompute_ratio"] <= most


@compiler
def test_the_text_gives_the_same_numbers_again(compiled):
  _, workdir, found = compiled
  done = _main(workdir, module="tools.recount")
  assert done.returncode == 0, done.stderr
  again = json.loads(done.stdout.splitlines()[0])
  assert again == {k: found[k] for k in again}
  text = gzip.open(workdir / "compile.txt.gz", "rt").read()
  assert text.startswith("HloModule jit_train_step")


@compiler
def test_collectives_are_the_known_ones(compiled):
  name, _, found = compiled
  _is_golden(name, [
      f"{c['kind']} x {c['count']}, {c['bytes']} bytes, {_kinds(c['shape'])}, "
      f"{'overlapped' if c['overlapped'] else 'waited for'}: {c['scope']}"
      for c in found["collectives"]])


def _is_golden(name: str, lines: list[str]):
  text, path = "\n".join(lines) + "\n", GOLDEN / f"{name}.txt"
  if os.environ.get("GOLDEN") == "write":
    path.write_text(text)
  assert text == path.read_text()


def _kinds(shape: str) -> str:
  """How many arrays of which type: "3 bf16"."""
  kinds = [word.partition("[")[0] for word in shape.split()]
  return " ".join(f"{kinds.count(k)} {k}" for k in sorted(set(kinds)))


@compiler
def test_with_fsdp_parameters_are_gathered_besides(tmp_path):
  """Kinds and types only: one by one they are a hundred."""
  done = _main(tmp_path, "--topology=v5e:4x4", "--config.mesh.fsdp=4")
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / "compile.json").read_text())
  total = collections.defaultdict(lambda: [0, 0])
  for c in found["collectives"]:
    types = " and ".join(_kinds(c["shape"]).split()[1::2])
    entry = total[c["kind"], types]
    entry[0] += c["count"]
    entry[1] += c["count"] * c["bytes"]
  _is_golden("chest_ct_fsdp", [
      f"{kind} of {types} x {count}, {size} bytes"
      for (kind, types), (count, size) in sorted(total.items())])


@compiler
def test_blocks_talk_of_nothing_but_their_gradients(compiled):
  """A looped tower reduces them round by round, as they are found."""
  _, _, found = compiled
  of_blocks = [c for c in found["collectives"]
               if re.search("(?i)/block|/layer", c["scope"])]
  assert {c["kind"] for c in of_blocks} <= {"all-reduce"}
  assert all("transpose(" in c["scope"] for c in of_blocks)
  sent = sum(c["bytes"] for c in found["collectives"]
             if c["kind"] == "all-reduce")
  assert sent < found["hbm_parts"]["arguments"]   # once, in half precision


@compiler
@pytest.mark.parametrize("topology, said", [
    ("v5e:3x3", "no topology 'v5e:3x3'"), ("v9:4x4", "no topology 'v9:4x4'"),
    ("v5e:8x8", "train.global_batch=16 is not a multiple of the 64 devices")])
def test_what_does_not_fit_is_told_in_a_sentence(tmp_path, topology, said):
  done = _main(tmp_path, f"--topology={topology}")
  assert done.returncode == 2
  assert said in done.stderr and "Traceback" not in done.stderr
  assert not (tmp_path / "compile.json").exists()


@compiler
def test_without_a_topology_it_lists_some(tmp_path):
  done = _main(tmp_path)
  assert done.returncode == 2 and "v5e:4x4" in done.stderr


def test_a_missing_compiler_is_told_with_its_installation(tmp_path):
  code = ("import sys; sys.prefix = '/nowhere'\n"
          "import importlib.util as u; u.find_spec = lambda name: None\n"
          "from itemclip_jax.train.ahead import libtpu; libtpu.prepare()")
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True,
                        capture_output=True, check=False,
                        env=os.environ | {"TPU_LIBRARY_PATH": ""})
  assert "UserError" in done.stderr
  assert "pip install --no-deps --target /nowhere/libtpu libtpu" in done.stderr
  assert "jax" not in done.stdout
