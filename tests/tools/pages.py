"""Checks of a finished page: on its text, and in a real browser."""

import base64
import dataclasses
import html
from html import parser
import io
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_PNG = "data:image/png;base64,"

# Runs before anything else on a copy of the page; what it saw is the text of an
# element that --dump-dom prints.
_PROBE = """<script>
const failed = [];
addEventListener("error", e => failed.push(
    String(e.message || e.target.src || e.target.href)), true);
addEventListener("load", () => {
  const found = document.createElement("pre");
  found.id = "probe";
  found.textContent = JSON.stringify({
    images: [...document.images].map(i => i.naturalWidth && i.clientWidth),
    requests: performance.getEntriesByType("resource").map(e => e.name),
    failed: failed,
    overflow: document.documentElement.scrollWidth - innerWidth});
  document.body.append(found);
});
</script>"""


@dataclasses.dataclass(frozen=True)
class Seen:
  """What a browser made of a page.

  Attributes:
    images: width in pixels that each <img> has on the page, 0 = not drawn.
    requests: what was asked for beside the page itself.
    failed: errors that the page met.
    overflow: pixels that the page is wider than the window.
    console: messages of the browser's console.
  """
  images: list[int]
  requests: list[str]
  failed: list[str]
  overflow: int
  console: list[str]


def browser() -> str | None:
  """The first browser that is installed."""
  return next(filter(None, map(shutil.which, BROWSERS)), None)


def look(path: pathlib.Path, folder: pathlib.Path, *, width=1200) -> Seen:
  """Opens a copy of the page in a browser without a window."""
  copy = folder / "probed.html"
  text = path.read_text(encoding="utf-8")
  assert text.count("<head>") == 1
  copy.write_text(text.replace("<head>", "<head>" + _PROBE), encoding="utf-8")
  done = subprocess.run(
      [browser(), "--headless", "--no-sandbox", "--disable-gpu",
       "--disable-dev-shm-usage", "--enable-logging=stderr",
       "--host-resolver-rules=MAP * ~NOTFOUND", "--no-first-run",
       f"--user-data-dir={folder / 'profile'}", f"--window-size={width},2000",
       "--dump-dom", copy.resolve().as_uri()],
      capture_output=True, text=True, timeout=120, check=True)
  found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
  assert found, done.stderr[-2000:]
  return Seen(**json.loads(html.unescape(found[1])), console=[
      line for line in done.stderr.splitlines() if "CONSOLE" in line])


class _Tags(parser.HTMLParser):
  """All tags with their attributes, and all text between them."""

  def __init__(self):
    super().__init__()
    self.tags, self.texts, self._inside = [], [], []

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    self._inside.append(tag)

  def handle_endtag(self, tag):
    while self._inside and self._inside.pop() != tag:
      pass                             # <img>, <meta>, <br> have no end

  def handle_data(self, data):
    if not {"style", "pre"} & set(self._inside):
      self.texts.append(data)


def check(path: pathlib.Path) -> list[tuple[int, int]]:
  """Raises AssertionError unless the page stands alone and is whole.

  Returns:
    Width and height of its images.
  """
  text = path.read_text(encoding="utf-8")
  page = _Tags()
  page.feed(text)
  anchors = {a["id"] for _, a in page.tags if "id" in a}
  sizes = []
  for tag, attributes in page.tags:
    assert tag not in ("script", "link", "iframe", "object", "embed"), tag
    for name in ("href", "src", "srcset", "xlink:href", "action", "style"):
      value = attributes.get(name) or ""
      assert not re.match(r"\s*(https?:)?//", value), (tag, value[:80])
      assert "url(" not in value, (tag, value[:80])
    if (attributes.get("href") or "").startswith("#"):
      assert attributes["href"][1:] in anchors, attributes["href"]
    assert not [n for n in attributes if n.startswith("on")], attributes
    if tag == "img":
      assert attributes["src"].startswith(_PNG), attributes["src"][:80]
      assert len(attributes["alt"]) >= 20, attributes["alt"]
      sizes.append(_picture(attributes["src"].removeprefix(_PNG)))
  assert "url(" not in text and "@import" not in text
  for word in ("NaN", "nan", "None", "inf"):
    assert not [t for t in page.texts if re.search(rf"\b{word}\b", t)], word
  return sizes


def _picture(encoded: str) -> tuple[int, int]:
  """Size of a PNG that is whole and not of one colour."""
  picture = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
  pixels = np.asarray(picture.convert("RGB"))
  assert pixels.std() > 0, "a picture is empty"
  return picture.size
