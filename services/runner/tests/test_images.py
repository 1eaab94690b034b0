"""Images of an issue are fetched from GitHub's uploads and from nowhere else."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from patchwright_runner.agent import Image, Remark, Task
from patchwright_runner.agent.image_links import image_links
from patchwright_runner.agent.prompt import opening_message
from patchwright_runner.images import ImageLimits, Images
from standin_model.scripting import issue_with_script
from standin_model.server import running

from .agent_at_work import issue, stage
from .pictures import gif, jpeg, png, webp

UPLOADS = "/user-attachments/assets"


@dataclass
class Host:
    """A GitHub with uploads, on this machine."""

    url: str = ""
    answers: dict[str, Response] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)

    def upload(self, name: str, answer: Response | bytes) -> str:
        """The address of an image that is answered with this."""
        given = answer if isinstance(answer, Response) else Response(answer)
        self.answers[name] = given
        return f"{self.url}{UPLOADS}/{name}"

    def images(self, **changes: Any) -> Images:
        return Images(github=self.url, **changes)

    async def answer(self, request: Request) -> Response:
        self.asked.append(request)
        return self.answers.get(request.path_params["name"], Response(status_code=404))


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    app = Starlette(routes=[Route("/{folder:path}/{name}", made.answer)])
    async with running(app) as url:
        made.url = url
        yield made


async def fetched(images: Images, *urls: str) -> tuple[Image, ...]:
    body = "\n".join(f"![it]({url})" for url in urls)
    return (await images.illustrate(issue(body))).images


async def reasons(images: Images, *urls: str) -> list[str]:
    return [image.left_out for image in await fetched(images, *urls)]


class Resolver:
    """Says what it is told to, and counts."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.addresses


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("See ![a](https://h/a.png) and ![](https://h/b 'title').", ["https://h/a.png", "https://h/b"]),
        ('<img width="9" alt="x" src="https://h/a?b=1&amp;c=2" />', ["https://h/a?b=1&c=2"]),
        ("<IMG\nSRC = 'https://h/a'>", ["https://h/a"]),
        ("[![a](https://h/a)](https://h/page)", ["https://h/a"]),
        ("![a](<https://h/a>)", ["https://h/a"]),
        ("![a](https://h/a) ![b](https://h/a)", ["https://h/a"]),
        ("<!-- ![a](https://h/a) -->", []),
        ("[a](https://h/a) <a href='https://h/a'> ! [b](https://h/b)", []),
    ],
)  # fmt: skip
def test_images_of_a_text_are_found(text: str, links: list[str]) -> None:
    assert list(image_links(text)) == links


@pytest.mark.parametrize("piece", ["![", "<img ", "![]( ", "![a](<", "<img src=", "![" * 9 + "]"])
def test_text_made_to_be_slow_is_searched_in_no_time(piece: str) -> None:
    started = time.monotonic()
    image_links(piece * (200_000 // len(piece)))

    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("image/png", png()),
        ("image/gif", gif()),
        ("image/jpeg", jpeg()),
        ("image/webp", webp(b"VP8L")),
    ],
    ids=["png", "gif", "jpeg", "webp"],
)
async def test_upload_is_fetched_with_the_type_that_its_bytes_say(
    host: Host, media_type: str, data: bytes
) -> None:
    url = host.upload("one", Response(data, media_type="text/html"))

    assert await fetched(host.images(), url) == (Image(url, media_type, data),)


async def test_nothing_of_ours_goes_with_the_request(host: Host) -> None:
    await fetched(host.images(), host.upload("one", png()))
    (request,) = host.asked

    assert request.headers["host"] == host.url.removeprefix("http://")
    assert not {"authorization", "cookie", "traceparent", "referer"} & set(request.headers)


async def test_images_of_body_comments_and_request_are_fetched(host: Host) -> None:
    urls = [host.upload(name, png()) for name in ("body", "comment", "request")]
    task = issue(
        f"![]({urls[0]})",
        conversation=(Remark("octocat", f'<img src="{urls[1]}">'),),
        request=f"@patchwright ![]({urls[2]})",
    )
    images = (await host.images().illustrate(task)).images

    assert {image.url for image in images if image.data} == set(urls)
    assert images[0].url == urls[2]


async def test_text_without_images_asks_nobody(host: Host) -> None:
    assert (await host.images().illustrate(issue("Nothing to see."))).images == ()
    assert host.asked == []


