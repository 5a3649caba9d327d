"""Compiles the train step of a config for chips that are not here.

Leaves `compile.json`, what the step needs and how long it would take, and
`compile.txt.gz`, the compiler's text that the estimates follow from;
`tools.recount` follows them again.
"""

import dataclasses
import gzip
import pathlib
import re
import time

import jax

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError
from itemclip_jax.ops import attention
from itemclip_jax.parallel import mesh as mesh_lib
from itemclip_jax.parallel import sharding
from itemclip_jax.train import flops, loop, setup
from itemclip_jax.train.ahead import chips, dataless, estimate, files, libtpu
from itemclip_jax.train.writer import write_json

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def main(config: schema.Config, topology: str | None, workdir: pathlib.Path):
  """The command: compiles, and says what came out.

  Raises:
    UserError: no topology is named, or it and the settings do not fit.
  """
  if not topology:
    raise UserError("--mode=compile needs --topology, the chips to compile "
                    f"for, such as {', '.join(chips.EXAMPLES)}.")
  print(_in_words(compile_for(config, topology, workdir)))


def compile_for(config: schema.Config, topology: str,
                workdir: pathlib.Path) -> dict:
  """Compiles, writes both files and returns what `compile.json` holds.

  Raises:
    UserError: topology and settings do not fit one another.
  """
  name, chip = chips.of(topology)
  devices = libtpu.devices(topology)
  mesh = mesh_lib.make_mesh(config.mesh.data, config.mesh.fsdp, devices)
  run = dataless.make_run(config, mesh, workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  print(f"Compiling the step of {config.train.global_batch} studies for "
        f"{len(devices)} devices of {topology}; it takes minutes ...",
        flush=True)
  found = {"topology": topology, "chip": name, "num_devices": len(devices),
           "hbm_limit_bytes": chip.hbm}
  model = model_flops(run) // len(devices)
  lowered, began = lower(run), time.perf_counter()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    found |= {"hbm_bytes_per_device": _wanted(error), "fits": False,
              "model_flops_per_device": model}
  else:
    found["compile_s"] = round(time.perf_counter() - began, 1)
    found |= _memory(compiled, chip)
    text = compiled.as_text()
    with gzip.open(workdir / files.TEXT, "wt", compresslevel=6) as file:
      file.write(text)
    found |= estimate.of_text(text, config, topology, model)
    found["compiler"] = {name: compiled.cost_analysis().get(name)
                         for name in ("flops", "bytes accessed")}
  found["config"] = dataclasses.asdict(config)
  write_json(workdir / files.NUMBERS, found)
  return found


def lower(run: setup.Run):
  """The step that the loop jits, for arguments that are only described."""
  state = run.abstract_state()
  state = jax.tree.map(
      lambda x, layout: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout),
      state, sharding.tree_shardings(state, run.mesh))
  with jax.set_mesh(run.mesh), attention.using(run.config.attention, "tpu"):
    return loop.jit_step(run, state).lower(state, dataless.batch(run))


def model_flops(run: setup.Run) -> int:
  """Matrix products of a whole step that recomputes nothing, on one device.

  Forward and backward pass of towers, projections and losses, as written.
  """
  config = dataclasses.replace(dataless.plain(run.config), mesh=schema.Mesh())
  one = mesh_lib.make_mesh(1, 1, jax.devices("cpu")[:1])
  plain = dataless.make_run(config, one, run.workdir)
  step = loop.make_step(plain)
  with attention.using("xla"):
    return flops.matmul_flops(
        step, plain.abstract_state(), dataless.batch(plain),
        jax.eval_shape(lambda: jax.random.key(0)))


def _memory(compiled, chip: chips.Chip) -> dict:
  """Bytes of one device, as the compiler laid them out."""
  m = compiled.memory_analysis()
  parts = {"arguments": m.argument_size_in_bytes,
           "outputs": m.output_size_in_bytes,
           "aliased": m.alias_size_in_bytes,
           "temporary": m.temp_size_in_bytes,
           "code": m.generated_code_size_in_bytes}
  used = sum(parts.values()) - 2 * parts["aliased"]  # outputs over arguments
  return {"hbm_bytes_per_device": used, "fits": used <= chip.hbm,
          "hbm_parts": parts}


def _wanted(error: jax.errors.JaxRuntimeError) -> int:
  """Bytes that a program which does not fit would take.

  Raises:
    JaxRuntimeError: the compiler failed for another reason.
  """
  found = re.search(
      r"(?:Used |temporaries \()([\d.]+)([KMGT]?)(?: of|\) exceeds)",
      str(error))
  if not found:
    raise error
  return int(float(found[1]) * _UNITS[found[2]])


def _in_words(found: dict) -> str:
  memory = (f"{found['hbm_bytes_per_device'] / 2**30:.2f} GiB of "
            f"{found['hbm_limit_bytes'] / 2**30:.2f} GiB a device")
  if not found["fits"]:
    return (f"{memory}: it does not fit; lower train.global_batch, raise "
            "mesh.fsdp, or take more chips.")
  return (f"{memory}, compiled in {found['compile_s']:.0f} s\n"
          + estimate.in_words(found))
