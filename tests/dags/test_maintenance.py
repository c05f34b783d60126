"""What the daily maintenance removes."""

import os
import time
from pathlib import Path

import pytest

from include.chimera.flow.maintenance import log_folders, remove_old_files


def log(folder: Path, name: str, days: float) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}\n")
    moment = time.time() - days * 86_400
    os.utime(path, (moment, moment))
    return path


@pytest.mark.parametrize("dry_run", [True, False])
def test_old_logs_go_with_their_folders_and_young_ones_stay(tmp_path: Path, dry_run: bool) -> None:
    old = log(tmp_path, "dag_id=a/run_id=1/task_id=x/attempt=1.log", 31)
    young = log(tmp_path, "dag_id=a/run_id=2/task_id=x/attempt=1.log", 29)
    other = log(tmp_path, "dag_id=a/run_id=2/notes.txt", 99)
    done = remove_old_files(tmp_path, 30, dry_run=dry_run)
    assert done == {"kind": "logs", "name": tmp_path.name, "count": 1, "size_bytes": 3}
    assert young.exists()
    assert other.exists()
    assert old.exists() is dry_run
    assert old.parents[1].exists() is dry_run


def test_logs_of_tasks_and_of_dag_files_are_looked_at_once(tmp_path, monkeypatch) -> None:
    """By default the one folder is inside the other."""
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
    for inner, expected in (
        (tmp_path / "dag_processor", [tmp_path]),
        (tmp_path.parent / "dags", [tmp_path.parent / "dags", tmp_path]),
    ):
        option = "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY"
        monkeypatch.setenv(option, str(inner))
        assert log_folders() == sorted(expected)
