"""What a user can mend is one sentence; a mistake of ours is a traceback."""

import pytest

from itemclip_jax import errors


def raising(error):
  def main(argv):
    raise error
  return errors.told(main)


@pytest.mark.parametrize("error", [errors.UserError("Do this."),
                                   FloatingPointError("Do this.")])
def test_what_can_be_mended_is_one_sentence(error, capsys):
  with pytest.raises(SystemExit) as ended:
    raising(error)([])
  assert ended.value.code == 2
  assert capsys.readouterr().err == "itemclip_jax: Do this.\n"


def test_a_mistake_of_ours_keeps_its_traceback():
  with pytest.raises(ValueError, match="too many values"):
    raising(ValueError("too many values to unpack"))([])


def test_many_names_are_cut():
  assert errors.some("abc", most=3) == "a, b, c"
  assert errors.some("abcde", most=3) == "a, b, c and 2 more"


def test_a_damaged_file_is_named(tmp_path):
  path = tmp_path / "x.json"
  path.write_text("{")
  with pytest.raises(errors.UserError, match="x.json is damaged .*Mend it."):
    errors.read_json(path, "Mend it.")
  path.write_bytes(b"\xff\xfe")
  with pytest.raises(errors.UserError, match="x.json is damaged"):
    errors.read_json(path, "Mend it.")
