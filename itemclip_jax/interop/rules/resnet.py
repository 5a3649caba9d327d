"""torchvision's ResNet of bottlenecks <-> `models.resnet.Resnet`.

Its names are timm's too, whose ResNets with GroupNorm have no statistics.
"""

from itemclip_jax.interop import mapping
from itemclip_jax.interop.mapping import CONV2D, Rule


def _norm(torch: str, jax_path: str) -> mapping.Rules:
  return (*mapping.affine(torch, jax_path),
          Rule(f"{torch}.running_mean", f"{jax_path}/mean"),
          Rule(f"{torch}.running_var", f"{jax_path}/var"))


_BLOCK = (
    *(rule for i in (1, 2, 3) for rule in (
        Rule(f"conv{i}.weight", f"conv{i}/kernel", CONV2D),
        *_norm(f"bn{i}", f"norm{i}"))),
    Rule("downsample.0.weight", "down_conv/kernel", CONV2D),
    *_norm("downsample.1", "down_norm"),
)

# The classifier, and the number of batches that the statistics come from.
UNUSED = (r"fc\..*", r".*\.num_batches_tracked")


def rules(num_stages: int) -> mapping.Rules:
  """Of a tower of so many stages."""
  return (
      Rule("conv1.weight", "conv1/kernel", CONV2D),
      *_norm("bn1", "norm1"),
      *(rule for i in range(num_stages) for rule in mapping.under(
          f"layer{i + 1}.{{i}}.", f"stage{i}_block{{i}}/", _BLOCK)))
