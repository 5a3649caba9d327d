"""The pages in a real browser: every picture drawn, nothing asked for.

Skipped where there is no Chromium; the checks of the text run always.
"""

import pytest

from data_pipelines import verify
from itemclip_jax.tools import report
from tests.tools import pages
from tests.tools import report_run
from tests.tools import test_explain_files

pytestmark = pytest.mark.skipif(
    pages.browser() is None,
    reason=f"no browser is installed (looked for {', '.join(pages.BROWSERS)})")


def _require_fine(path, folder, *, width=1200):
  sizes = pages.check(path)
  seen = pages.look(path, folder, width=width)
  assert len(seen.images) == len(sizes) and all(w > 0 for w in seen.images)
  assert seen.requests == seen.failed == seen.console == []
  assert seen.overflow <= 0
  return sizes


@pytest.fixture(name="built", scope="module")
def _built(tmp_path_factory):
  folder = tmp_path_factory.mktemp("browser")
  return report.build(report_run.make_run(folder / "run"))


@pytest.mark.parametrize("width", [1200, 500])
def test_the_report(built, tmp_path, width):
  sizes = _require_fine(built, tmp_path, width=width)
  assert len(sizes) == report_run.NUM_IMAGES


def test_an_explanation(tmp_path):
  # pylint: disable=protected-access
  made_up = test_explain_files._made_up()
  test_explain_files._written(tmp_path, made_up, (0, 1, 1, 1))
  _require_fine(tmp_path / "index.html", tmp_path)


def test_an_audit(tiny_set, tmp_path):
  verify.audit(tiny_set, tmp_path, num_drawn=1)
  _require_fine(tmp_path / "verify.html", tmp_path)


def test_a_bad_page_is_seen_to_be_bad(tmp_path):
  bad = tmp_path / "bad.html"
  bad.write_text("<!doctype html><html><head></head><body>"
                 "<img src='http://127.0.0.1:9/x.png' alt=''>"
                 "<script>nothing()</script>"
                 "<div style='width: 3000px'>wide</div></body></html>")
  seen = pages.look(bad, tmp_path)
  assert seen.images == [0] and seen.overflow > 1000
  assert seen.requests == ["http://127.0.0.1:9/x.png"]
  assert len(seen.failed) == 2 and seen.console
