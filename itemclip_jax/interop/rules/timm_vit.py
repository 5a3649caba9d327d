"""timm's ViT trained on ImageNet <-> `models.vit.Vit` of family "imagenet".

Reference: Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929.
"""

from itemclip_jax.interop import mapping
from itemclip_jax.interop.mapping import LEADING, Layout, Rule
from itemclip_jax.interop.rules import hlip

# The classifier, and the layer before it of the older ones.
UNUSED = (r"head\..*", r"pre_logits\..*")


def rules(patch: tuple[int, int, int]) -> mapping.Rules:
  """Of a tower with patches of (3, h, w)."""
  return (
      Rule("cls_token", "cls_token", Layout(lambda s: (1, 1, *s))),
      Rule("pos_embed", "position/embedding", LEADING),
      *mapping.dense("patch_embed.proj", "patch", mapping.convolution(*patch)),
      *hlip.TIMM)
