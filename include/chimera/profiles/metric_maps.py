"""The format of a profile's `metrics.yml`: what is asked of Prometheus for each kept metric."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import Field, ValidationError

from include.chimera.contracts import PROVIDER_METRICS
from include.chimera.errors import ConfigurationError
from include.chimera.profiles.chosen import intake_of
from include.chimera.profiles.profile_format import Part, PrometheusReader, read_document, words_of

if TYPE_CHECKING:
    from pathlib import Path

    from include.chimera.profiles.chosen import Intake

Metric = Literal[
    "llm_provider_up",
    "llm_requests_total",
    "llm_request_errors_total",
    "llm_tokens_total",
    "llm_request_duration_seconds_bucket",
    "llm_request_duration_seconds_sum",
    "llm_request_duration_seconds_count",
]
METRICS: tuple[str, ...] = get_args(Metric)


class MetricMap(Part):
    """What a platform's metrics are called.

    Args:
        heartbeat: The metric, by name alone, that has a sample from each scrape as long as the
            platform is watched: by it an hour is complete.
        provider: Labels that may name the provider; the first that a series has counts.
        model: The same for the model.
        default_provider: The provider of series without such a label; "": unknown.
        metrics: PromQL by kept metric: its name there, or an expression. Several series of one
            metric stay several series.
        rare: Kept metrics that may have no series, because nothing has happened.
    """

    heartbeat: str = Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    provider: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    default_provider: str = ""
    metrics: dict[Metric, tuple[str, ...]] = Field(min_length=1)
    rare: tuple[Metric, ...] = ()

    @property
    def queries(self) -> list[tuple[str, str]]:
        """Each kept metric with a PromQL query of it."""
        return [(name, query) for name, queries in self.metrics.items() for query in queries]


def metric_map(intake: Intake | None = None) -> MetricMap:
    """Return the map by which a profile reads metrics; None: the chosen one's.

    Raises:
        ConfigurationError: No profile reads metrics of a Prometheus, or its map is not as the
            format says.
    """
    intake = intake or intake_of(PROVIDER_METRICS.name)
    if not isinstance(intake.reader, PrometheusReader):
        raise ConfigurationError(
            expected=f"a profile that reads {PROVIDER_METRICS.name} from Prometheus",
            came=f"{intake.profile}, which reads {intake.reader.shown}",
            where=f"include/profiles/{intake.profile}/profile.yml",
            remedy="let a reader of the kind `prometheus` fill the table",
        )
    return _read(intake.folder / intake.reader.metrics)


@cache
def _read(path: Path) -> MetricMap:
    try:
        return MetricMap.model_validate(read_document(path))
    except (ValidationError, ValueError) as error:
        raise ConfigurationError(
            expected="a map as include/chimera/profiles/metric_maps.py says",
            came=words_of(error),
            where=f"include/profiles/{path.parent.name}/{path.name}",
            remedy="correct it; the other profiles are examples",
        ) from None
