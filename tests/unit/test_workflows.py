"""Actions that run with the repository's rights in GitHub's workflows are pinned."""

from __future__ import annotations

import re

import pytest
import yaml

from include.chimera.paths import PROJECT

WORKFLOWS = PROJECT / ".github" / "workflows"
BY_TAG = {"astronomer/deploy-action@v0.9.0"}  # docs/security.md says why


@pytest.mark.parametrize("name", sorted(path.name for path in WORKFLOWS.glob("*.yml")))
def test_actions_are_pinned_by_commit(name: str) -> None:
    """A tag can be moved to another commit; the comment tells people which version it is."""
    lines = re.findall(r"uses: (.*)", (WORKFLOWS / name).read_text())
    assert lines
    pinned = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert not [line for line in lines if line not in BY_TAG and not pinned.fullmatch(line)]


def test_a_preview_may_write_nothing_and_a_fork_is_told_why_it_has_none() -> None:
    """It runs a change's own code beside a key of production's lake."""
    workflow = yaml.safe_load((WORKFLOWS / "preview.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow[True]) == {"pull_request"}, "YAML takes `on` for true"
    (job,) = workflow["jobs"].values()
    assert not {"permissions", "secrets"} & job.keys()
    told, *others = job["steps"]
    assert "GITHUB_STEP_SUMMARY" in told["run"]
    assert "forks" in told["run"]
    for step in others:
        assert "env.LAKE != '' && env.HAS_KEY == 'true'" in step["if"]
    with_keys = [step["name"] for step in others if "secrets." in str(step.get("env"))]
    assert with_keys == ["Preview"]
    # What a pull request names must not become part of a script.
    assert not [step for step in job["steps"] if "${{" in step.get("run", "")]
