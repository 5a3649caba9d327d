"""The page: its numbers, what it shows, and that it needs nothing else."""

import html.parser
import json
import pathlib

import pytest

from data_pipelines.errors import PrepareError
from data_pipelines.itemize import audit as audit_lib
from data_pipelines.itemize import run
from data_pipelines.itemize.audit import Agreement, audit, segments
from data_pipelines.itemize.contract import Dropped, Item, Record, Result
from data_pipelines.itemize.contract import Source, Triplet

TEXT = "There is a 5 mm nodule. <b>No effusion is seen.</b> A large cyst."
NODULE, EFFUSION, CYST = (0, 23), (24, 44), (45, 58)   # once it is clean


def _record(n: int, text="Nodule seen. No effusion. Large cyst.") -> Record:
  return Record(f"r{n}", {"findings": text})


def _result(record: Record, *spans, backend="rules", recipe="ctrate_abnormal",
            **values) -> Result:
  text = record.sections["findings"]
  items = tuple(Item(text[a:b], (Source("findings", a, b),))
                for a, b in spans)
  return Result(id=record.id, recipe=recipe, recipe_version="1",
                backend=backend, raw_hash=record.raw_hash(),
                items=values.pop("items", items), **values)


def _write(path: pathlib.Path, values) -> pathlib.Path:
  path.write_text("".join(f"{json.dumps(v.to_json())}\n" for v in values))
  return path


SENTENCES = ((0, 12), (13, 25), (26, 37))


def _files(tmp_path, first, second=()):
  """first, second: for every record the spans of its items."""
  records = [_record(n) for n in range(len(first))]
  return (_write(tmp_path / "x.jsonl", records),
          _write(tmp_path / "y.jsonl", [_result(r, *spans) for r, spans in
                                        zip(records, first)]),
          _write(tmp_path / "z.jsonl", [
              _result(r, *spans, backend="chat:m")
              for r, spans in zip(records, second)]))


class Page(html.parser.HTMLParser):
  """Text and links of a page; raises where tags do not match."""
  VOID = {"meta", "img"}

  def __init__(self, text: str):
    super().__init__()
    self.open, self.links, self.marks, self.said = [], [], [], []
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.links += [v for k, v in attrs if k in ("src", "href")]
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] == "mark":
      self.marks.append(data)
    if "style" not in self.open:
      self.said.append(data)

  @property
  def text(self):
    return " ".join(" ".join(self.said).split())


def _page(out):
  return Page(out.read_text(encoding="utf-8"))


def test_one_page_with_marked_sources_and_nothing_from_elsewhere(tmp_path):
  x, y, _ = _files(tmp_path, [[SENTENCES[0], SENTENCES[2]]] * 3)
  out = tmp_path / "page.html"
  report = audit(y, out, source=x)
  page = _page(out)
  assert page.links and all(l.startswith("data:image/png") for l in page.links)
  assert page.marks == ["Nodule seen.", "Large cyst."] * 3
  assert "must stay in the house" in page.text
  assert "Passes: all limits are kept." in page.text
  assert report["records"] == 3 and report["items"] == 6
  assert json.loads((tmp_path / "page.html.json").read_text()) == json.loads(
      json.dumps(report))
  assert "cyst" not in (tmp_path / "page.html.json").read_text()


def test_text_of_reports_cannot_become_markup(tmp_path):
  evil = _record(0, "<script>alert(1)</script> & {{ 7 * 7 }}")
  y = _write(tmp_path / "y.jsonl", [_result(
      evil, items=(Item("<script>x</script>"),),
      dropped=(Dropped("<img src=x>", "normal"),),
      warnings=("<b>odd</b>",))])
  out = tmp_path / "page.html"
  audit(y, out)
  text = out.read_text()
  assert "<script" not in text and "<img src=x" not in text
  assert "&lt;script&gt;x" in text and "<b>odd" not in text


def test_the_input_is_where_the_run_found_it(tmp_path):
  x, y = tmp_path / "x.jsonl", tmp_path / "y.jsonl"
  x.write_text(json.dumps({"id": "a", "sections": {"findings": TEXT}}) + "\n")
  run.run(x, y, run.Plan("ctrate_abnormal"))
  audit(y, tmp_path / "p.html")
  marks = _page(tmp_path / "p.html").marks
  assert marks and "5 mm nodule" in marks[0]
  x.unlink()
  audit(y, tmp_path / "p.html")
  page = _page(tmp_path / "p.html")
  assert not page.marks and "name it by --in" in page.text


def test_the_sample_is_drawn_by_its_seed(tmp_path):
  records = [_record(n) for n in range(40)]
  y = _write(tmp_path / "y.jsonl", [_result(r, SENTENCES[0]) for r in records])

  def drawn(**options):
    audit(y, tmp_path / "p.html", num_drawn=5, **options)
    text = _page(tmp_path / "p.html").text
    return [r.id for r in records if f" {r.id} " in text]

  assert len(drawn()) == 5 and drawn() == drawn(seed=0) != drawn(seed=1)
  assert drawn(seed=1) != [f"r{n}" for n in range(5)]


