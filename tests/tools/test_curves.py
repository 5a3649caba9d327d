"""Training curves show every number of metrics.jsonl where it belongs."""

import numpy as np
import pytest

from itemclip_jax.tools import curves
from tests.tools import report_run


@pytest.fixture(name="path")
def _path(tmp_path):
  return report_run.make_run(tmp_path / "run") / "metrics.jsonl"


def test_metrics_are_read_by_name_with_gaps(path):
  series = curves.read_metrics(path)
  steps, values = series["logit/positive"]
  np.testing.assert_array_equal(steps, range(60))
  assert np.isnan(values[:9]).all() and (values[9:] == 0.7).all()
  path.write_text('{"step": 1}\nnot json\n')
  with pytest.raises(ValueError, match="line 2"):
    curves.read_metrics(path)


def test_running_mean_by_hand():
  got = curves.running_mean(np.array([1.0, np.nan, 3.0, 8.0]), 1)
  np.testing.assert_allclose(got, [1.0, 2.0, 5.5, 5.5])


def test_curves_group_what_belongs_together(path):
  figure = curves.training_curves(curves.read_metrics(path))
  assert [a.get_title(loc="left") for a in figure.axes] == [
      "Total loss", "Loss terms", "Logits", "Logit scale and bias"]
