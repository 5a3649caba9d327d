"""Small programs in the compiler's words, to be counted by hand."""

LOOP = """HloModule jit_step, is_scheduled=true

%doubled (p.1: bf16[8,128]) -> bf16[8,128] {
  %p.1 = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %twice = bf16[8,128]{1,0:T(8,128)(2,1)} add(%p.1, %p.1), backend_config={"window_config":{"estimated_cycles":"999"}}
}

%multiplied (p.2: bf16[8,128], p.3: bf16[128,128]) -> bf16[8,128] {
  %p.2 = bf16[8,128]{1,0} parameter(0)
  %p.3 = bf16[128,128]{1,0} parameter(1)
  ROOT %product = bf16[8,128]{1,0} convolution(%p.2, %p.3), dim_labels=bf_io->bf
}

%body (carry: (s32[], bf16[8,128], bf16[128,128])) -> (s32[], bf16[8,128], bf16[128,128]) {
  %two = s32[] constant(2)
  %carry = (s32[], bf16[8,128]{1,0}, bf16[128,128]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%carry), index=0
  %i.copy = s32[] copy(%i)
  %next = s32[] add(%i.copy, %two)
  %x = bf16[8,128]{1,0} get-tuple-element(%carry), index=1
  %w = bf16[128,128]{1,0} get-tuple-element(%carry), index=2
  %y = bf16[8,128]{1,0} fusion(%x, %w), kind=kOutput, calls=%multiplied, metadata={op_name="jit(step)/jvp(M)/vision/block3/mlp/fc1/dot_general"}, backend_config={"window_config":{"estimated_cycles":"100"}}
  %sum = bf16[8,128]{1,0} all-reduce(%y), channel_id=1, to_apply=%adder, metadata={op_name="jit(step)/jvp(M)/vision/block3/mlp/add"}
  ROOT %out = (s32[], bf16[8,128]{1,0}, bf16[128,128]{1,0}) tuple(%next, %sum, %w)
}

%condition (c: (s32[], bf16[8,128], bf16[128,128])) -> pred[] {
  %limit = s32[] constant(7)
  %c = (s32[], bf16[8,128]{1,0}, bf16[128,128]{1,0}) parameter(0)
  %j = s32[] get-tuple-element(%c), index=0
  ROOT %less = pred[] compare(%j, %limit), direction=LT
}

%adder (a: bf16[], b: bf16[]) -> bf16[] {
  %a = bf16[] parameter(0)
  %b = bf16[] parameter(1)
  ROOT %added = bf16[] add(%a, %b), backend_config={"window_config":{"estimated_cycles":"5"}}
}

ENTRY %main (arg.0: bf16[8,128], arg.1: bf16[128,128]) -> bf16[8,128] {
  %arg.0 = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %arg.1 = bf16[128,128]{1,0} parameter(1)
  %one = s32[] constant(1)
  %first = bf16[8,128]{1,0} fusion(%arg.0), kind=kLoop, calls=%doubled, metadata={op_name="jit(step)/standardise/mul"}, backend_config={"window_config":{"estimated_cycles":"30"}}
  %start = (s32[], bf16[8,128]{1,0}, bf16[128,128]{1,0}) tuple(%one, %first, %arg.1)
  %loop = (s32[], bf16[8,128]{1,0}, bf16[128,128]{1,0}) while(%start), condition=%condition, body=%body
  ROOT %result = bf16[8,128]{1,0} get-tuple-element(%loop), index=1
}
"""


def program(*lines: str, parameters: str = "", more: str = "") -> str:
  """A program of one computation, and others before it."""
  body = "\n".join(f"  {line}" for line in lines)
  return (f"HloModule m, is_scheduled=true\n\n{more}\nENTRY %main "
          f"({parameters}) -> f32[] {{\n{body}\n}}\n")
