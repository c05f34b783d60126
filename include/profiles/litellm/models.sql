-- One row per model that LiteLLM serves from its database; those of its config.yaml are not there.
--
-- Several deployments may share a name, and the newest one stands for them. litellm_params are encrypted. Prices in model_info are USD per
-- token, and are there only where somebody gave them.
select distinct on (model_id)
    models.model_id,
    models.provider_id,
    models.model_name as name,
    models.input_usd_per_mtok,
    models.output_usd_per_mtok,
    models.context_tokens,
    models.is_enabled,
    models.updated_at
from (select false as blocked) as missing -- before 2026-05-14
cross join lateral (
    select
        coalesce(nullif(model_info ->> 'base_model', ''), model_name) as model_id,
        nullif(model_info ->> 'litellm_provider', '') as provider_id,
        model_name,
        case
            when jsonb_typeof(model_info -> 'input_cost_per_token') = 'number'
                then cast(model_info ->> 'input_cost_per_token' as double precision) * 1e6
        end as input_usd_per_mtok,
        case
            when jsonb_typeof(model_info -> 'output_cost_per_token') = 'number'
                then cast(model_info ->> 'output_cost_per_token' as double precision) * 1e6
        end as output_usd_per_mtok,
        case
            when jsonb_typeof(model_info -> 'max_input_tokens') = 'number'
                then cast(cast(model_info ->> 'max_input_tokens' as numeric) as bigint)
        end as context_tokens,
        not blocked as is_enabled,
        updated_at at time zone 'UTC' as updated_at
    from "LiteLLM_ProxyModelTable"
) as models
order by model_id, models.updated_at desc
