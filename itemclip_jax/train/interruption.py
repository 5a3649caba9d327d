"""Notices that the run is to end soon: SIGTERM, or Ctrl-C.

Job schedulers send SIGTERM some seconds before they kill, and whenever a
machine is taken back. Where several processes train together, one of them may
be told alone; JAX's preemption service then agrees on the step at which all of
them save.
"""

import signal
import threading

import jax
from jax.experimental import multihost_utils

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: start the same command again


class Interrupted(Exception):
  """The run was asked to end, and saved before it did."""


class Interruption:
  """A context manager that turns the first signal into an answer.

  A second Ctrl-C ends the process at once.
  """
  _SIGNALS = (signal.SIGTERM, signal.SIGINT)

  def __init__(self):
    self._asked = False
    self._before = {}

  def __enter__(self) -> "Interruption":
    # With several processes JAX itself listens to SIGTERM. Python lets no other
    # thread than the main one listen.
    main = threading.current_thread() is threading.main_thread()
    if main and jax.process_count() == 1:
      self._before = {s: signal.signal(s, self._note) for s in self._SIGNALS}
    return self

  def __exit__(self, *error):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _note(self, number, frame):
    del number, frame
    self._asked = True
    signal.signal(signal.SIGINT, signal.default_int_handler)

  def asked(self, step: int) -> bool:
    """True from the step on at which all processes should save and end.

    Every process must ask at every step.
    """
    if jax.process_count() == 1:
      return self._asked
    return multihost_utils.reached_preemption_sync_point(step)
