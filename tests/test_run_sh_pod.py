"""`./run.sh pod`: what it prints, and what it does with a gcloud that is fake.

The fake one runs what would run on the hosts of a slice in a folder each; the
checkout that is copied there holds a run.sh that only notes what it is asked.
"""

import os
import pathlib
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SLICE = ("slice-4", "us-west4-a")
SHIPPED = ("setup.py", "pyproject.toml", "constraints.txt", "README.md",
           "LICENSE", "configs", "data_pipelines", "itemclip_jax")

GCLOUD = """
import os, pathlib, subprocess, sys
home = pathlib.Path(os.environ["SLICE"])
with open(home / "calls", "a") as calls:
  calls.write(repr(sys.argv[1:]) + "\\n")
*_, kind = sys.argv[1:5]
hosts = [home / "host0", home / "host1"]
if kind == "scp":
  for host in hosts:
    name = sys.argv[6].partition(":")[2]
    (host / name).write_bytes(pathlib.Path(sys.argv[5]).read_bytes())
else:
  command = sys.argv[-1].removeprefix("--command=")
  sys.exit(max([subprocess.run(["bash", "-c", command], cwd=host).returncode
                for host in hosts]))
"""

HOST = """
echo "${ITEMCLIP_EXTRAS:-none}" >> asked
printf '<%s>' "$@" >> asked
echo >> asked
echo "step 1 of $1"
exit "${ENDS:-0}"
"""


def _script(path: pathlib.Path, text: str):
  path.write_text(text)
  path.chmod(0o755)


@pytest.fixture(name="pod")
def _pod(tmp_path):
  """Runs `pod` in a small checkout whose slice has two hosts."""
  tools, checkout = tmp_path / "tools", tmp_path / "checkout"
  for folder in (tools, checkout, tmp_path / "host0", tmp_path / "host1"):
    folder.mkdir()
  _script(tools / "gcloud", f"#!{sys.executable}\n{GCLOUD}")
  _script(tools / "pgrep", "#!/bin/sh\n[ -n \"$BUSY\" ]\n")
  _script(checkout / "pod.sh", (ROOT / "run.sh").read_text())
  _script(checkout / "run.sh", f"#!/usr/bin/env bash\n{HOST}")
  for name in SHIPPED:
    if (ROOT / name).is_dir():
      (checkout / name).mkdir()
      name += "/new.py"
    (checkout / name).write_text("new")

  def run(*arguments, **environment):
    return subprocess.run(
        ["bash", checkout / "pod.sh", "pod", *arguments], check=False,
        capture_output=True, text=True, timeout=60, env=os.environ | {
            "PATH": f"{tools}:{os.environ['PATH']}", "SLICE": str(tmp_path),
            "TMPDIR": str(tmp_path)} | environment)

  return run


def _asked(tmp_path, host: int) -> str:
  return (tmp_path / f"host{host}/itemclip_jax/asked").read_text()


def test_a_dry_run_prints_every_command_and_runs_none(pod, tmp_path):
  done = pod(*SLICE, "--project=trials", "--dry-run", "--", "train",
             "--config=configs/chest_ct.py", "--workdir=/mnt/runs/ct")
  assert done.returncode == 0
  assert not (tmp_path / "calls").exists()
  where = "slice-4 --zone=us-west4-a --worker=all --project=trials"
  ssh = f"gcloud compute tpus tpu-vm ssh {where} '--command="
  packed = f"{tmp_path}/itemclip_jax.tar.gz"
  assert done.stdout.splitlines() == [
      ssh + r"! pgrep -f '\''[i]temclip_jax[.]main'\'' > /dev/null || { echo "
      r"'\''A run is going on here: see it by log, end it by stop.'\''; "
      "exit 1; }'",
      f"tar --create --gzip --file={packed} --exclude=__pycache__ run.sh "
      + " ".join(SHIPPED),
      f"gcloud compute tpus tpu-vm scp {packed} slice-4:itemclip_jax.tar.gz "
      "--zone=us-west4-a --worker=all --project=trials",
      ssh + "mkdir -p itemclip_jax && tar --extract --gzip --recursive-unlink "
      "--file=itemclip_jax.tar.gz --directory=itemclip_jax && cd itemclip_jax "
      "&& ITEMCLIP_EXTRAS=tpu ./run.sh setup'",
      ssh + "cd itemclip_jax && : > pod.log && { setsid nohup ./run.sh train "
      "--config=configs/chest_ct.py --workdir=/mnt/runs/ct --peers=auto > "
      "pod.log 2>&1 < /dev/null & tail -n +1 -F --pid=$! pod.log; wait $!; }'"]


