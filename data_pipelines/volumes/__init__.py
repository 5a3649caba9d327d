"""Reading raw volumes: files -> voxels with a trusted affine."""
