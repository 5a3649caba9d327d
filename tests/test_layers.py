"""Imports point down the stack only, and the core stays light."""

import ast
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]

# Package of itemclip_jax -> packages that it may import besides itself.
ALLOWED = {
    "config": set(),
    "data": {"config"},
    "parallel": {"config"},
    "ops": {"parallel"},
    "losses": {"ops", "parallel"},
    "models": {"config", "ops", "parallel"},
    "objectives": {"config", "losses", "models", "ops"},
    "evaluators": {"config", "data", "models", "ops", "parallel"},
    "interop": {"config", "models"},
    "train": {"config", "data", "evaluators", "interop", "losses", "models",
              "objectives", "ops", "parallel"},
    "tools": {"config", "data", "evaluators", "interop", "losses", "models",
              "objectives", "ops", "parallel", "train"},
}

# Folder outside of it -> modules or packages of itemclip_jax it may import.
OUTSIDE = {
    "configs": ("itemclip_jax.config",),
    "data_pipelines": ("itemclip_jax.data.record", "itemclip_jax.data.volume",
                       "itemclip_jax.data.items", "itemclip_jax.data.image",
                       "itemclip_jax.data.series_name"),
}

ACCELERATED = {"jax", "jaxlib", "flax", "optax", "orbax", "chex"}

LOAD_EVERYTHING = """
import importlib, pkgutil, sys
import itemclip_jax
heavy = {"jax", "numpy"} & set(sys.modules)
assert not heavy, f"importing itemclip_jax alone loads {heavy}"
names = [m.name for m in pkgutil.walk_packages(
    itemclip_jax.__path__, "itemclip_jax.")]
for name in names:
  importlib.import_module(name)
print(len(names), sorted({"torch", "tensorflow"} & set(sys.modules)))
"""


def _is_module(name: str) -> bool:
  path = ROOT.joinpath(*name.split("."))
  return path.is_dir() or path.with_suffix(".py").is_file()


def _imports(path: pathlib.Path):
  """Dotted names of the modules that a file imports, anywhere in it."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (a.name for a in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path}: relative imports hide the layer"
      for alias in node.names:
        inner = f"{node.module}.{alias.name}"
        yield inner if _is_module(inner) else node.module


def _files(folder: str):
  return [(p, p.relative_to(ROOT)) for p in (ROOT / folder).rglob("*.py")]


def _below(name: str, allowed: tuple[str, ...]) -> bool:
  return any(name == a or name.startswith(a + ".") for a in allowed)


def test_every_package_has_its_place_in_the_stack():
  have = {p.parent.name for p in (ROOT / "itemclip_jax").glob("*/__init__.py")}
  assert have == set(ALLOWED)


def test_imports_point_down():
  bad = []
  for path, short in _files("itemclip_jax"):
    package = short.parts[1] if len(short.parts) > 2 else None
    for name in _imports(path):
      parts = name.split(".")
      above = {"tests", "configs", "data_pipelines"}
      if package == "tools":  # a raw study is read as `prepare` reads it
        above -= {"data_pipelines"}
      if parts[0] in above:
        bad.append(f"{short} imports {name}")
      if package and parts[0] == "itemclip_jax" and len(parts) > 1 and (
          parts[1] not in ALLOWED[package] | {package, "errors"}):
        bad.append(f"{short} imports {name}")
  assert not bad, "\n".join(bad)


def test_outside_folders_use_their_part_of_the_core_only():
  bad = [f"{short} imports {name}"
         for folder, allowed in OUTSIDE.items()
         for path, short in _files(folder) for name in _imports(path)
         if name.startswith("itemclip_jax") and not _below(name, allowed)]
  assert not bad, "\n".join(bad)


def test_data_and_config_know_no_accelerator():
  bad = [f"{short} imports {name}"
         for package in ("config", "data")
         for path, short in _files(f"itemclip_jax/{package}")
         for name in _imports(path) if name.split(".")[0] in ACCELERATED]
  assert not bad, "\n".join(bad)


def test_only_the_mesh_module_makes_a_mesh():
  makers = {str(short) for path, short in _files("itemclip_jax")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
            and getattr(node.func, "attr", "") == "make_mesh"
            and getattr(node.func.value, "id", "") == "jax"}
  assert makers == {"itemclip_jax/parallel/mesh.py"}


def test_importing_everything_loads_neither_torch_nor_tensorflow():
  done = subprocess.run([sys.executable, "-c", LOAD_EVERYTHING], cwd=ROOT,
                        capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  count, loaded = done.stdout.split(maxsplit=1)
  assert int(count) > 30 and loaded.strip() == "[]"
