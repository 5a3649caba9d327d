"""`jit` for programs that run once: compiled quickly instead of well.

With XLA's usual options compiling would take nine tenths of the tests' time.
"""

import functools

import jax

OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,   # alone a factor of three
}

jit = functools.partial(jax.jit, compiler_options=OPTIONS)
