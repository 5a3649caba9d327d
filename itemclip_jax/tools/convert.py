"""Public PyTorch weights -> a released model, and back.

    python -m itemclip_jax.tools.convert --config=configs/chest_ct.py \\
        --state=chest_ct.pt --tokenizer=BiomedVLP-CXR-BERT-specialized \\
        --contract=data/ct_rate --out=runs/converted

Weights alone are no model. Four things are put together:

    --config      the sizes of the towers. A file of other sizes is refused, and
                  the error names the first array that does not fit: change the
                  setting, e.g. --config.text.max_tokens=77.
    --state       the weights: .safetensors, or what torch saved (.pt, .bin).
    --tokenizer   the vocabulary that they were trained with, a tokenizer.json
                  or the Hugging Face folder of the text tower. Another one of
                  the same size converts as well, and then every text is noise.
    --contract    what was done to the volumes: contract.json, or a data set
                  that data_pipelines.prepare built in the way of the authors.
                  The model refuses volumes that were prepared otherwise.

The towers of the config say which names are looked for: 'hlip' and 'bert' those
of ItemizedCLIP's radiology models and of HLIP, 'vit' and 'clip' those of its
2-D models, FLAIR and open_clip. HLIP and CLIP have no item attention; theirs is
then the initial one of --config.seed, said in the output and on the model card,
and must be trained (configs/chest_ct.py:adapt) before an item's own score means
anything.

The result is a folder as tools.release writes it: give it to tools.explain as
--checkpoint, or to training as --config.train.start_from. The way back, from a
run or a release to names that the published code loads:

    python -m itemclip_jax.tools.convert --checkpoint=runs/ct \\
        --state_out=ct.safetensors

With --naming=open_clip, or open_clip_text where the text tower stands under
"text.", the file is a plain CLIP: the item attention is left out, and open_clip
wants init_logit_bias to take its bias.
"""

import hashlib
import pathlib
import tempfile

from absl import flags
from absl import logging
import jax
from ml_collections import config_flags
import numpy as np

import itemclip_jax
from itemclip_jax.config import schema
from itemclip_jax.data import record, tokens
from itemclip_jax.errors import UserError, read_json
from itemclip_jax.interop import hf_text, model_shapes, torch_io
from itemclip_jax.interop.rules import itemized_2d, itemized_radiology
from itemclip_jax.models.dual_encoder import DualEncoder
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.tools import command, release
from itemclip_jax.train import setup, trained as trained_lib

# Towers -> the rules of their family.
_RULES = {("hlip", "bert"): itemized_radiology, ("vit", "clip"): itemized_2d}

NAMINGS = ("itemized", "open_clip", "open_clip_text")
_INTO = ("config", "state", "tokenizer", "contract", "out")
_BACK = ("checkpoint", "state_out")


def convert(config: schema.Config, state: pathlib.Path, tokenizer: pathlib.Path,
            contract: pathlib.Path, out: pathlib.Path) -> list[str]:
  """Writes a released model, whole or not at all; see the head of this file.

  Args:
    config: of the model.
    state: file of the weights.
    tokenizer: a tokenizer.json, or a Hugging Face folder.
    contract: a contract.json, or a built data set.
    out: the folder, which must not exist.

  Returns:
    The parts that the state lacks and that are initial, e.g. item_attention.

  Raises:
    UserError: a file is missing or damaged, or the parts do not fit.
  """
  if out.exists():
    raise UserError(f"--out={out} exists already; name a new folder.")
  rules = _rules(config)
  voxels = _contract(contract)
  setup.require_shape(config, voxels, f"The contract {contract}")
  vocabulary = _vocabulary(tokenizer, config.text)
  params = rules.to_params(torch_io.read_state(state), config)
  lacking = sorted(
      model_shapes.abstract_params(config).keys() - params.keys())
  digest = hashlib.sha256(state.read_bytes()).hexdigest()
  origin = (f"Converted by itemclip_jax {itemclip_jax.__version__} from "
            f"`{state.name}` (SHA-256 {digest}).")
  if lacking:
    params |= _initial(config, lacking)
    origin += (f" That file has no {' and no '.join(lacking)}: initial values, "
               "to be trained.")
  release.write(out, release.Parts(
      params=params, config=config, contract=voxels, vocabulary=vocabulary,
      step=0, origin=origin), {})
  return lacking


