"""Flax modules. House legend, used in every comment and einsum:

B studies - S series per study - D H W voxels - d h w token grid - N image
tokens - K item slots - J candidates of one image - T tokens per item - E joint
width - C tower width - A heads - F = width / A.
"""
