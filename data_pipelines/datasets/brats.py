"""BraTS: brain tumours in four skull-stripped series, outlined voxel by voxel.

    <root>/<case>/<case>-t1n.nii.gz   -t1c, -t2w, -t2f likewise
    <root>/<case>/<case>-seg.nii.gz   optional: 0, or the part of the tumour

Cases are called BraTS-<tumour>-<patient>-<visit>. Everything is one split,
`test`: the published use is zero-shot segmentation, where the attention of one
text ("Glioma.") on FLAIR (t2f) is compared with the whole tumour. So a study
has this one item, whose mask is all parts together, and which FLAIR shows.

Published use: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, supplement.
"""

import dataclasses
import pathlib
from typing import Any

from data_pipelines import mri
from data_pipelines.errors import PrepareError
from data_pipelines.parallel import Workers
from data_pipelines.volumes import study as study_lib
from itemclip_jax.data import record

SERIES = ("t1n", "t1c", "t2w", "t2f")
FLAIR = "AX_t2f"
_SEG = "seg"
_ENDINGS = (".nii.gz", ".nii")
_VALUES = list(range(1, 256))    # every part of the tumour, in all releases

# The second part of a case's name -> what it has. All others (GLI, PED, SSA,
# and cases of 2021, which have no such part) have a glioma.
_TUMOURS = {"MEN": "Meningioma", "MET": "Metastasis"}
_OTHER = "Glioma"
TUMOURS = (_OTHER, *_TUMOURS.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset(mri.Dataset):
  """Options of the build."""

  def bytes_needed(self) -> int:
    return len(_cases(self.fetch(None, None))) * self.record_bytes(
        len(SERIES), True)

  def contract(self) -> record.Contract:
    return self.mri_contract(tensors=False)

  def findings(self, raw: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Those that the archive has: no score without a positive."""
    found = {_tumour(case) for case in _cases(raw)}
    return {tumour: {"prompts": [f"{tumour}."], "label": tumour}
            for tumour in TUMOURS if tumour in found}

  def builder(self, raw, out, workers: Workers, log: mri.Log) -> mri.Studies:
    columns = tuple(self.findings(raw))
    jobs = [_job(raw.absolute(), case, columns, self.grid())
            for case in _cases(raw)]
    return mri.builder({"test": jobs}, out, workers, log)


def _cases(root: pathlib.Path) -> list[str]:
  cases = sorted(p.name for p in root.iterdir()
                 if p.is_dir() and not p.name.startswith("."))
  if not cases:
    raise PrepareError(f"{root} holds no folder <case>; give the folder of the "
                       "cases as --source.")
  return cases


def _tumour(case: str) -> str:
  return _TUMOURS.get(case.split("-")[1] if "-" in case else "", _OTHER)


def _job(root: pathlib.Path, case: str, columns: tuple[str, ...],
         grid) -> study_lib.Job:
  tumour = _tumour(case)
  seg = _file(root, case, _SEG)
  outlined = (root / seg).is_file()
  lesions = [{"item": 0, "finding": tumour, "series": [FLAIR],
              "values": _VALUES}] if outlined else []
  return study_lib.Job(
      root=root, split="test", study=case, study_id=case,
      patient_id=case.rpartition("-")[0] or case,  # without the visit
      entry={"report": [f"{tumour}."],
             "labels": {c: int(c == tumour) for c in columns},
             "lesions": lesions},
      columns=columns, grid=grid,
      files=tuple((f"AX_{s}", _file(root, case, s)) for s in SERIES),
      lesion_map=seg)


def _file(root: pathlib.Path, case: str, kind: str) -> str:
  """Its path below root; where there is none, the one that is missing."""
  names = [f"{case}/{case}-{kind}{ending}" for ending in _ENDINGS]
  return next((n for n in names if (root / n).is_file()), names[0])
