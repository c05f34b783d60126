"""Replay of dead letters.

**Purpose.** Publish records that were refused for a reason that is now fixed: a rule, a parser.

**Schedule.** None: trigger it after the fix, for one bronze table (`source`), single letters
(`letter_ids`) or every waiting letter.

**Inputs, outputs.** `ops.dead_letters`; the bronze tables, through their gates.

**On failure.** Nothing is lost: trigger it again. A letter is tried three times, then parked.

**Owner.** data-platform
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from include.chimera.contracts import REPLAYED
from include.chimera.flow.delivery.callbacks import tell_run_failure
from include.chimera.flow.doc_pages.task_pages import page
from include.chimera.flow.retry_policy import minutes_of
from include.chimera.flow.tasks import replay_letters
from include.chimera.settings import get_settings

with DAG(
    dag_id="chimera_dead_letter_replay",
    doc_md=page(__doc__, runbook="Rows are refused", table="ops.dead_letters"),
    description="Parse, judge and publish waiting dead letters again",
    schedule=None,
    is_paused_upon_creation=False,  # it only runs when triggered
    start_date=get_settings().start_date,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=minutes_of(30),
    on_failure_callback=tell_run_failure,
    default_args={"owner": "data-platform"},
    params={
        "source": Param(None, type=["null", "string"], enum=[None, *REPLAYED]),
        "letter_ids": Param(
            [], type="array", items={"type": "string", "pattern": "^[0-9a-f]{32}$"}
        ),
    },
    tags=["chimera"],
) as dag:
    replay_letters()
