"""URIs as text."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_batch.errors import UsageError
from refine_batch.io.uri import is_local, normalise, parent, redact, redact_uri, resolve


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/a/b/", "/a/b"),
        ("/a/./b/../c", "/a/c"),
        ("file:///a/b%20c", "/a/b c"),
        ("file:///a/b c/ü", "/a/b c/ü"),
        ("file://localhost/a", "/a"),
        ("local:///a", "/a"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket", "s3://bucket"),
        ("s3a://bucket/x/", "s3://bucket/x"),
        ("S3://Bucket/X", "s3://Bucket/X"),
        ("s3://bucket/a/../b/./c.obj", "s3://bucket/b/c.obj"),
        ("s3://bucket/../../etc", "s3://bucket/etc"),
        ("s3://bucket/a//b", "s3://bucket/a//b"),
        ("https://host/a/../b?x=1", "https://host/a/../b?x=1"),
    ],
)
def test_normalise(uri, expected):
    assert normalise(uri) == expected


def test_normalise_takes_relative_paths_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert normalise("a b/c") == str(tmp_path / "a b" / "c")


@pytest.mark.parametrize("uri", ["", "  ", "s3://", "s3:///key", "file://host/path", "file://", "a\x00b"])
def test_normalise_refuses(uri):
    with pytest.raises(UsageError):
        normalise(uri)


@pytest.mark.parametrize(
    ("base", "uri", "expected"),
    [
        ("/data/set", "meshes/a.obj", "/data/set/meshes/a.obj"),
        ("/data/set", "../other/a b.obj", "/data/other/a b.obj"),
        ("/data/set", "/abs/a.obj", "/abs/a.obj"),
        ("/data/set", "s3://b/a.obj", "s3://b/a.obj"),
        ("/data/set", "file:///abs/a.obj", "/abs/a.obj"),
        ("s3://b/set", "meshes/ä 1.obj", "s3://b/set/meshes/ä 1.obj"),
        ("s3://b/set", "../a.obj", "s3://b/a.obj"),
        ("s3://b", "a.obj", "s3://b/a.obj"),
        ("/", "a.obj", "/a.obj"),
        ("/data", "50%25.obj", "/data/50%25.obj"),
    ],
)
def test_resolve(base, uri, expected):
    assert resolve(base, uri) == expected


def test_parent():
    assert parent("/a/b/c") == "/a/b"
    assert parent("s3://bucket/a/b") == "s3://bucket/a"
    assert parent("s3://bucket/a") == "s3://bucket"
    assert parent("s3://bucket") == "s3://bucket"


def test_is_local():
    assert is_local("/a")
    assert is_local("a b")
    assert is_local("file:///a")
    assert not is_local("s3://b/a")


segments = st.text(st.characters(codec="utf-8", exclude_characters="/\x00?#@"), min_size=1, max_size=8).filter(
    lambda s: s not in (".", "..") and s.strip()
)


@given(st.lists(segments, min_size=1, max_size=4))
def test_normalise_is_idempotent(parts):
    for uri in ("/" + "/".join(parts), "s3://bucket/" + "/".join(parts)):
        once = normalise(uri)
        assert normalise(once) == once == resolve("/elsewhere", once)


@pytest.mark.parametrize(
    ("text", "kept", "gone"),
    [
        ("at https://ann:hunter2@host/a.obj!", "host/a.obj", "hunter2"),
        ("s3://KEY:SEC/a and ftp://u:p4ss@h/x", "h/x", "p4ss"),
        ("GET https://h/a.obj?X-Amz-Signature=deadbeef&b=1 failed", "https://h/a.obj?", "deadbeef"),
        ("aws_secret_access_key = abc/def+ghi", "aws_secret_access_key", "abc/def"),
        ("{'password': 'pa ss'}", "password", "pa ss"),
        ("key AKIAIOSFODNN7EXAMPLE is unknown", "is unknown", "AKIAIOSFODNN7EXAMPLE"),
    ],
)
def test_redact(text, kept, gone):
    shown = redact(text)
    assert kept in shown
    assert gone not in shown


def test_redact_hides_the_process_own_secrets(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalr/XUtn")
    monkeypatch.setenv("SOME_TOKEN", "tok-123456")
    assert redact("boom wJalr/XUtn and tok-123456") == "boom *** and ***"


def test_redact_leaves_plain_text_and_paths_alone():
    text = "s3://bucket/a b/c@d.obj: the mesh has 0 faces (token of affection?)"
    assert redact(text) == text


def test_redact_uri():
    assert redact_uri("/data/what?x=1.obj") == "/data/what?x=1.obj"
    assert redact_uri("s3://bucket/a?.obj") == "s3://bucket/a?.obj"
    assert redact_uri("https://u:p@h/a?sig=1") == "https://***@h/a?***"
    assert os.sep == "/"