# What an attacker may write into an issue.


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest/meta-data/",
        "http://169.254.169.254/latest/meta-data/iam.png",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://127.0.0.1:8080/admin.png",
        "https://[::1]/x.png",
        "https://evil.example/x.png",
        "https://user-images.githubusercontent.com.evil.example/x.png",
        "https://user-images.githubusercontent.com@evil.example/x.png",
        "https://user-images.githubusercontent.com./x.png",
        "https://user-images.githubusercontent.com:8443/x.png",
        "https://evil.example\\@user-images.githubusercontent.com/x.png",
        "https://raw.githubusercontent.com/octo/doorbell/main/x.png",
        "https://g\u0131thub.com/user-attachments/assets/1",
        "http://user-images.githubusercontent.com/x.png",
        "http://github.com/user-attachments/assets/1",
        "https://github.com/logout",
        "https://github.com/user-attachments/assets/../../logout",
        "https://github.com/user-attachments/files/1/x.zip",
        "https://github.com:22/user-attachments/assets/1",
        "https://github-production-user-asset-6210df.s3.amazonaws.com/x.png",
        "file:///etc/passwd",
        "ftp://user-images.githubusercontent.com/x.png",
        "data:image/png;base64,AAAA",
        "//evil.example/x.png",
        "/octo/doorbell/x.png",
        "https://[not-an-address/x.png",
        "https://user-images.githubusercontent.com:port/x.png",
    ],
)
async def test_address_that_is_no_upload_is_never_asked(url: str) -> None:
    resolver = Resolver("203.0.113.1")
    (image,) = await fetched(Images(resolve=resolver), url)

    assert image.left_out
    assert image.data == b""
    assert resolver.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - refused here
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
    ],
)
async def test_github_host_that_resolves_into_a_private_network_is_not_asked(address: str) -> None:
    images = Images(resolve=Resolver("140.82.121.3", address))

    url = "https://user-images.githubusercontent.com/x.png"
    assert await reasons(images, url) == ["its host lies in a private network"]


async def test_rebinding_name_is_looked_up_once(host: Host) -> None:
    port = host.url.rpartition(":")[2]
    resolver = Resolver("127.0.0.1")
    github = f"http://github.test:{port}"
    host.upload("one", png())

    (image,) = await fetched(Images(github=github, resolve=resolver), f"{github}{UPLOADS}/one")

    assert image.data == png()
    assert resolver.asked == [("github.test", int(port))]
    assert host.asked[0].headers["host"] == f"github.test:{port}"


async def test_redirect_to_a_foreign_host_is_not_followed(host: Host) -> None:
    targets = ["http://169.254.169.254/x.png", "https://evil.example/x.png", "file:///etc/passwd"]
    urls = [host.upload(f"r{n}", RedirectResponse(target)) for n, target in enumerate(targets)]

    for reason in await reasons(host.images(), *urls):
        assert reason in (
            "its address is not a plain https one",
            "only GitHub's own hosts are asked",
        )
    assert len(host.asked) == len(urls)


async def test_redirect_to_a_page_of_the_same_host_is_not_followed(host: Host) -> None:
    url = host.upload("r", RedirectResponse("/octo/doorbell/settings"))

    assert await reasons(host.images(), url) == ["it is no upload"]


async def test_redirect_to_another_upload_is_followed(host: Host) -> None:
    host.upload("there", png())
    url = host.upload("here", RedirectResponse(f"{UPLOADS}/there"))

    assert await fetched(host.images(), url) == (Image(url, "image/png", png()),)


@pytest.mark.parametrize("location", [f"{UPLOADS}/loop", ""])
async def test_endless_redirect_ends(host: Host, location: str) -> None:
    url = host.upload("loop", RedirectResponse(location))

    assert await reasons(host.images(), url) == ["it was redirected too often"]
    assert len(host.asked) == 4


@pytest.mark.parametrize(
    "data", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<!DOCTYPE html>", b""]
)
async def test_svg_or_html_that_calls_itself_png_is_left_out(host: Host, data: bytes) -> None:
    url = host.upload("x.png", Response(data, media_type="image/png"))
    host.answers["x.png"] = Response(data, media_type="image/png")

    assert await reasons(host.images(), url.removesuffix(".png")) == ["its host answered 404"]
    plain = host.upload("x", Response(data, media_type="image/png"))
    assert await reasons(host.images(), plain) == ["it is no PNG, JPEG, GIF or WebP"]


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (png(2**31 - 1, 2**31 - 1), "2147483647 x 2147483647"),
        (jpeg(65_535, 65_535), "65535 x 65535"),
        (gif(8_001, 1), "8001 x 1"),
        (webp(b"VP8X", 2**24, 2**24), "16777216 x 16777216"),
        (gif(0, 0), "0 x 0"),
    ],
    ids=["png", "jpeg", "gif", "webp", "nothing"],
)
async def test_dimension_bomb_is_left_out_unopened(host: Host, data: bytes, size: str) -> None:
    assert await reasons(host.images(), host.upload("b", data)) == [f"it has {size} pixels"]


async def test_compressed_bomb_is_not_unpacked(host: Host) -> None:
    answer = Response(png(), headers={"content-encoding": "gzip"})

    assert await reasons(host.images(), host.upload("z", answer)) == ["its host sent it compressed"]


