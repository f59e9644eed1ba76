"""The probe's stream, and what it says about environments."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from provision.detect.environments import data_home, environment_states, packages_sha256
from provision.detect.framed import is_complete, split
from provision.model.readings import Readings

B = "provision-0123456789abcdef"
NAMES = st.from_regex(r"[a-z][a-z0-9_.]{0,20}", fullmatch=True).filter(lambda name: name != "end")
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=200)


@given(st.dictionaries(NAMES, TEXTS, max_size=6))
def test_what_was_framed_comes_back(files: dict[str, str]) -> None:
    stream = "Welcome!\n" + "".join(f"{B} {name}\n{text}\n" for name, text in files.items()) + f"{B} end\n"
    assert split(stream, B).files == files
    assert is_complete(stream, B)


def test_contents_cannot_forge_a_frame() -> None:
    text = "provision-ffff proc_cpuinfo\nfake\nend\n"
    assert split(f"{B} os_release\n{text}\n{B} end\n", B).files == {"os_release": text}


def test_a_status_is_kept_where_it_is_not_zero() -> None:
    stream = f"{B} a 0\nfine\n\n{B} b 127\nnot found\n\n{B} end\n"
    assert split(stream, B).files == {"a": "fine\n", "b": "not found\n", "b.status": "127"}


def test_a_cut_stream_gives_what_there_is() -> None:
    stream = f"{B} a\none\n\n{B} b\ntw"
    assert split(stream, B).files == {"a": "one\n", "b": "tw"}
    assert not is_complete(stream, B)
    assert split("", B).files == {}
    assert split(stream, "other").files == {}


PACKAGES = ["absl_py-2.3.1", "tensorflow-2.21.0", "Markdown-3.9"]


def reading(state: dict[str, object], packages: list[str] = PACKAGES, python: str = "yes") -> Readings:
    return Readings(
        {
            "environments": (
                "env default /home/a b/.local/share/provision/envs/default\ncurrent 2\n"
                f"generation 1 -\npython 1 no\npackages 1\n"
                f'generation 2 {json.dumps(state)}\nplan 2 {{"schema": 1, "host": "a"}}\n'
                f"python 2 {python}\npackages 2 {' '.join(packages)}\n"
                "env other /srv/envs/other\n"
            )
        }
    )


WHOLE: dict[str, object] = {
    "fingerprint": "abc",
    "complete": True,
    "verified": True,
    "created": "2026-11-22T10:00:00Z",
    "summary": "tensorflow 2.21.0 · cpu · python 3.11",
    "packages_sha256": packages_sha256(PACKAGES),
}


def test_an_environment_as_it_lies_there() -> None:
    default, other = environment_states(reading(WHOLE))
    assert (default.name, default.path, default.current) == (
        "default", "/home/a b/.local/share/provision/envs/default", 2,
    )  # fmt: skip
    killed, good = default.generations
    assert (killed.number, killed.fingerprint, killed.complete, killed.drifted) == (1, None, False, False)
    assert (good.number, good.fingerprint, good.complete, good.verified, good.drifted) == (2, "abc", True, True, False)
    assert good.summary == "tensorflow 2.21.0 · cpu · python 3.11"
    assert default.plan == {"schema": 1, "host": "a"}
    assert other.plan is None
    assert (other.name, other.current, other.generations) == ("other", None, ())


def test_the_plans_that_a_generation_answers_for() -> None:
    for answers, expected in ((["e", "f"], ("e", "f")), (None, ()), ("f", ()), (["f", 7, "", None], ("f",))):
        generation = environment_states(reading({**WHOLE, "answers": answers}))[0].generations[1]
        assert generation.answers == expected


def test_other_packages_or_no_python_is_drift() -> None:
    assert environment_states(reading(WHOLE, [*PACKAGES, "extra-1.0"]))[0].generations[1].drifted
    assert environment_states(reading(WHOLE, PACKAGES[:2]))[0].generations[1].drifted
    assert environment_states(reading(WHOLE, python="no"))[0].generations[1].drifted
    assert not environment_states(reading(WHOLE, sorted(PACKAGES)))[0].generations[1].drifted


def test_a_state_of_the_wrong_kind_is_no_state() -> None:
    for state in ({}, {"complete": "yes", "verified": 1, "fingerprint": 7}):
        generation = environment_states(reading(state))[0].generations[1]
        assert (generation.fingerprint, generation.complete, generation.verified) == (None, False, False)


def test_the_plan_of_the_current_generation_comes_along() -> None:
    lines = 'env a /b\ncurrent 2\ngeneration 1 -\ngeneration 2 -\nplan 1 {"no": 1}\nplan 2 {"schema": 1}\n'
    (found,) = environment_states(Readings({"environments": lines}))
    assert found.plan == {"schema": 1}
    (without,) = environment_states(Readings({"environments": lines.replace('{"schema": 1}', "-")}))
    assert without.plan is None


@given(st.text(max_size=400))
def test_any_text_gives_environments_or_none(text: str) -> None:
    environment_states(Readings({"environments": text}))
    environment_states(Readings({"environments": "env a /b\n" + text}))
    data_home(Readings({"data_home": text}))


def test_data_home() -> None:
    text = "data_home /home/a b/provision\nhome_writable no\ndf /dev/vda 264212084 32197108 74193804 31% /\n"
    home = data_home(Readings({"data_home": text}))
    assert (home.path, home.writable, home.free_mib) == ("/home/a b/provision", False, 72454)
    empty = data_home(Readings({}))
    assert (empty.path, empty.writable, empty.free_mib) == (None, None, None)
