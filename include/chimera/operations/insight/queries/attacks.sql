select
    model_id,
    technique,
    framework,
    trial_count,
    successful_trial_count,
    attack_success_ratio,
    attack_success_lower_ratio,
    attack_success_upper_ratio,
    last_evaluation_date
from gold.agg_technique_by_framework
where evaluation_kind = 'attack' and trial_count > 0
order by attack_success_upper_ratio, model_id, technique, framework