def back(checkpoint: pathlib.Path, out: pathlib.Path,
         naming: itemized_2d.Naming = "itemized"):
  """Writes the weights of a run or a release under their published names.

  Args:
    checkpoint: either of them.
    out: a .safetensors file, which must not exist.
    naming: of which family; the radiology models have but one.

  Raises:
    UserError: there is no such model, or its family has other names.
  """
  if out.suffix != ".safetensors" or out.exists():
    raise UserError(f"--state_out={out} must be a new .safetensors file; name "
                    "another.")
  model = trained_lib.load(checkpoint, make_mesh(1, 1, jax.devices()[:1]))
  rules, params = _rules(model.config), jax.tree.map(np.asarray, model.params)
  if rules is itemized_radiology:
    if naming != "itemized":
      raise UserError(f"--naming={naming} is for pictures, but {checkpoint} is "
                      "a radiology model; leave it out.")
    state = rules.from_params(params, model.config)
  else:
    if naming != "itemized":
      del params["item_attention"]
    state = rules.from_params(params, model.config, naming)
  out.parent.mkdir(parents=True, exist_ok=True)
  torch_io.write_state(out, state)


def _rules(config: schema.Config):
  towers = (config.vision.tower, config.text.tower)
  if towers not in _RULES:
    raise UserError(
        f"vision.tower={towers[0]!r} and text.tower={towers[1]!r} are no "
        "published pair; want 'hlip' with 'bert', or 'vit' with 'clip'.")
  return _RULES[towers]


def _contract(path: pathlib.Path) -> record.Contract:
  if path.is_dir():
    return record.read_contract(path)
  if not path.is_file():
    raise UserError(f"There is no contract at {path}; name a contract.json or "
                    "a data set that data_pipelines.prepare built.")
  return record.Contract.from_dict(
      read_json(path, "Get the file again."), str(path))


def _vocabulary(path: pathlib.Path, text: schema.Text) -> bytes:
  """Contents of a tokenizer.json that the text tower can read."""
  if not path.is_dir():
    tokens.Tokenizer(path, max_tokens=text.max_tokens,
                     vocab_size=text.vocab_size, lower_case=text.lower_case)
    return path.read_bytes()
  if text.tower != "bert":
    return _vocabulary(path / "tokenizer.json", text)
  with tempfile.TemporaryDirectory() as folder:
    made = pathlib.Path(folder) / "tokenizer.json"
    made.write_text(hf_text.tokenizer_json(path), "utf-8")
    try:
      return _vocabulary(made, text)
    except UserError as error:
      raise UserError(str(error).replace(str(made), str(path))) from error


def _initial(config: schema.Config, names: list[str]) -> dict:
  """Some of the initial parameters; only these are computed."""
  bias = config.loss.init_logit_bias
  if bias == "prior":
    raise UserError("loss.init_logit_bias='prior' is known in a run alone; "
                    "give a number, --config.loss.init_logit_bias=-10.")

  @jax.jit
  def make():
    params = DualEncoder(config, logit_bias=bias).init(
        jax.random.key(config.seed), model_shapes.zeros(config))["params"]
    return {name: params[name] for name in names}

  return jax.device_get(make())


def _require(given, wanted: tuple[str, ...], others: tuple[str, ...]):
  """Raises unless all of the flags of one direction are there, none else."""
  name = lambda names: ", ".join(f"--{n}" for n in names)
  if missing := [n for n in wanted if given[n].value is None]:
    raise UserError(f"{name(missing)} is missing; want {name(wanted)}, see "
                    "--help.")
  if odd := [n for n in others if given[n].value is not None]:
    raise UserError(f"{name(odd)} goes the other way than --{wanted[0]}; leave "
                    "it out.")


def main(argv):
  del argv
  logging.set_verbosity(logging.ERROR)  # Orbax warns of reading only
  given = flags.FLAGS
  if given.checkpoint is not None:
    _require(given, _BACK, _INTO)
    back(pathlib.Path(given.checkpoint), pathlib.Path(given.state_out),
         given.naming)
    print(f"Written to {given.state_out}.")
    return
  _require(given, _INTO, _BACK)
  lacking = convert(schema.from_config_dict(given.config), *(
      pathlib.Path(given[name].value) for name in _INTO[1:]))
  for part in lacking:
    print(f"{given.state} has no {part}; it is initial and must be trained.")
  print(f"Converted to {given.out}; complete its README.md.")


if __name__ == "__main__":
  holder = config_flags.DEFINE_config_file(
      "config", None, "File of settings of the model.", lock_config=True)
  flags.DEFINE_string("state", None, "Weights: .safetensors, or torch's.")
  flags.DEFINE_string("tokenizer", None, "tokenizer.json, or the Hugging Face "
                      "folder of the text tower.")
  flags.DEFINE_string("contract", None, "contract.json, or a built data set.")
  flags.DEFINE_string("out", None, "The folder to make.")
  flags.DEFINE_string("checkpoint", None, "The way back: a run or release.")
  flags.DEFINE_string("state_out", None, "The .safetensors file to make of it.")
  flags.DEFINE_enum("naming", "itemized", NAMINGS, "Of the names in it.")
  command.run(main, holder)