def test_agreement_is_by_hand(tmp_path):
  """Of 12 sentences 4 kept by both, 2 and 1 by one, 5 by neither."""
  a, b, c = SENTENCES
  x, y, z = _files(tmp_path, [[a], [a, c], [a, c], [a]],
                   [[a, b], [a], [a], [a]])
  report = audit(y, tmp_path / "p.html", source=x, against=z)
  found = report["agreement"]
  assert (found["both"], found["first"], found["second"],
          found["neither"]) == (4, 2, 1, 5)
  assert found["share"] == 9 / 12
  chance = (6 * 5 + 6 * 7) / 144
  assert found["kappa"] == pytest.approx((0.75 - chance) / (1 - chance))
  assert report["other_backend"] == "chat:m"
  page = _page(tmp_path / "p.html")
  assert "rules and chat:m" in page.text and "0.50" in page.text


def test_kappa_at_its_ends():
  same = Agreement(both=3, neither=4).to_json()
  assert same["kappa"] == 1.0
  assert Agreement(first=2, second=2).to_json()["kappa"] == -1.0
  assert Agreement(both=5).to_json()["kappa"] is None   # nothing to tell apart
  assert Agreement().to_json()["share"] is None


def test_records_whose_items_have_no_source_are_not_compared(tmp_path):
  records = [_record(0), _record(1), _record(2)]
  x = _write(tmp_path / "x.jsonl", records)
  y = _write(tmp_path / "y.jsonl", [_result(r, SENTENCES[0]) for r in records])
  z = _write(tmp_path / "z.jsonl", [
      _result(records[0], SENTENCES[0]),
      _result(records[1], items=(Item("A nodule."),)),
      _result(records[2], items=(Item("no significant abnormalities"),),
              normal=True)])
  found = audit(y, tmp_path / "p.html", source=x, against=z)["agreement"]
  assert found["skipped"] == 1 and found["sentences"] == 6
  assert found["both"] == 1 and found["first"] == 1


def test_limits_and_reasons_are_shown(tmp_path):
  gone = (Dropped("A.", "unsupported"), Dropped("B.", "duplicate"))
  y = _write(tmp_path / "y.jsonl", [
      _result(_record(0), SENTENCES[0], dropped=gone, warnings=("missing:2",)),
      _result(_record(1), SENTENCES[0], warnings=("fallback",))])
  report = audit(y, tmp_path / "p.html")
  assert len(report["faults"]) == 2
  assert report["unsupported_share"] == 1 / 3
  assert report["parse_failure_share"] == 1 / 2
  assert report["missing_share"] == 2 / 4
  text = _page(tmp_path / "p.html").text
  assert "Fails: 2 limits exceeded." in text
  assert "what another item says" in text and "made by rules" in text
  assert not audit(y, tmp_path / "p.html", max_unsupported=0.4,
                   max_parse_failures=0.6)["faults"]


def test_triplets_and_anatomies_are_shown(tmp_path):
  record = _record(0)
  x = _write(tmp_path / "x.jsonl", [record])
  triplets = (Triplet("mild", None, "nodule", True, Source("findings", 0, 12)),)
  audit(_write(tmp_path / "y.jsonl", [
      _result(record, recipe="triplet", triplets=triplets)]),
        tmp_path / "p.html", source=x)
  page = _page(tmp_path / "p.html")
  assert page.marks == ["Nodule seen."] and "no nodule" in page.text
  audit(_write(tmp_path / "y.jsonl", [_result(
      record, recipe="anatomy",
      anatomies={"lung": {"text": "Nodule.", "normal": False}})]),
        tmp_path / "p.html", source=x)
  assert "lung : Nodule." in _page(tmp_path / "p.html").text


def test_what_does_not_belong_together_is_refused(tmp_path):
  x, y, z = _files(tmp_path, [[SENTENCES[0]]] * 3, [[SENTENCES[0]]] * 3)
  out = tmp_path / "p.html"
  with pytest.raises(PrepareError, match="name it by --in"):
    audit(y, out, against=z)
  other = _write(tmp_path / "other", [_record(n, "Else.") for n in range(3)])
  with pytest.raises(PrepareError, match="not made from this input: line 1"):
    audit(y, out, source=other)
  short = _write(tmp_path / "short", [_record(0)])
  with pytest.raises(PrepareError, match="has fewer records"):
    audit(y, out, source=short)
  _write(z, [_result(_record(n), recipe="summary_list") for n in range(3)])
  with pytest.raises(PrepareError, match="another input, or by another recipe"):
    audit(y, out, source=x, against=z)
  y.write_text("")
  with pytest.raises(PrepareError, match="holds no result"):
    audit(y, out)
  assert not out.exists()


@pytest.mark.parametrize("spans, want", [
    ([], [("abcdef", ())]),
    ([(0, 6, 1)], [("abcdef", (1,))]),
    ([(1, 3, 1)], [("a", ()), ("bc", (1,)), ("def", ())]),
    ([(1, 4, 1), (2, 6, 2)],
     [("a", ()), ("b", (1,)), ("cd", (1, 2)), ("ef", (2,))]),
    ([(2, 99, 3)], [("ab", ()), ("cdef", (3,))])])
def test_segments(spans, want):
  spans = [(Source("text", a, b), n) for a, b, n in spans]
  assert segments("abcdef", spans) == want


def test_drawing_more_than_there_is_draws_all(tmp_path):
  y = _write(tmp_path / "y.jsonl", [_result(_record(0), SENTENCES[0])])
  audit(y, tmp_path / "p.html", num_drawn=audit_lib.NUM_DRAWN)
  assert "1 record to read" in _page(tmp_path / "p.html").text