def test_what_is_printed_is_what_is_run(pod, tmp_path):
  command = [*SLICE, "--", "train", "--config.text.prefix=It's a: $HOME"]
  printed = pod(*command, "--dry-run").stdout.splitlines()
  assert pod(*command).returncode == 0
  ran = (tmp_path / "calls").read_text().splitlines()
  of_gcloud = [shlex.split(line) for line in printed if "gcloud" in line]
  assert [repr(words[1:]) for words in of_gcloud] == ran


def test_every_host_installs_and_runs_the_verb_with_its_peers(pod, tmp_path):
  stale = tmp_path / "host1/itemclip_jax/configs/old.py"
  stale.parent.mkdir(parents=True)
  stale.write_text("old")
  done = pod(*SLICE, "--", "train", "--config.text.prefix=It's a: $HOME")
  assert done.returncode == 0, done.stderr
  for host in (0, 1):
    assert _asked(tmp_path, host) == (
        "tpu\n<setup>\nnone\n<train><--config.text.prefix=It's a: $HOME>"
        "<--peers=auto>\n")
    assert (tmp_path / f"host{host}/itemclip_jax/configs/new.py").exists()
  assert not stale.exists()                # a module that was renamed
  assert done.stdout.count("step 1 of train") == 2


def test_the_end_of_a_run_is_told(pod):
  assert pod(*SLICE, "--", "eval", ENDS="75").returncode == 75


def test_a_run_that_goes_on_is_not_disturbed(pod, tmp_path):
  done = pod(*SLICE, "--", "train", BUSY="yes")
  assert done.returncode == 1
  assert "A run is going on here" in done.stdout
  assert not (tmp_path / "host0/itemclip_jax").exists()


@pytest.mark.parametrize("arguments, sentence", [
    ([], "pod wants a name and a zone, got ''"),
    (["slice-4", "--", "train"], "pod wants a name and a zone, got 'slice-4'"),
    ([*SLICE, "train"], "pod wants a name and a zone"),
    ([*SLICE], "pod got no verb behind --"),
    ([*SLICE, "--"], "pod got no verb behind --"),
    ([*SLICE, "--fast", "--", "train"], "pod does not know --fast"),
    ([*SLICE, "--", "demo"], "not 'demo'")])
def test_what_it_cannot_do_is_told_in_a_sentence(pod, tmp_path, arguments,
                                                 sentence):
  done = pod(*arguments)
  assert done.returncode == 2
  assert sentence in done.stderr and done.stderr.count("\n") == 1
  assert not (tmp_path / "calls").exists()


def test_without_gcloud_only_a_dry_run_works(pod, tmp_path):
  (tmp_path / "tools/gcloud").unlink()
  only = {"PATH": str(tmp_path / "tools")}
  for name in ("bash", "dirname", "env"):
    (tmp_path / "tools" / name).symlink_to(
        subprocess.check_output(["which", name], text=True).strip())
  done = pod(*SLICE, "--", "log", **only)
  assert done.returncode == 2 and "gcloud is not there" in done.stderr
  assert pod(*SLICE, "--dry-run", "--", "log", **only).returncode == 0
