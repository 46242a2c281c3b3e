"""Where a package index keeps the files of a project: its pages (JSON or HTML), and the places of ``find-links``."""

from __future__ import annotations

import contextlib
import json
import os
import re
import urllib.request
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from .fetch import CONNECT_SECONDS, Fetcher, FetchError
from .pipconf import PipConfig, redacted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Collection


@dataclass(frozen=True)
class Link:
    """A file that an index offers; ``sha256`` is ``""`` where the index does not say."""

    filename: str
    url: str
    sha256: str


class Index:
    """All the places that pip's configuration names, asked in order until ``deadline`` (monotonic seconds).

    A place that takes no connection within ``connect_seconds`` is not tried again.
    """

    def __init__(self, config: PipConfig, deadline: float, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._config = config
        self._fetcher = Fetcher(config, deadline, connect_seconds)
        self._known: dict[str, list[Link]] = {}

    def find(self, project: str, wanted: Collection[str]) -> list[Link]:
        """The files of ``project`` whose sha256 is among ``wanted``, or not said, in the order of preference.

        ``project`` is the normalized name.  Raises :class:`FetchError` if there is none: with the reason why a place
        could not be asked, if that happened, else with the kind ``missing``.
        """
        links, failures = self._offers(project)
        found = [
            link for link in links if link.sha256 in wanted or (not link.sha256 and _is_of(project, link.filename))
        ]
        if found:
            return found
        for failure in failures:
            if failure.kind != "missing":
                raise failure
        asked = ", ".join(redacted(place) for place in (*self._config.indexes, *self._config.find_links))
        raise FetchError(
            "missing", "the locked release of {} is not offered by {}".format(project, asked or "any index")
        )

    def offered(self, project: str) -> list[Link]:
        """All files of ``project``, an empty list if no place has or could give any."""
        return self._offers(project)[0]

    def download(self, link: Link, wanted: Collection[str], path: str) -> str:
        """Write ``link``'s content to the new file ``path`` and return its sha256, one of ``wanted``.

        Raises :class:`FetchError`; nothing is left at ``path`` then.
        """
        try:
            with open(path, "xb") as out:
                digest = self._fetcher.copy(link.url, out)
            if digest not in wanted:
                text = "{} from {} is not the file that was locked: its sha256 is {}"
                raise FetchError("hash", text.format(link.filename, redacted(link.url), digest))
            return digest
        except OSError as error:
            _discard(path)
            raise FetchError("disk", "can't write {}: {}".format(path, error.strerror or error)) from error
        except BaseException:
            _discard(path)
            raise

    def _offers(self, project: str) -> tuple[list[Link], list[FetchError]]:
        places = list(self._config.find_links)
        places += ["{}/{}/".format(index.rstrip("/"), project) for index in self._config.indexes]
        found: list[Link] = []
        failures: list[FetchError] = []
        for place in places:
            try:
                found += self._links(place)
            except FetchError as error:
                if error.kind == "timeout":
                    raise
                failures.append(error)
        return found, failures

    def _links(self, place: str) -> list[Link]:
        if place not in self._known:
            self._known[place] = self._read(place)
        return self._known[place]

    def _read(self, place: str) -> list[Link]:
        url = place if "://" in place or place.startswith("file:") else _file_url(place)
        if url.startswith("file:"):
            directory = urllib.request.url2pathname(urlsplit(url).path)
            if os.path.isdir(directory):
                if not os.path.exists(os.path.join(directory, "index.html")):
                    return links_of_directory(directory)
                url = url.rstrip("/") + "/index.html"
        return links_of_page(*self._fetcher.page(url))


def links_of_page(body: bytes, content_type: str, url: str) -> list[Link]:
    """The files named on an index's page that was found at ``url``.

    Raises :class:`FetchError` (``refused``) if the page is no page of an index.
    """
    try:
        if content_type.endswith("json"):
            return _links_of_json(json.loads(body.decode("utf-8")), url)
        parser = _Anchors()
        parser.feed(body.decode("utf-8", "replace"))
        parser.close()
        base = urljoin(url, parser.base)
        return [link for link in (_link(urljoin(base, href)) for href in parser.hrefs) if link is not None]
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError, RecursionError) as error:
        raise FetchError("refused", "{} is no page of a package index".format(redacted(url))) from error


def links_of_directory(directory: str) -> list[Link]:
    """The wheels in a directory."""
    names = sorted(name for name in os.listdir(directory) if name.endswith(".whl"))
    return [Link(name, _file_url(os.path.join(directory, name)), "") for name in names]


def _links_of_json(page: dict[str, list[dict[str, object]]], url: str) -> list[Link]:
    found = []
    for entry in page["files"]:
        hashes = entry.get("hashes")
        sha256 = str(hashes.get("sha256", "")) if isinstance(hashes, dict) else ""
        found.append(Link(str(entry["filename"]), urljoin(url, str(entry["url"])), sha256.lower()))
    return found


def _link(url: str) -> Link | None:
    address, fragment = urldefrag(url)
    filename = unquote(urlsplit(address).path.rpartition("/")[2])
    kind, _, value = fragment.partition("=")
    return Link(filename, address, value.lower() if kind == "sha256" else "") if filename else None


class _Anchors(HTMLParser):
    """Collects where a page's links lead, and its base."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if href and tag == "base" and not self.base:
            self.base = href
        elif href and tag == "a":
            self.hrefs.append(href)


def _file_url(path: str) -> str:
    return urljoin("file:", urllib.request.pathname2url(os.path.abspath(path)))


def _is_of(project: str, filename: str) -> bool:
    """Whether a wheel's name says that it is of this project; a directory offers those of all projects."""
    return re.sub(r"[-_.]+", "-", filename.partition("-")[0]).lower() == project


def _discard(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
