"""A hook of mkdocs: what the pages link to outside of docs/ is part of the site too.

The pages' links are relative, so that they lead somewhere in the repository as well. Markdown becomes pages, other
files (YAMLs, code) are shown as they are, as text.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r'\]\((?!\w+:|#)([^)#\s]+)')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file that a page, or a page so added, links to."""
    docs = Path(config.docs_dir)
    root = docs.parent
    waiting = [f'docs/{file.src_uri}' for file in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        for link in LINK.findall((root / page).read_text(encoding='utf-8')):
            target = normpath(PurePosixPath(page).parent / link)
            place = _place(target)
            if target.startswith('docs/') or place in files.src_uris or not (root / target).is_file():
                continue
            files.append(_file(config, root, target))
            if target.endswith('.md'):
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead each link to where its target is in the site."""
    source = page.file.src_uri
    home = PurePosixPath(source if page.file.generated_by else f'docs/{source}').parent

    def moved(match: re.Match) -> str:
        target = _place(normpath(home / match[1]))
        up = '../' * (len(PurePosixPath(source).parts) - 1)
        return f']({up}{target}'

    return LINK.sub(moved, markdown)


def _place(target: str) -> str:
    """Where a file of the repository is in the site, before mkdocs makes pages of Markdown."""
    if target.startswith('docs/'):
        return target.removeprefix('docs/')
    if target == 'README.md':
        return 'readme-of-the-repository.md'
    return target if target.endswith(('.md', '.png')) else f'{target}.txt'


def _file(config: MkDocsConfig, root: Path, target: str) -> File:
    return File.generated(config, _place(target), abs_src_path=str(root / target))
