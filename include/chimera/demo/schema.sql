-- The sample application's database. Run on each seeding, so each statement may be repeated.
create schema if not exists app;

create table if not exists app.generations (
    generation_id uuid primary key,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    user_id text,
    session_id text,
    request_id text,
    provider_id text,
    model_id text,
    prompt_tokens bigint,
    completion_tokens bigint,
    latency_ms double precision,
    ttft_ms double precision,
    status text not null,
    error_code text,
    techniques text[],
    cost_usd numeric(18, 9)
);

create index if not exists generations_updated_at on app.generations (updated_at);

create table if not exists app.evaluations (
    evaluation_id uuid primary key,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    provider_id text,
    model_id text,
    framework text,
    technique text,
    behaviour_id text,
    iterations bigint,
    successes bigint,
    judge text,
    status text not null
);

create index if not exists evaluations_updated_at on app.evaluations (updated_at);

create table if not exists app.models (
    model_id text primary key,
    provider_id text,
    name text,
    input_usd_per_mtok double precision,
    output_usd_per_mtok double precision,
    context_tokens bigint,
    is_enabled boolean,
    updated_at timestamptz not null
);

create index if not exists models_updated_at on app.models (updated_at);

-- The demo's own memory, which the pipeline never reads: which hours exist, and made of what.
create schema if not exists app_demo;

create table if not exists app_demo.seeded_hours (
    hour timestamptz primary key,
    fingerprint text not null,
    generations bigint not null,
    evaluations bigint not null,
    log_lines bigint not null,
    metric_samples bigint not null
);
