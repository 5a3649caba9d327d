"""The compiler of TPUs on a machine that has none.

It lives in a library, libtpu, that JAX loads where it is told to. Imported from
where packages usually lie, it makes every start of JAX look for a chip; so
`./run.sh compile` puts it beside, and only this command looks there.
"""

import importlib.util
import os
import pathlib
import sys

from itemclip_jax.errors import UserError
from itemclip_jax.train.ahead import chips

_BESIDE = pathlib.Path("libtpu/libtpu/libtpu.so")  # below the environment

# Without a chip to ask, the library would look for one on the network, and
# complain; of what it is told here nothing depends on the topology.
_ALONE = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1",
          "TPU_WORKER_HOSTNAMES": "localhost",
          "TPU_ACCELERATOR_TYPE": "v5litepod-4",
          "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TPU_LOG_DIR": "disabled",
          "TPU_MIN_LOG_LEVEL": "3", "TF_CPP_MIN_LOG_LEVEL": "3"}


def prepare():
  """Tells JAX where the library is; call it before JAX is imported.

  Raises:
    UserError: there is none.
  """
  if not os.path.isfile(os.environ.get("TPU_LIBRARY_PATH", "")):
    os.environ.pop("TPU_LIBRARY_PATH", None)
    beside = pathlib.Path(sys.prefix) / _BESIDE
    if beside.is_file():
      os.environ["TPU_LIBRARY_PATH"] = str(beside)
    elif importlib.util.find_spec("libtpu") is None:
      raise UserError(
          "The compiler of TPUs is not installed; ./run.sh compile installs "
          f"it, or: pip install --no-deps --target {beside.parents[1]} libtpu")
  os.environ.update(_ALONE)


def devices(topology: str) -> list:
  """The devices of a topology such as v5e:4x4: to compile for, not to run on.

  Raises:
    UserError: there is no such topology.
  """
  from jax.experimental import topologies  # pylint: disable=g-import-not-at-top
  name, _ = chips.of(topology)
  more = {}
  if name in ("v4", "v5p"):
    more["chip_config_name"] = "megacore"  # one device a chip
  if topology.endswith(":1x1"):
    more["chips_per_host_bounds"] = (1, 1, 1)
  try:
    return topologies.get_topology_desc(
        topology, platform="tpu", **more).devices
  except Exception as error:  # the library raises nothing narrower
    first = str(error).splitlines()[0]
    raise UserError(f"There is no topology {topology!r} ({first}); choose one "
                    f"such as {', '.join(chips.EXAMPLES)}.") from error
