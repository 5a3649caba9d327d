"""Nested plain dicts -> checked dataclasses."""

import dataclasses
import types
import typing
from typing import Literal

from itemclip_jax.errors import UserError


def build(cls, raw: dict, where: str):
  """Returns `cls(**raw)`, recursively; `where` names it in errors.

  Raises:
    UserError: a setting is unknown or of another type.
  """
  fields = {f.name: f.type for f in dataclasses.fields(cls)}
  if unknown := raw.keys() - fields.keys():
    raise UserError(f"Unknown {where} settings {sorted(unknown)}; "
                    f"{cls.__name__} has {sorted(fields)}.")
  values = {}
  for name, value in raw.items():
    kind = fields[name]
    if dataclasses.is_dataclass(kind):
      values[name] = build(kind, value, f"{where}.{name}")
    else:
      values[name] = _checked(value, kind, f"{where}.{name}")
  return cls(**values)


def _checked(value, kind, where: str):
  """Returns `value` as `kind`, or raises naming the setting."""
  origin = typing.get_origin(kind)
  if origin is tuple:
    if not isinstance(value, (tuple, list)):
      raise UserError(f"{where} is {value!r}; want a tuple.")
    inner = typing.get_args(kind)[0]
    want = [a for a in typing.get_args(kind) if a is not Ellipsis]
    if Ellipsis not in typing.get_args(kind) and len(value) != len(want):
      raise UserError(f"{where} is {value!r}; want {len(want)} values.")
    return tuple(_checked(v, inner, where) for v in value)
  if origin is Literal:
    if value not in typing.get_args(kind):
      raise UserError(
          f"{where} is {value!r}; use one of {typing.get_args(kind)}.")
    return value
  if origin is types.UnionType or origin is typing.Union:
    for option in typing.get_args(kind):
      try:
        return _checked(value, option, where)
      except ValueError:
        continue
    raise UserError(f"{where} is {value!r}; want {kind}.")
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
    raise UserError(f"{where} is {value!r}; want {kind.__name__}.")
  return value


def positive(where: str, **values):
  """Raises unless all values are > 0; `where` is their section."""
  for name, value in values.items():
    if value <= 0:
      raise UserError(f"{where}.{name} must be > 0, got {value}.")


def rate(where: str, **values):
  """Raises unless all values lie in [0, 1]."""
  for name, value in values.items():
    if not 0.0 <= value <= 1.0:
      raise UserError(f"{where}.{name} must lie in [0, 1], got {value}.")
