"""What is put before the language model, and before people, of every study."""

import dataclasses
import pathlib
from typing import Any, Literal, get_args

import jax
import numpy as np

import itemclip_jax
from data_pipelines.itemize.chat.options import Options
from itemclip_jax.data import example as example_lib
from itemclip_jax.data import record
from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import features, scoring
from itemclip_jax.parallel import multihost
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.tools.drafting import page, prompt, snippets, text_metrics
from itemclip_jax.train import loop
from itemclip_jax.train import trained as trained_lib

NOTE = ("A machine's draft for research. It is no report, nobody has checked "
        "it, and it is not for decisions about patients.")
NUM_EXAMPLES = 2   # of a prompt

Choice = Literal["nearest", "clusters"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What is retrieved and asked.

  Attributes:
    split: of the studies that drafts are made for.
    index_split: whose items are retrieved.
    neighbours: best texts that clusters are made of.
    snippets: of a prompt.
    choose: the best ("nearest", as the paper says), or one of each cluster of
      the neighbours ("clusters", as its code does). Theirs are whole reports;
      here they are single findings, of which the five nearest often say one
      thing five times, so the default is clusters. docs/draft.md has numbers.
    sentence_encoder: folder of one, for clusters and for the cosine of texts;
      "" = clusters of the model's own vectors, no cosine.
    system_turn: see `drafting.prompt`.
    seed: draws the studies of the examples, and resamples.
  """
  split: str = "test"
  index_split: str = "train"
  neighbours: int = 100
  snippets: int = 5
  choose: Choice = "clusters"
  sentence_encoder: str = ""
  system_turn: prompt.SystemTurn = "system"
  seed: int = 0

  def __post_init__(self):
    fewest = self.snippets if self.choose == "clusters" else 1
    if self.snippets < 1 or self.neighbours < fewest:
      raise UserError(
          f"--snippets={self.snippets} and --neighbours={self.neighbours}; "
          "want at least one snippet, and for clusters as many neighbours.")
    for name, allowed in (("choose", Choice),
                          ("system_turn", prompt.SystemTurn)):
      if getattr(self, name) not in get_args(allowed):
        raise UserError(f"--{name}={getattr(self, name)} is none of "
                        f"{', '.join(get_args(allowed))}.")


class Subject:
  """One model, the studies that it looks at, and the texts that it knows."""

  def __init__(self, model: pathlib.Path, data: pathlib.Path,
               out: pathlib.Path, plan: Plan, batch: int):
    self._plan, self._model, self._out = plan, model, out
    self._index = snippets.read(data, plan.index_split)
    self._trained = trained = trained_lib.load(model, make_mesh())
    trained.contract.require_same(record.read_contract(data), here="the model",
                                  there=str(data))
    self._config = config = dataclasses.replace(
        trained.config,
        data=dataclasses.replace(trained.config.data, root=str(data)))
    self._make_example = example_lib.MakeExample(
        config, trained.tokenizer, air=trained.contract.air)
    self._digest = loop.digest(trained.params)
    size = trained.mesh.size
    with jax.set_mesh(trained.mesh):
      self._studies = features.encode(
          plan.split, self._make_example, trained.encoder, trained.params,
          trained.mesh, folder=out / "features" / self._digest[:16],
          batch=-(-batch // size) * size, what=f"split {plan.split}")
    self._vectors = _unit(scoring.Scorer(
        trained.encoder, trained.params, trained.tokenizer, trained.mesh,
        grid=config.vision.grid).texts(self._index.texts))

  def lines(self) -> list[dict[str, Any]]:
    """Lines of drafts.jsonl, without drafts.

    Raises:
      UserError: all texts of the index are of one patient who is asked about.
    """
    studies = self._studies
    # One more than a prompt shows: one may be of the patient asked about.
    rows = snippets.example_rows(self._index, NUM_EXAMPLES + 1,
                                 self._plan.seed)
    patients = [*studies.patient_id, *self._index.patient_id[rows]]
    images = np.concatenate([studies.image, self._images(rows)])
    found = self._retrieved(_unit(images), patients)
    lacking = [len(which) for which, _ in found[:len(studies)]]
    if not min(lacking):
      raise UserError(
          f"Split {self._plan.index_split!r} has no text of another patient "
          f"than that of study {studies.study_id[np.argmin(lacking)]!r}, so "
          "nothing can be retrieved for it; name another --index_split.")
    if min(lacking) < self._plan.snippets:
      print(f"Some studies have {min(lacking)} snippets, not "
            f"{self._plan.snippets}: there are no more.")
    texts = [[self._index.texts[t] for t in which] for which, _ in found]
    examples = [
        prompt.Example(str(self._index.patient_id[row]), tuple(shown),
                       prompt.joined(self._index.reports[row]))
        for row, shown in zip(rows, texts[len(studies):]) if shown]
    return [self._line(n, texts[n], found[n][1], examples)
            for n in range(len(studies))]

  def _line(self, row: int, texts: list[str], cosine: np.ndarray,
            examples: list[prompt.Example]) -> dict[str, Any]:
    patient = str(self._studies.patient_id[row])
    others = [e for e in examples if e.patient != patient][:NUM_EXAMPLES]
    return {
        "study_id": str(self._studies.study_id[row]), "patient_id": patient,
        "note": NOTE,
        "snippets": [{"text": t, "cosine": float(c)}
                     for t, c in zip(texts, cosine, strict=True)],
        "messages": prompt.messages(prompt.template(), others, texts,
                                    system_turn=self._plan.system_turn),
        "draft": None, "trouble": "", "joined_snippets": prompt.joined(texts),
        "report": prompt.joined(self._studies.items(row))}

  def _retrieved(self, images: np.ndarray, patients
                 ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Numbers of texts and their cosines, of every image."""
    plan, index = self._plan, self._index
    most = plan.neighbours if plan.choose == "clusters" else plan.snippets
    found = [snippets.neighbours(index, self._vectors, image, patient, most)
             for image, patient in zip(images, patients, strict=True)]
    if plan.choose == "nearest":
      return found
    near = np.unique(np.concatenate([which for which, _ in found]))
    vectors = text_metrics.sentence_vectors(
        [index.texts[t] for t in near], plan.sentence_encoder,
        self._out / "sentences")
    chosen = []
    for which, cosine in found:
      points = self._vectors[which] if vectors is None else np.stack(
          [vectors(index.texts[t]) for t in which] or [np.zeros(1)])
      kept = (snippets.representatives(points, plan.snippets)
              if len(which) else slice(0))
      chosen.append((which[kept], cosine[kept]))
    return chosen

  def _images(self, rows: list[int]) -> np.ndarray:
    """[n, E] global vectors of studies of the index split."""
    trained = self._trained
    split = record.open_split(self._config.data.root, self._plan.index_split,
                              ground_truth=False)
    out = []
    for row in rows:
      series = min(int(split.index["num_series"][row]),
                   self._config.data.max_series)
      example = self._make_example(split.study(row), series)
      # Every device has a copy.
      inputs = multihost.to_global(
          {k: np.repeat(example[k][None], trained.mesh.size, axis=0)
           for k in ("volume", "series_mask", "series_names")}, trained.mesh)
      with jax.set_mesh(trained.mesh):
        out.append(multihost.to_host(trained.encoder.features(
            trained.params, inputs["volume"], inputs["series_mask"],
            inputs["series_names"]).image)[0])
    return np.stack(out).astype(np.float32)

  def shown(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of the page, with pictures."""
    return [lines[n] | {"png": page.picture(self._studies.example(n),
                                            self._trained.contract)}
            for n in page.chosen(len(lines))]

  def about(self, options: Options | None) -> dict[str, Any]:
    """What the numbers are of."""
    config, words = self._config, prompt.template()
    return {
        "note": NOTE, "software": f"itemclip_jax {itemclip_jax.__version__}",
        "checkpoint": {"folder": str(self._model), "step": self._trained.step,
                       "params_sha256": self._digest},
        "data": {"root": config.data.root, "dataset": config.data.dataset,
                 "split": self._plan.split, "studies": len(self._studies),
                 "sha256": self._studies.sha256},
        "plan": dataclasses.asdict(self._plan),
        "index_texts": len(self._index.texts),
        "prompt": {"version": words.version, "sha256": words.digest},
        "chat": options and {"model": options.model, **options.parameters()},
        "text_metrics": text_metrics.signatures()}


def _unit(vectors: np.ndarray) -> np.ndarray:
  return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
