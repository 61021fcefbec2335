"""`imagegen generate`, from the command to the file."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import grpc
from image.v1.image_service_pb2 import GenerateImageAsyncResponse, OutputFormat
from task.v1.image_pb2 import Image, OutputRef
from task.v1.task_pb2 import TaskPriority
from task.v1.task_service_pb2 import GetTaskResponse, WaitTaskRequest, WaitTaskResponse

from tests.client.command_line import imagegen
from tests.client.example_tasks import PENDING, PROCESSING, completed, failed
from tests.client.scripted_server import TASK_ID, Fault, ScriptedService


def will_complete(service: ScriptedService) -> Image:
    """Lets the service accept a task and complete it after two looks."""
    image = service.pictures.add()
    service.on("GenerateImageAsync", GenerateImageAsyncResponse(task_id=TASK_ID))
    service.on(
        "WaitTask",
        WaitTaskResponse(task=PENDING),
        WaitTaskResponse(task=PROCESSING),
        WaitTaskResponse(task=completed(image)),
    )
    return image


def bytes_of(service: ScriptedService, image: Image) -> bytes:
    return service.pictures.answers[service.pictures.path_of(image)][1]


def one_line(text: str) -> str:
    [line] = text.splitlines()
    return line


async def test_the_picture_is_saved_and_its_story_told(service: ScriptedService, tmp_path: Path) -> None:
    image = will_complete(service)
    outcome = await imagegen("generate", "a cat", "--target", service.target, cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert (tmp_path / f"{TASK_ID}.png").read_bytes() == bytes_of(service, image)
    assert os.listdir(tmp_path) == [f"{TASK_ID}.png"]
    for expected in (
        f"{TASK_ID}.png",
        "64×48 png",
        "accepted",
        "attempt 2",
        "stored",
        "completed",
        "0.20 CNY",
    ):
        assert expected in outcome.out
    waits: list[WaitTaskRequest] = service.asked("WaitTask")
    assert [request.wait.ToSeconds() for request in waits] == [1, 1, 1], "one look a second"


async def test_a_pipe_gets_plain_whole_lines(service: ScriptedService, tmp_path: Path) -> None:
    will_complete(service)
    outcome = await imagegen("generate", "a cat", "-o", "x" * 150, "--target", service.target, cwd=tmp_path)
    assert "\x1b" not in outcome.out
    assert f"{'x' * 150}/{TASK_ID}.png" in outcome.out
    assert all(line == line.rstrip() for line in outcome.out.splitlines())


async def test_every_option_reaches_the_service(service: ScriptedService, tmp_path: Path) -> None:
    will_complete(service)
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    options = {
        "-m": "local-canvas",
        "-s": "1024x1024",
        "--seed": "0",
        "--negative": "rain",
        "--quality": "hd",
        "--format": "webp",
        "--request-id": "order-17",
        "--priority": "critical",
        "--ttl": "10m",
    }
    outcome = await imagegen(
        *("generate", "a cat", "--watermark", "--target", service.target),
        *(
            "--reference",
            "photo.png",
            "--reference",
            "https://example.com/b.png",
            "--reference",
            f"{TASK_ID}:3",
        ),
        *("--label", "team=art", "--label", "note=a=b"),
        *(word for option in options.items() for word in option),
        cwd=tmp_path,
    )
    assert outcome.code == 0
    [request] = service.asked("GenerateImageAsync")
    assert (request.prompt, request.model, request.size) == ("a cat", "local-canvas", "1024x1024")
    assert (request.negative_prompt, request.quality, request.request_id) == ("rain", "hd", "order-17")
    assert request.HasField("seed")
    assert (request.seed, request.watermark) == (0, True)
    assert request.output_format == OutputFormat.OUTPUT_FORMAT_WEBP
    assert request.options.priority == TaskPriority.TASK_PRIORITY_CRITICAL
    assert request.options.ttl.seconds == 600
    assert dict(request.options.labels) == {"team": "art", "note": "a=b"}
    data, url, output = request.reference_images
    assert data.data == b"\x89PNG"
    assert url.url == "https://example.com/b.png"
    assert output.output == OutputRef(task_id=TASK_ID, index=3)


async def test_a_file_name_chooses_name_and_format(service: ScriptedService, tmp_path: Path) -> None:
    image = will_complete(service)
    outcome = await imagegen(
        "generate", "a cat", "-o", "new/cat.jpg", "--target", service.target, cwd=tmp_path
    )
    assert outcome.code == 0
    assert (tmp_path / "new" / "cat.jpg").read_bytes() == bytes_of(service, image)
    assert service.asked("GenerateImageAsync")[0].output_format == OutputFormat.OUTPUT_FORMAT_JPEG


async def test_json_is_one_document_with_the_names_of_the_contract(
    service: ScriptedService, tmp_path: Path
) -> None:
    will_complete(service)
    outcome = await imagegen("generate", "a cat", "--json", "--target", service.target, cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    document = outcome.document()
    assert (document["task_id"], document["state"]) == (TASK_ID, "TASK_STATE_COMPLETED")
    [image] = document["image"]["images"]
    assert (image["index"], image["width_px"], image["mime_type"]) == (0, 64, "image/png")
    assert document["attempts"][0]["outcome"] == "ATTEMPT_OUTCOME_NOT_SENT"
    assert document["files"] == [{"index": 0, "path": f"{TASK_ID}.png"}]


async def test_async_gives_the_command_that_fetches_the_picture(
    service: ScriptedService, tmp_path: Path
) -> None:
    image = will_complete(service)
    service.on("GetTask", GetTaskResponse(task=PENDING))
    submitted = await imagegen("generate", "a cat", "--async", "--target", service.target, cwd=tmp_path)
    assert submitted.code == 0
    assert service.asked("WaitTask") == []
    [command] = [
        line.removeprefix("fetch it: ") for line in submitted.out.splitlines() if "fetch it: " in line
    ]
    fetched = await imagegen(*shlex.split(command)[1:], cwd=tmp_path)
    assert fetched.code == 0
    assert (tmp_path / f"{TASK_ID}.png").read_bytes() == bytes_of(service, image)


async def test_async_json_names_the_task(service: ScriptedService, tmp_path: Path) -> None:
    will_complete(service)
    outcome = await imagegen(
        "generate",
        "a cat",
        "--async",
        "--json",
        "--request-id",
        "order-17",
        "--target",
        service.target,
        cwd=tmp_path,
    )
    assert outcome.document() == {"task_id": TASK_ID, "request_id": "order-17"}


async def test_a_failed_task(service: ScriptedService, tmp_path: Path) -> None:
    will_complete(service)
    service.on("WaitTask", WaitTaskResponse(task=failed()))
    outcome = await imagegen("generate", "a cat", "--target", service.target, cwd=tmp_path)
    assert outcome.code == 1
    assert "content policy forbids the prompt. Change it (CONTENT_POLICY_INPUT)" in one_line(outcome.err)
    assert TASK_ID in outcome.err
    assert "rejected" in outcome.out
    assert os.listdir(tmp_path) == []


async def test_a_failed_task_as_json(service: ScriptedService, tmp_path: Path) -> None:
    will_complete(service)
    service.on("WaitTask", WaitTaskResponse(task=failed()))
    outcome = await imagegen("generate", "a cat", "--json", "--target", service.target, cwd=tmp_path)
    assert outcome.code == 1
    assert outcome.document()["error"]["reason"] == "ERROR_REASON_CONTENT_POLICY_INPUT"


INVALID = Fault(
    code=grpc.StatusCode.INVALID_ARGUMENT,
    reason="INVALID_FIELD",
    violations=(("size", "0x0 is too small."), ("seed", "must be\n-1 or more")),
)


async def test_an_invalid_request_names_every_field(service: ScriptedService, tmp_path: Path) -> None:
    service.on("GenerateImageAsync", INVALID)
    outcome = await imagegen("generate", "a cat", "--target", service.target, cwd=tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    expected = "imagegen: the request is invalid: size: 0x0 is too small; seed: must be -1 or more"
    assert one_line(outcome.err) == expected


async def test_a_wrong_reference_is_named_as_it_was_given(service: ScriptedService, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    wrong = (
        ("reference_images", "have too many bytes together"),
        ("reference_images[0].data", "is no picture"),
        ("reference_images[2].output.index", "is 99"),
        ("reference_images[3].url", "came out of nowhere"),
    )
    fault = Fault(code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_FIELD", violations=wrong)
    service.on("GenerateImageAsync", fault)
    service.on("StreamSequentialImages", fault)
    for command in ("generate", "sequence"):
        outcome = await imagegen(
            *(command, "a cat", "--reference", "notes.txt", "--reference", "https://example.com/b.png"),
            *("--reference", f"{TASK_ID}:99", "--target", service.target, "--json"),
            cwd=tmp_path,
        )
        assert outcome.code == 2
        assert one_line(outcome.err) == (
            "imagegen: the request is invalid: --reference: have too many bytes together; "
            f"--reference notes.txt: is no picture; --reference {TASK_ID}:99: is 99; "
            "reference_images[3].url: came out of nowhere"
        )
        told = outcome.document()["error"]["field_violations"]
        assert [violation["field"] for violation in told] == [field for field, _ in wrong]


async def test_a_wrong_field_is_named_as_the_command_line_calls_it(
    service: ScriptedService, tmp_path: Path
) -> None:
    wrong = (
        ("negative_prompt", "is too long"),
        ("options.ttl", "is 0.5 s"),
        ("output_format", "is not made"),
    )
    fault = Fault(code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_FIELD", violations=wrong)
    service.on("GenerateImageAsync", fault)
    outcome = await imagegen("generate", "a cat", "--target", service.target, cwd=tmp_path)
    assert one_line(outcome.err) == (
        "imagegen: the request is invalid: --negative: is too long; --ttl: is 0.5 s; --format: is not made"
    )
    named = await imagegen("generate", "a cat", "-o", "cat.png", "--target", service.target, cwd=tmp_path)
    assert one_line(named.err).endswith("; -o cat.png: is not made")


async def test_an_error_as_json(service: ScriptedService, tmp_path: Path) -> None:
    service.on("GenerateImageAsync", INVALID)
    outcome = await imagegen("generate", "a cat", "--json", "--target", service.target, cwd=tmp_path)
    assert outcome.code == 2
    error = outcome.document()["error"]
    assert (error["reason"], error["code"]) == ("ERROR_REASON_INVALID_FIELD", 3)
    assert [violation["field"] for violation in error["field_violations"]] == ["size", "seed"]


async def test_an_unknown_acceptance_as_json_names_the_request_id(
    service: ScriptedService, tmp_path: Path
) -> None:
    """The fresh id of the lost request finds its task: a repeat under it buys nothing twice."""
    silence = Fault(code=grpc.StatusCode.DEADLINE_EXCEEDED, domain="")
    service.on("GenerateImageAsync", silence)
    service.on("StreamSequentialImages", silence)
    for command, method in (("generate", "GenerateImageAsync"), ("sequence", "StreamSequentialImages")):
        outcome = await imagegen(command, "a cat", "--json", "--target", service.target, cwd=tmp_path)
        assert outcome.code == 3
        document = outcome.document()
        [request] = service.asked(method)
        assert (document["task_id"], document["request_id"]) == ("", request.request_id)


AWAY = Fault(code=grpc.StatusCode.UNAVAILABLE, reason="STORE_UNAVAILABLE", retry_after_s=1)


async def test_who_loses_sight_of_a_task_is_told_how_to_find_it_and_not_to_try_again(
    service: ScriptedService, tmp_path: Path
) -> None:
    will_complete(service)
    bug = Fault(code=grpc.StatusCode.INTERNAL)
    for fault, told in ((AWAY, "The task goes on; fetch it: "), (bug, "What became of the task: ")):
        service.on("WaitTask", fault)
        outcome = await imagegen(
            "generate", "a cat", "--timeout", "0", "--target", service.target, cwd=tmp_path
        )
        assert outcome.code == 1
        assert f"{told}imagegen task {TASK_ID} --wait" in one_line(outcome.err)
        assert "try again" not in outcome.err


async def test_who_may_have_been_accepted_is_told_the_id_to_repeat_with(
    service: ScriptedService, tmp_path: Path
) -> None:
    service.on("GenerateImageAsync", AWAY)
    outcome = await imagegen("generate", "a cat", "--target", service.target, cwd=tmp_path)
    request_id = service.asked("GenerateImageAsync")[0].request_id
    assert f"--request-id {request_id} finds its task" in one_line(outcome.err)


async def test_a_full_queue_says_when_to_come_back(service: ScriptedService, tmp_path: Path) -> None:
    fault = Fault(code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="QUEUE_FULL", retry_after_s=7)
    service.on("GenerateImageAsync", fault)
    outcome = await imagegen("generate", "a cat", "--target", service.target, cwd=tmp_path)
    assert outcome.code == 1
    assert "try again in 7.00 s" in one_line(outcome.err)


async def test_the_end_of_the_wait_gives_the_command_to_go_on(
    service: ScriptedService, tmp_path: Path
) -> None:
    image = will_complete(service)
    service.on("WaitTask", WaitTaskResponse(task=PROCESSING))
    late = await imagegen(
        "generate", "a cat", "--timeout", "0", "-o", "my cat.png", "--target", service.target, cwd=tmp_path
    )
    assert late.code == 4
    command = one_line(late.err).partition("Fetch it: ")[2]
    assert TASK_ID in command
    service.on("GetTask", GetTaskResponse(task=completed(image)))
    fetched = await imagegen(*shlex.split(command)[1:], cwd=tmp_path)
    assert fetched.code == 0
    assert (tmp_path / "my cat.png").read_bytes() == bytes_of(service, image)


async def test_the_end_of_the_wait_as_json(service: ScriptedService, tmp_path: Path) -> None:
    will_complete(service)
    service.on("WaitTask", WaitTaskResponse(task=PROCESSING))
    outcome = await imagegen(
        "generate", "a cat", "--timeout=0", "--json", "--target", service.target, cwd=tmp_path
    )
    assert outcome.code == 4
    document = outcome.document()
    assert (document["task_id"], document["error"]["reason"]) == (TASK_ID, "ERROR_REASON_WAIT_EXPIRED")


async def test_a_wrong_picture_is_not_saved(service: ScriptedService, tmp_path: Path) -> None:
    image = will_complete(service)
    service.pictures.answers[service.pictures.path_of(image)] = (200, b"something else")
    outcome = await imagegen("generate", "a cat", "--target", service.target, cwd=tmp_path)
    assert outcome.code == 1
    line = one_line(outcome.err)
    assert "SHA-256 differs" in line
    assert f"try again: imagegen task {TASK_ID} --wait -o ." in line
    assert "completed" in outcome.out
    assert os.listdir(tmp_path) == []


async def test_nothing_is_generated_that_could_not_be_saved(service: ScriptedService, tmp_path: Path) -> None:
    will_complete(service)
    (tmp_path / "file").touch()
    outcome = await imagegen("generate", "a cat", "-o", "file/sub", "--target", service.target, cwd=tmp_path)
    assert outcome.code == 2
    assert "cannot make the directory file/sub" in one_line(outcome.err)
    assert service.asked("GenerateImageAsync") == []


async def test_a_prompt_cannot_command_the_terminal(service: ScriptedService, tmp_path: Path) -> None:
    evil = completed(service.pictures.add(), prompt="[red]\x1b[2J\x1b]0;owned\x07 \u202etac")
    service.on("GetTask", GetTaskResponse(task=evil))
    outcome = await imagegen("task", TASK_ID, "--target", service.target, cwd=tmp_path)
    assert outcome.code == 0
    assert "[red]�[2J�]0;owned� �tac" in outcome.out
    assert not {"\x1b", "\x07", "\u202e"} & set(outcome.out)


async def test_no_proxy_stands_between_this_machine_and_itself(
    service: ScriptedService, tmp_path: Path
) -> None:
    will_complete(service)
    proxy = "http://127.0.0.1:1"
    outcome = await imagegen(
        *("generate", "a cat", "--target", service.target), cwd=tmp_path, http_proxy=proxy, no_proxy=""
    )
    assert (outcome.code, outcome.err) == (0, "")
