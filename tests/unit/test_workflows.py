"""What GitHub runs with the repository's rights. Pins and rights are zizmor's, in `make check`."""

from __future__ import annotations

import yaml

from include.chimera.paths import PROJECT

WORKFLOWS = PROJECT / ".github" / "workflows"


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
