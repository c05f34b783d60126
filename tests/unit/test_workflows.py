"""Actions that run with the repository's rights in GitHub's workflows are pinned."""

from __future__ import annotations

import re

import pytest

from include.chimera.paths import PROJECT

BY_TAG = {"astronomer/deploy-action@v0.9.0"}  # docs/security.md says why


@pytest.mark.parametrize("name", ["ci.yml", "deploy.yml", "nightly.yml"])
def test_actions_are_pinned_by_commit(name: str) -> None:
    """A tag can be moved to another commit; the comment tells people which version it is."""
    lines = re.findall(r"uses: (.*)", (PROJECT / ".github/workflows" / name).read_text())
    assert lines
    pinned = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert not [line for line in lines if line not in BY_TAG and not pinned.fullmatch(line)]
