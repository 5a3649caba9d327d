"""What each config resolves to, and how many parameters its model has.

After a deliberate change write the texts anew and read their diff:

    python -m tests.configs.test_golden
"""

import dataclasses
import json
import pathlib

import jax
import pytest

from itemclip_jax.models.dual_encoder import DualEncoder
from tests import tiny
from tests.configs.test_table12 import DOMAINS, config_of

FOLDER = pathlib.Path(__file__).parent / "golden"


def describe(domain: str) -> str:
  config = config_of(domain)
  shapes = jax.eval_shape(
      lambda: DualEncoder(config).init(
          jax.random.key(0), tiny.init_example(config))["params"])
  counts = {part: sum(x.size for x in jax.tree.leaves(tree))
            for part, tree in sorted(shapes.items())}
  return json.dumps({
      "parameters": counts | {"all": sum(counts.values())},
      "settings": dataclasses.asdict(config)}, indent=1) + "\n"


@pytest.mark.parametrize("domain", DOMAINS)
def test_it_resolves_to_its_golden_text(domain):
  assert describe(domain) == (FOLDER / f"{domain}.json").read_text()


if __name__ == "__main__":
  for name in DOMAINS:
    (FOLDER / f"{name}.json").write_text(describe(name))
