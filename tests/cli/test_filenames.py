import re

from hypothesis import example, given
from hypothesis import strategies as st

from refine_batch.cli.filenames import FileNames, hashed


def test_plain_ids_stay_as_they_are():
    names = FileNames()
    for name in ["0146", "OWILD_White_Toy_Rv_090", "a.b-c_d", "eb8fe6d82d195ab5bc8feea465aa74f2"]:
        assert names.of(name) == name


@given(st.lists(st.text(min_size=1), unique=True, max_size=30))
@example(["a/b", "a_b", "../a_b", "A_B", "a\\b", "a b", "😀", "nul", "NUL.txt", ".", "..", "x" * 300, "x" * 301, "-rf"])
@example(["a/b", hashed("a/b"), "x.coarse", "index", "INDEX"])
def test_names_are_never_paths_and_never_shared(ids):
    names = FileNames()
    made = [names.of(one) for one in ids]
    assert [names.of(one) for one in ids] == made
    assert len({name.lower() for name in made}) == len(ids)
    for name in made:
        assert re.fullmatch(r"[A-Za-z0-9_~][A-Za-z0-9._~-]*", name)
        assert len(name) <= 100
        assert name.lower() not in {"index", "con", "nul", "aux", "prn"}
