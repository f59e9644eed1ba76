"""References: what an engine and a registry take, what they refuse, and the tags of several levels."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.errors import UsageError
from provision.resolve.image_tags import Reference, checked_reference, tags_for

DIGEST = "sha256:" + "0123456789abcdef" * 4


def refused(text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        checked_reference(text)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("debian:bookworm", None, "debian", "bookworm", None),
        ("tf", None, "tf", None, None),
        ("me/tf:2.21", None, "me/tf", "2.21", None),
        ("localhost:5000/me/tf:v3", "localhost:5000", "me/tf", "v3", None),
        ("localhost/tf", "localhost", "tf", None, None),
        ("registry.example.org/a/b/c", "registry.example.org", "a/b/c", None, None),
        ("Registry.Example.org/a", "Registry.Example.org", "a", None, None),
        ("[::1]:5000/tf:v3", "[::1]:5000", "tf", "v3", None),
        ("me/my_tf__x-.y".replace("-.", "--"), None, "me/my_tf__x--y", None, None),
        (f"debian@{DIGEST}", None, "debian", None, DIGEST),
        (f"debian:12@{DIGEST}", None, "debian", "12", DIGEST),
        ("tf:" + "x" * 128, None, "tf", "x" * 128, None),
        ("tf:CPU_v3", None, "tf", "CPU_v3", None),
    ],
)
def test_what_is_a_reference(
    text: str, registry: str | None, repository: str, tag: str | None, digest: str | None
) -> None:
    found = checked_reference(text)
    assert found == Reference(registry=registry, repository=repository, tag=tag, digest=digest)
    assert str(found) == text


@pytest.mark.parametrize(
    ("text", "why", "hint"),
    [
        ("me/TF:v3", "its name has upper-case letters, and only a tag may", "did you mean me/tf:v3?"),
        ("me/tf :v3", "it has a blank or a control character in it", "it is written as"),
        ("me/tf\n", "it has a blank or a control character in it", "it is written as"),
        ("$(id)/tf", "the part '$(id)' of its name is not lower-case letters and digits", "it is written as"),
        ("-tf", "the part '-tf' of its name is not lower-case letters", "it is written as"),
        ("me//tf", "an empty part of its name", "it is written as"),
        ("me/tf/", "an empty part of its name", "it is written as"),
        ("tf:", "there is nothing after its colon", "did you mean tf?"),
        ("tf:-v3", "the tag '-v3' is not letters, digits, underscores, dots and dashes", "it is written as"),
        ("tf:v3:x", "the tag 'v3:x' is not letters", "it is written as"),
        ("tf:" + "x" * 129, "its tag has 129 characters, and at most 128 are allowed", "it is written as"),
        ("a" * 256, "its name has 256 characters, and at most 255 are allowed", "it is written as"),
        ("localhost:5000/", "it has no name after the registry localhost:5000", "it is written as"),
        ("host:port/tf", "'host:port' is not a registry's name", "it is written as"),
        ("https://host/tf", "it begins with a scheme, and a reference has none", "did you mean host/tf?"),
        ("tf@sha256:12", "'sha256:12' is not a digest: that is sha256: and 64 hexadecimal digits", "it is written as"),
        ("0123456789abcdef" * 4, "64 hexadecimal digits are an image's id, and no name", "it is written as"),
        ("me/tf:{arch}", "the tag '{arch}' is not letters", "it is written as"),
    ],
)
def test_what_is_not_says_why(text: str, why: str, hint: str) -> None:
    error = refused(text)
    assert error.what.endswith("is not an image reference")
    assert why in error.why
    assert error.hint.startswith(hint)
    assert error.exit_code == 2


def test_an_empty_one_is_called_so() -> None:
    assert refused("").what == "an image reference is empty"


def test_a_long_one_is_not_shown_whole() -> None:
    assert len(refused("a" * 5000).what) < 150


@pytest.mark.parametrize(
    ("tag", "cpus", "expected"),
    [
        ("me/tf", ["x86-64-v2", "x86-64-v3"], ("me/tf:v2", "me/tf:v3")),
        ("me/tf:2.21", ["x86-64-v3", "generic"], ("me/tf:2.21-v3", "me/tf:2.21-generic")),
        ("me/tf:2.21", ["x86-64-v3"], ("me/tf:2.21",)),
        ("me/tf", ["avx2,fma", "zen4"], ("me/tf:avx2-fma", "me/tf:zen4")),
        ("me/tf:{level}-slim", ["x86-64-v2", "x86-64-v4"], ("me/tf:v2-slim", "me/tf:v4-slim")),
        ("me/{level}/tf", ["x86-64-v3"], ("me/v3/tf",)),
        ("localhost:5000/tf", ["x86-64-v2", "fleet"], ("localhost:5000/tf:v2", "localhost:5000/tf:fleet")),
    ],
)
def test_a_tag_for_each_cpu(tag: str, cpus: list[str], expected: tuple[str, ...]) -> None:
    assert tags_for(tag, cpus) == expected


def test_two_cpus_with_one_tag_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        tags_for("me/tf", ["avx2,fma", "avx2-fma"])
    assert caught.value.what == "two images would be tagged me/tf:avx2-fma"
    assert "--cpu avx2,fma and --cpu avx2-fma both come out as it" in caught.value.why
    with pytest.raises(UsageError, match="two images would be tagged me/tf:v3"):
        tags_for("me/tf", ["x86-64-v3", "x86-64-v3"])


def test_a_digest_cannot_be_given() -> None:
    with pytest.raises(UsageError) as caught:
        tags_for(f"me/tf:v3@{DIGEST}", ["generic"])
    assert caught.value.why.startswith("a digest is worked out from an image's content")
    assert caught.value.hint == "--tag me/tf:v3"


def test_a_tag_that_is_too_long_with_its_level_is_refused() -> None:
    tag = "me/tf:" + "x" * 126
    assert tags_for(tag, ["x86-64-v3"]) == (tag,)
    with pytest.raises(UsageError, match="is not an image reference") as caught:
        tags_for(tag, ["x86-64-v3", "x86-64-v4"])
    assert "its tag has 129 characters" in caught.value.why


@given(st.text(alphabet=string.ascii_letters + string.digits + "./:@_-[] \n{$", max_size=40))
def test_any_text_is_a_reference_that_reads_back_or_an_explained_refusal(text: str) -> None:
    try:
        found = checked_reference(text)
    except UsageError as error:
        assert error.what
        assert error.why
        return
    assert str(found) == text
    assert checked_reference(str(found)) == found
