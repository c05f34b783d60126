-- The role of the pipeline in the application's database: it reads, and only what the contracts name.
-- Run once as the database's owner or a superuser, then set a password (`\password chimera_reader` in
-- psql) and give it to the Airflow connection `app_db` alone. May be repeated.
do $$
begin
    if not exists (select from pg_roles where rolname = 'chimera_reader') then
        create role chimera_reader;
    end if;
end
$$;

alter role chimera_reader
    login nosuperuser nocreatedb nocreaterole noreplication nobypassrls inherit connection limit 8;
alter role chimera_reader set default_transaction_read_only = on;
alter role chimera_reader set statement_timeout = '5min';
alter role chimera_reader set idle_in_transaction_session_timeout = '5min';

-- To see since when other sessions' transactions are open: the bound up to which reading is safe.
grant pg_read_all_stats to chimera_reader;

revoke all on all tables in schema app from chimera_reader;
grant usage on schema app to chimera_reader;

-- Columns by name: one that the application adds later, such as a prompt's text, stays out of reach.
grant select (
    generation_id, created_at, updated_at, user_id, session_id, request_id, provider_id,
    model_id, prompt_tokens, completion_tokens, latency_ms, ttft_ms, status, error_code,
    techniques, cost_usd
) on app.generations to chimera_reader;

grant select (
    evaluation_id, created_at, updated_at, provider_id, model_id, framework, technique,
    behaviour_id, iterations, successes, judge, status
) on app.evaluations to chimera_reader;

grant select (
    model_id, provider_id, name, input_usd_per_mtok, output_usd_per_mtok, context_tokens,
    is_enabled, updated_at
) on app.models to chimera_reader;
