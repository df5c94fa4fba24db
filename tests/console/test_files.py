"""The files that pages load: as they came, small, and all English in one place."""

import gzip
import hashlib
import re

from app.console import pages, texts

# Of the style sheet, the scripts and the icon, which a browser loads once.
MOST_BYTES = 80_000


def test_what_is_not_ours_is_as_it_came_with_its_licence_beside_it() -> None:
    notes = (pages.STATIC / "README.md").read_text()
    digest = hashlib.sha256((pages.STATIC / "htmx.min.js").read_bytes()).hexdigest()
    assert f"`{digest}`" in notes
    [version] = re.findall(r"`htmx.org`, version (\S+),", notes)
    assert f'this.version="{version}"' in (pages.STATIC / "htmx.min.js").read_text()
    assert (pages.STATIC / "htmx.licence.txt").read_text().startswith("Zero-Clause BSD")


def test_the_files_of_a_first_visit_are_small() -> None:
    files = [path for path in pages.STATIC.iterdir() if path.suffix in (".css", ".js", ".svg")]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    assert len(gzip.compress(b"".join(path.read_bytes() for path in files))) < MOST_BYTES // 3


def test_no_template_has_a_sentence_or_an_inline_script_or_style() -> None:
    for path in (pages.HERE / "templates").iterdir():
        template = path.read_text()
        assert not re.search(r"<script>|<style|\son\w+=|\sstyle=|\|safe|hx-on", template), path.name
        markup = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", "", template)
        markup = re.sub(r"(?s)<pre.*?</pre>|<[^>]*>", "", markup)
        assert re.findall(r"[A-Za-z]{3,}", re.sub("htmx|static|UTC", "", markup)) == [], path.name


def test_every_text_is_used() -> None:
    sources = [*pages.HERE.glob("*.py"), *(pages.HERE / "templates").iterdir()]
    everything = "\n".join(path.read_text() for path in sources)
    names = [name for name in vars(texts) if name.isupper()]
    assert [name for name in names if not re.search(rf"\b(t|texts)\.{name}\b", everything)] == []
