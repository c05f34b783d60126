# Airflow 3.3.0 on Python 3.12. Keep the Python suffix: without it the image brings Python 3.14,
# where dbt and the Great Expectations provider fail. See docs/versions.md.
FROM astrocrpublic.azurecr.io/runtime:3.3-2-python-3.12

ENV AIRFLOW__COSMOS__ENABLE_TELEMETRY=False \
    DBT_SEND_ANONYMOUS_USAGE_STATS=False \
    DBT_USE_COLORS=False \
    DO_NOT_TRACK=1 \
    GX_ANALYTICS_ENABLED=False \
    MALLOC_ARENA_MAX=2 \
    MALLOC_MMAP_THRESHOLD_=1048576 \
    SCARF_NO_ANALYTICS=1

# A Celery worker loads no Airflow plugin: `imports` warms it up before it forks. A message comes back to
# the queue when its worker has not acknowledged it after ten minutes, longer than any task may run.
ENV AIRFLOW__CELERY__EXTRA_CELERY_CONFIG='{"imports": ["include.chimera.flow.warm_start.celery_worker"], "broker_transport_options": {"visibility_timeout": 600}}'

# A lost worker is noticed after a minute, a lost message after three: see docs/workers.md.
ENV AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT=60 \
    AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT=180 \
    AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL=30 \
    AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES=10 \
    AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL=60

USER root
# Without bytecode each new process pays for compilation: `import great_expectations` takes 9 s, not 3 s.
RUN cd "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && python -m compileall -q -j 0 \
        great_expectations dbt cosmos pandas duckdb deltalake pyarrow sqlalchemy
# .chimera is a volume under `astro dev start`: it takes its owner from this folder.
RUN mkdir -p .chimera .airflow-dbt include/dbt/logs \
    && chown -R astro:0 .chimera .airflow-dbt include/dbt

USER astro
# Into .airflow-dbt, which the mounts of `astro dev start` leave as it is.
RUN python -m include.chimera manifest