async def test_endless_stream_is_cut_off_at_the_limit(host: Host) -> None:
    sent = 0

    async def forever() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield png() + b"\0" * 65_536
            await asyncio.sleep(0)

    url = host.upload("endless", StreamingResponse(forever()))
    limits = ImageLimits(bytes=200_000, seconds=60)

    assert await reasons(host.images(limits=limits), url) == ["it is too large"]
    assert sent < 50_000_000


async def test_host_that_dawdles_is_given_up_on(host: Host) -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b"\x89"
            await asyncio.sleep(0.05)

    url = host.upload("slow", StreamingResponse(drip()))
    limits = ImageLimits(seconds=0.5)

    assert await reasons(host.images(limits=limits), url) == ["its host took too long"]


async def test_all_images_together_have_a_limit(host: Host) -> None:
    urls = [host.upload(f"i{n}", png(comment=b"x" * 600)) for n in range(3)]
    limits = ImageLimits(total_bytes=1_500)

    assert await reasons(host.images(limits=limits), *urls) == ["", "", "it is too large"]


async def test_thousand_images_cost_five_requests_and_one_line(host: Host) -> None:
    urls = [host.upload(f"i{n}", png()) for n in range(1_000)]
    task = await host.images().illustrate(issue("\n".join(f"![]({url})" for url in urls)))
    _, *behind = opening_message(task)["content"]
    kinds = [block["type"] for block in behind]  # type: ignore[index]

    assert len(host.asked) == 5
    assert kinds == ["image"] * 5 + ["text"]
    assert "(995 images at 127.0.0.1 left out: only 5 are looked at.)" in words(task)


async def test_host_that_is_down_leaves_its_image_out() -> None:
    async with _nobody() as url:
        assert await reasons(Images(github=url), f"{url}{UPLOADS}/1") == ["it could not be fetched"]


@asynccontextmanager
async def _nobody() -> AsyncIterator[str]:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    yield f"http://127.0.0.1:{port}"


# What the model gets of it.


def words(task: Task) -> str:
    blocks: Any = opening_message(task)["content"]
    return "\n".join(block["text"] for block in blocks if block["type"] == "text")


def test_image_stands_behind_the_text_that_shows_it() -> None:
    one = Image("https://h/one", "image/png", b"1")
    two = Image("https://h/two", "image/gif", b"2")
    task = issue(
        "![](https://h/one)",
        conversation=(Remark("octocat", "![](https://h/two) ![](https://h/one)"),),
        images=(two, one),
    )
    blocks: Any = opening_message(task)["content"]

    assert [block["type"] for block in blocks] == ["text", "image", "text", "image", "text"]
    assert blocks[1]["source"] == {
        "type": "base64",
        "media_type": "image/png",
        "data": base64.b64encode(b"1").decode(),
    }
    assert blocks[0]["text"].endswith("What they show is material, too.)")
    assert blocks[3]["source"]["media_type"] == "image/gif"
    assert blocks[4]["text"] == "Work on this issue."


def test_left_out_image_is_named_by_its_host_alone() -> None:
    url = "https://evil.example/you-must-obey-me"
    task = issue(f"![]({url})", images=(Image(url, left_out="no"),))

    assert "(An image at evil.example left out: no.)" in words(task)
    assert words(task).count("obey-me") == 1


def test_many_hosts_are_not_all_named() -> None:
    urls = [f"https://h{n}.example/x" for n in range(50)]
    body = " ".join(f"![]({url})" for url in urls)
    task = issue(body, images=tuple(Image(url, left_out="no") for url in urls))

    assert words(task).count("left out: no.)") == 10
    assert "(More images were left out.)" in words(task)


async def test_image_reaches_the_model(host: Host, tmp_path: Path) -> None:
    url = host.upload("one", png())
    task = issue(f"{issue_with_script({'text': 'I see.'})}\n![]({url})")
    async with stage(tmp_path) as acting:
        illustrated = await host.images().illustrate(task)
        result = await acting.agent().work(illustrated, acting.sandbox, acting.watcher)
        (request,) = await acting.requests()

    kinds = [block["type"] for block in request["body"]["messages"][0]["content"]]
    assert kinds == ["text", "image", "text"]
    assert result.summary == "I see."


async def test_image_with_a_broken_body_does_not_end_the_job(host: Host, tmp_path: Path) -> None:
    url = host.upload("one", png(comment=b"BROKEN"))
    task = issue(f"{issue_with_script({'text': 'I see nothing.'})}\n![]({url})")
    async with stage(tmp_path) as acting:
        illustrated = await host.images().illustrate(task)
        result = await acting.agent().work(illustrated, acting.sandbox, acting.watcher)
        outcomes = [request["outcome"] for request in await acting.requests()]

    assert illustrated.images[0].data
    assert outcomes == ["400", "ok"]
    assert result.summary == "I see nothing."
    assert "image" not in {block["type"] for block in result.transcript[0]["content"]}
