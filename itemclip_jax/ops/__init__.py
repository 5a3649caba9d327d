"""Pure functions over projected arrays: attention and image-item pairs."""
