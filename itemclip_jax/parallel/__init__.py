"""Devices: the mesh, the two sharding tables, and several processes."""
