"""What the command line accepts, and where pictures go."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from task.v1.image_pb2 import Image

from imagegen import OutputRef
from imagegen.argument_types import DEFAULT_TARGET, duration_s, label, reference, target, whole
from imagegen.arguments import parse, request_fields
from imagegen.saving import CannotSave, Destination, save

PNG = Image(index=3, mime_type="image/png")
JPEG = Image(index=0, mime_type="image/jpeg")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("10m", 600), ("2h", 7200), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "5x", "h", "1h30m", "400d", "nan", "1e3"])
def test_no_durations(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        duration_s(text)


@pytest.mark.parametrize("text", ["-2", "16", "1.0", "", "x", "９９"])
def test_numbers_outside_their_range(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        whole(-1, 15)(text)


def test_references(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"picture")
    assert reference(str(file)) == b"picture"
    assert reference("https://example.com/a.png") == "https://example.com/a.png"
    assert reference("01JD8ZK5T0N0V6Y3W2Q4R5S6T7:2") == OutputRef(
        task_id="01JD8ZK5T0N0V6Y3W2Q4R5S6T7", index=2
    )
    with pytest.raises(argparse.ArgumentTypeError, match="no file"):
        reference("missing.png")


def test_a_long_text_that_is_no_reference_is_cut_in_the_message() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no file") as caught:
        reference(f"data:{'A' * 5_000}")
    assert len(str(caught.value)) < 200


def test_a_reference_of_more_than_10_mib(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    with file.open("wb") as sparse:
        sparse.truncate(10 * 1024 * 1024 + 1)
    with pytest.raises(argparse.ArgumentTypeError, match="10 MiB"):
        reference(str(file))


@pytest.mark.parametrize("command", ["generate", "sequence"])
def test_references_of_more_than_32_mib_are_wrong_usage(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "large.png"
    with file.open("wb") as sparse:
        sparse.truncate(8 << 20)
    references = ["--reference", str(file)] * 4
    with pytest.raises(SystemExit) as caught:
        parse([command, "a cat", *references])
    assert caught.value.code == 2
    expected = (
        rf"imagegen {command}: the request has 33,\d{{3}},\d{{3}} bytes, references included; allowed: 32 MiB"
    )
    assert re.match(expected, capsys.readouterr().err)
    assert len(parse([command, "a cat", *references[:6]]).reference) == 3


@pytest.mark.parametrize("options", [("-o", "a.jpeg", "--format", "jpg"), ("-o", "a", "--format", "png")])
def test_a_format_that_fits_the_file(options: tuple[str, ...]) -> None:
    assert parse(["generate", "a cat", *options]).format in ("jpeg", "png")


def test_a_directory_that_is_named_like_a_picture_takes_any_format(tmp_path: Path) -> None:
    (tmp_path / "d.jpg").mkdir()
    for options, wanted in (((), None), (("--format", "png"), "png")):
        arguments = parse(["generate", "a cat", "-o", str(tmp_path / "d.jpg"), *options])
        assert request_fields(arguments)["output_format"] == wanted


@pytest.mark.parametrize(
    "words",
    [
        ("--target", "images.example:80", "--tls", "--json", "models"),
        ("models", "--target", "images.example:80", "--tls", "--json"),
        ("--target", "other.example:1", "--tls", "models", "--json", "--target", "images.example:80"),
    ],
    ids=["before", "behind", "both: the last one counts"],
)
def test_what_every_command_takes_may_stand_before_it_or_behind(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEGEN_TARGET", ":::")  # looked at only where nothing else is given
    arguments = parse(words)
    assert (arguments.target, arguments.tls, arguments.json) == ("images.example:80", True, True)


def test_without_them_a_command_has_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGEGEN_TARGET", raising=False)
    arguments = parse(["models"])
    assert (arguments.target, arguments.tls, arguments.json) == (DEFAULT_TARGET, False, False)


TARGETS = ("images.example", "[::1]:8080", "10.0.0.1:65535", "dns:///images.example:80", "unix:///run/x.sock")


@pytest.mark.parametrize("text", TARGETS)
def test_targets(text: str) -> None:
    assert target(text) == text


@pytest.mark.parametrize(
    "text",
    ["", ":::", "::1", ":80", "a:", "a:b", "a:0", "a:65536", "a:８０", "a b:80", "http://a:80", "u@a:80"],
)
def test_no_targets(text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    told = (
        f"argument --target: {text!r} is no HOST:PORT; write --target or IMAGEGEN_TARGET like localhost:8080"
    )
    for words in (["--target", text, "health"], ["health", "--target", text]):
        with pytest.raises(SystemExit):
            parse(words)
        assert told in capsys.readouterr().err
    monkeypatch.setenv("IMAGEGEN_TARGET", text or ":")
    with pytest.raises(SystemExit):
        parse(["health"])


def test_labels() -> None:
    assert label("a=b=c") == ("a", "b=c")
    assert label("a=") == ("a", "")
    for text in ("a", "=b", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            label(text)


def test_names_in_a_directory(tmp_path: Path) -> None:
    destination = Destination.parse(str(tmp_path / "new" / "v1.0"))
    destination.prepare()
    assert destination.path_of(PNG, task_id="T", alone=True) == tmp_path / "new" / "v1.0" / "T.png"
    assert destination.path_of(JPEG, task_id="T", alone=False) == tmp_path / "new" / "v1.0" / "T-0.jpg"


def test_a_task_id_cannot_leave_the_directory(tmp_path: Path) -> None:
    path = Destination.parse(str(tmp_path)).path_of(PNG, task_id="../../etc/x", alone=True)
    assert path.parent == tmp_path


def test_names_of_a_given_file(tmp_path: Path) -> None:
    destination = Destination.parse(str(tmp_path / "cat.PNG"))
    assert destination.path_of(PNG, task_id="T", alone=True) == tmp_path / "cat.PNG"
    assert destination.path_of(PNG, task_id="T", alone=False) == tmp_path / "cat-3.PNG"


def test_a_directory_that_is_named_like_a_picture(tmp_path: Path) -> None:
    (tmp_path / "d.png").mkdir()
    assert Destination.parse(str(tmp_path / "d.png")).directory == tmp_path / "d.png"


@pytest.mark.parametrize("name", ["cat.bmp", "cat.GIF", "new/cat.tiff"])
def test_a_file_of_a_format_that_is_not_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    suffix = Path(name).suffix.lower()
    told = f"argument -o/--output: {name} ends in {suffix}; allowed for a file: .png, .jpg, .jpeg, .webp"
    for words in (["generate", "a cat", "-o", name], ["task", "T", "-o", name]):
        with pytest.raises(SystemExit):
            parse(words)
        assert told in capsys.readouterr().err
    assert Destination.parse(f"{name}/").directory == Path(name), "what ends like a directory is one"
    Path(name).mkdir(parents=True)
    assert Destination.parse(name).directory == Path(name), "a directory that is there is one"


def test_saving_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    save(b"a long first version", path)
    save(b"second", path)
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("letter", ["x", "猫"])
def test_the_longest_name_can_be_saved_with_every_index(letter: str, tmp_path: Path) -> None:
    name = letter * (248 // len(letter.encode())) + ".png"
    picture = Image(index=14)
    save(b"x", Destination.parse(f"{tmp_path}/{name}").path_of(picture, task_id="T", alone=False))
    with pytest.raises(CannotSave, match="bytes; allowed: 252"):
        Destination.parse(f"{tmp_path}/xxxxx{name}")


def test_what_cannot_be_saved_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotSave, match="directory"):
        Destination.parse(str(tmp_path / "file" / "sub")).prepare()
    with pytest.raises(CannotSave, match="home directory"):
        Destination.parse("~nobody-of-this-name/x.png")
    with pytest.raises(CannotSave, match="cannot write"):
        save(b"x", tmp_path / "missing" / "a.png")
