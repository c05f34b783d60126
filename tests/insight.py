"""Read the insight page again."""

import json
import re
from html.parser import HTMLParser


class Reader(HTMLParser):
    """The page's tables by topic, its queries, and every tag.

    Args:
        page: Its HTML.
    """

    def __init__(self, page):
        super().__init__()
        self.topic, self.tags, self.cells = "", [], {}
        self.queries, self.texts, self._place = {}, [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._place = tag if tag not in ("bdi", "b") else self._place
        if tag == "section":
            self.topic = dict(attrs)["id"]
        elif tag == "tr":
            self.cells.setdefault(self.topic, []).append([])
        elif tag == "td":
            self.cells[self.topic][-1].append("")

    def handle_endtag(self, tag):
        self._place = "" if tag in ("td", "pre", "tr") else self._place

    def handle_data(self, data):
        self.texts.append(data)
        if self._place == "td":
            self.cells[self.topic][-1][-1] += data
        elif self._place == "pre":
            self.queries[self.topic] = self.queries.get(self.topic, "") + data

    def rows(self, topic):
        return [tuple(row) for row in self.cells[topic] if row]


def specs(page):
    """Return the specifications of its charts."""
    return json.loads(re.search(r'id="specs">(.*?)</script>', page, re.DOTALL)[1])
