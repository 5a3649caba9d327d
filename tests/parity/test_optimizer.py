"""AdamW, its schedule and the clamp against recorded trajectories.

The forward pass is not part of the files: recorded gradients drive the updates.
"""

import functools

import jax
import numpy as np
import optax

from itemclip_jax.config import schema
from itemclip_jax.train import optimizer
from tests.parity import torch_names
from tests.parity.compare import assert_close
from tests.parity.compile import jit

FAMILY = "optimizer_"


def _config(data) -> schema.Config:
  return schema.Config(
      optimizer=schema.Optimizer(
          learning_rate=float(data["cfg.lr"]),
          weight_decay=float(data["cfg.wd"]), beta1=float(data["cfg.beta1"]),
          beta2=float(data["cfg.beta2"]), eps=float(data["cfg.eps"])),
      train=schema.Train(warmup_steps=int(data["cfg.warmup"])))


def _decays(data) -> dict[str, str]:
  """Parameter -> our label; what the file lists nowhere is frozen."""
  lists = {"decay": data["cfg.names_decay"],
           "no_decay": data["cfg.names_no_decay"]}
  names = torch_names.under(data, "param")
  return dict.fromkeys(names, "frozen") | {
      str(name): label for label, listed in lists.items() for name in listed}


def _as_ours(tree: dict, decays: dict[str, str]) -> dict:
  """Gives frozen arrays the name by which ours are known."""
  return {name: {"spatial_position": value} if decays[name] == "frozen"
          else value for name, value in tree.items()}


def test_decay_follows_the_published_rule(data):
  decays = _decays(data)
  params = _as_ours(torch_names.under(data, "param"), decays)
  assert optimizer.labels(params) == _as_ours(decays, decays)


def test_trajectory_agrees(data):
  with jax.enable_x64(True):
    decays = _decays(data)
    start = torch_names.under(data, "param")
    adamw = optimizer.make_optimizer(
        _config(data), int(data["cfg.total_steps"]))
    params = _as_ours(start, decays)
    state = jit(adamw.init)(params)
    step = jit(functools.partial(_step, adamw))
    recorded = torch_names.under(data, "grad.trajectory")
    for i in range(len(data["out.lr"])):
      # Frozen arrays have none recorded; whatever comes must not move them.
      grads = {name: recorded[name][i] if name in recorded
               else np.ones_like(value) for name, value in start.items()}
      raw, params, state = step(_as_ours(grads, decays), state, params)
      assert_close(raw["logit_scale"], data["out.logit_scale_before_clamp"][i],
                   f"scale before clamp {i}")
      theirs = {k: v[i] for k, v
                in torch_names.under(data, "out.trajectory").items()}
      for name, value in _as_ours(theirs, decays).items():
        jax.tree.map(functools.partial(assert_close, what=f"{name} {i}"),
                     params[name], value)


def _step(adamw, grads, state, params):
  updates, state = adamw.update(grads, state, params)
  raw = optax.apply_updates(params, updates)
  return raw, optimizer.clamp_scale(raw), state


def test_learning_rate_agrees(data):
  with jax.enable_x64(True):
    for name, base, warmup, total in (
        ("lr", "lr", "warmup", "total_steps"),
        ("long_lr_schedule", "long_base_lr", "long_warmup", "long_total")):
      rate = optimizer.schedule(float(data[f"cfg.{base}"]),
                                int(data[f"cfg.{warmup}"]),
                                int(data[f"cfg.{total}"]))
      theirs = data[f"out.{name}"]
      assert_close(jit(rate)(np.arange(len(theirs))), theirs, name)


def test_clamp_agrees(data):
  assert data["cfg.clamp_min"] == 0.0
  assert data["cfg.clamp_max"] == optimizer.MAX_LOG_SCALE
