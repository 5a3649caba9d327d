"""The compiler's text of a step -> what it costs, in numbers and in words."""

from itemclip_jax.config import schema
from itemclip_jax.train.ahead import chips, parts
from itemclip_jax.train.ahead.schedule import Schedule

DERIVED = (
    "No chip ran this. Time is the compiler's estimated_cycles of every "
    "scheduled operation, times the turns of its loop, over the clock, plus "
    "every custom call at the larger of flops over peak and bytes over "
    "bandwidth; the chip's constants stand in train/ahead/chips.py. "
    "Collectives count nothing in it, as if all hid behind computation: "
    "collectives_ms is their bytes (twice for all-reduce) over the links of a "
    "chip. A loop of unknown_loops counts one turn.")


def of_text(text: str, config: schema.Config, topology: str,
            model_flops_per_device: int) -> dict:
  """What follows from the compiler's text.

  Args:
    text: of a scheduled program.
    config: whose step it is; names the level of a block's attention.
    topology: that it is compiled for.
    model_flops_per_device: of a step that recomputes nothing.
  """
  _, chip = chips.of(topology)
  steps = Schedule(text)
  calls, collectives = steps.custom_calls(chip), steps.collectives()
  flops = steps.product_flops + sum(c["flops"] for c in calls)
  seconds = steps.cycles / chip.clock + sum(c["seconds"] for c in calls)
  sent = sum(c["bytes"] * (2 if c["kind"] == "all-reduce" else 1)
             for c in collectives)
  return {
      "flops_per_device": flops,
      "model_flops_per_device": model_flops_per_device,
      "recompute_ratio": round(flops / model_flops_per_device, 4),
      "bytes_accessed": steps.bytes_accessed,
      "estimated_cycles": steps.cycles,
      "estimated_step_ms": round(1e3 * seconds, 3),
      "estimated_mfu": round(
          model_flops_per_device / (chip.peak * seconds), 4),
      "collectives_ms": round(1e3 * sent / chip.links, 3),
      "estimate": DERIVED,
      "unknown_loops": steps.unknown_loops,
      "custom_calls": calls,
      "collectives": collectives,
      "parts": parts.table(steps, config, chip),
      "scopes": parts.scopes(steps, chip)}


def in_words(found: dict) -> str:
  """The main numbers of `of_text`, and where the time goes."""
  lines = [
      f"estimated step {found['estimated_step_ms']:.1f} ms, "
      f"{found['estimated_mfu']:.1%} of the chip's peak; "
      f"{found['recompute_ratio']:.2f} x the model's flops; collectives "
      f"{found['collectives_ms']:.1f} ms if none were hidden",
      " share   forward     again  backward  part (milliseconds)"]
  lines += [f"{row['share']:6.1%} {row['forward']:9.2f} {row['again']:9.2f} "
            f"{row['backward']:9.2f}  {name}"
            for name, row in found["parts"].items()]
  return "\n".join(lines)
