"""What differs between the suite's assumptions and a lake on DuckDB.

`LEFT_OUT` only shrinks: classes and tests with the reason why they can't pass; one that does pass
fails the suite. `FIXTURES` gives classes the fixtures that the suite asks each adapter for: types,
literals, expected names.
"""

from __future__ import annotations

import inspect
from codecs import BOM_UTF8
from pathlib import Path

import pytest
from dbt.tests.adapter.basic.expected_catalog import (
    base_expected_catalog,
    expected_references_catalog,
    no_stats,
)
from dbt.tests.adapter.python_model import test_python_model
from dbt.tests.adapter.sample_mode import fixtures as sample_mode_fixtures
from dbt.tests.adapter.simple_seed import fixtures as seed_fixtures
from dbt.tests.adapter.simple_seed import seeds
from dbt.tests.adapter.simple_snapshot import test_various_configs
from dbt.tests.adapter.utils import fixture_date_spine, fixture_get_intervals_between
from dbt.tests.util import check_relations_equal, read_file, run_dbt
from dbt_common.exceptions import DbtRuntimeError

CORE = ("basic.", "incremental.")
TARGET = {
    "type": "duckdb",
    "path": ":memory:",
    "threads": 4,
    "plugins": [{"module": "include.chimera.lake.dbt_plugin.plugin", "alias": "lake"}],
}

_FUNCTIONS = "dbt-duckdb has no functions (UDFs)"
_MATERIALIZED = "neither DuckDB nor Delta has materialized views"
_ABSTRACT = "only a base: its subclasses, which have models, run"
_GRANTS = "needs users to grant to; the lake refuses grants, which tests/integration checks"
_SPARK = "needs a Spark session"
_CASCADE = "expects that reseeding drops the views that read the seed; the lake keeps them"
_EMPTY_SEED = "dbt-core 1.11 has no `dbt seed --empty`"

LEFT_OUT: dict[str, str] = {
    **{
        f"empty.test_empty.BaseTestEmptySeedFlag.{test}": _EMPTY_SEED
        for test in (
            "test_build_empty_with_seed",
            "test_seed_empty_creates_table_with_zero_rows",
            "test_seed_empty_preserves_column_types",
        )
    },
    **{
        f"constraints.test_constraints.BaseConstraintsColumnsEqual.test__constraints_{test}": (
            _ABSTRACT
        )
        for test in ("wrong_column_order", "wrong_column_names", "wrong_column_data_types")
    },
    **{
        f"functions.test_udfs.{name}": _FUNCTIONS
        for name in (
            "UDFsBasic",
            "DeterministicUDF",
            "StableUDF",
            "NonDeterministicUDF",
            "PythonUDFSupported",
            "SqlUDFDefaultArgSupport",
            "PythonUDFDefaultArgSupport",
            "PythonUDFVolatilitySupport",
            "CanFindScalarFunctionRelation",
            "PythonUDFWithPackagesSupported",
        )
    },
    "basic.test_get_catalog_for_single_relation.BaseGetCatalogForSingleRelation": (
        "dbt-duckdb's adapter has no method get_catalog_for_single_relation"
    ),
    "caching.test_caching.BaseCachingTest": _ABSTRACT,
    "catalog.relation_types.CatalogRelationTypes": _MATERIALIZED,
    "column_types.test_column_types.BasePostgresColumnTypes": (
        "dbt-duckdb does not know DECIMAL(18,3) as numeric; all other types of the test do pass"
    ),
    "constraints.test_constraints.BaseContractSqlHeader": _ABSTRACT,
    "grants.test_incremental_grants.BaseIncrementalGrants": _GRANTS,
    "grants.test_invalid_grants.BaseInvalidGrants": _GRANTS,
    "grants.test_model_grants.BaseModelGrants": _GRANTS,
    "grants.test_seed_grants.BaseSeedGrants": _GRANTS,
    "grants.test_snapshot_grants.BaseSnapshotGrants": _GRANTS,
    "materialized_view.basic.MaterializedViewBasic": _MATERIALIZED,
    "materialized_view.changes.MaterializedViewChanges": _MATERIALIZED,
    "materialized_view.changes.MaterializedViewChangesApplyMixin": _MATERIALIZED,
    "materialized_view.changes.MaterializedViewChangesContinueMixin": _MATERIALIZED,
    "materialized_view.changes.MaterializedViewChangesFailMixin": _MATERIALIZED,
    "functions.test_js_udfs": _FUNCTIONS,
    "functions.test_udafs": _FUNCTIONS,
    "python_model.test_spark.BasePySparkTests": _SPARK,
    "simple_copy.test_simple_copy.SimpleCopyBase.test_simple_copy_with_materialized_views": (
        _MATERIALIZED
    ),
    "simple_seed.test_seed.BaseBasicSeedTests.test_simple_seed_full_refresh_flag": _CASCADE,
    "simple_seed.test_seed.BaseSeedConfigFullRefreshOn": _CASCADE,
    "utils.base_array_utils.BaseArrayUtils.test_expected_actual": _ABSTRACT,
    "utils.data_types.base_data_type_macro.BaseDataTypeMacro": _ABSTRACT,
    "utils.test_current_timestamp.BaseCurrentTimestampNaive.test_current_timestamp_type": (
        "now() has a zone in DuckDB, as BaseCurrentTimestampAware checks"
    ),
    "utils.test_escape_single_quotes.BaseEscapeSingleQuotesBackslash": (
        "DuckDB escapes a quote by doubling it, as BaseEscapeSingleQuotesQuote checks"
    ),
}


_CATALOG = {
    "role": None,
    "id_type": "INTEGER",
    "text_type": "VARCHAR",
    "time_type": "TIMESTAMP",
    "view_type": "VIEW",
    "table_type": "BASE TABLE",
    "model_stats": no_stats(),
}


class Catalog:
    @pytest.fixture(scope="class")
    def expected_catalog(self, project):
        return base_expected_catalog(project, **_CATALOG)


class ReferencesCatalog:
    @pytest.fixture(scope="class")
    def expected_catalog(self, project):
        return expected_references_catalog(project, **_CATALOG, bigint_type="BIGINT")


class ColumnTypes:
    @pytest.fixture
    def string_type(self):
        return "VARCHAR"

    @pytest.fixture
    def int_type(self):
        return "INTEGER"

    @pytest.fixture
    def data_types(self, string_type, int_type):
        # A value, its type in the contract, and how an error message names it.
        return [
            ["1", int_type, int_type],
            ["'1'", string_type, string_type],
            ["true", "bool", "BOOL"],
            ["timestamp '2013-11-03 00:00:00'", "TIMESTAMP", "TIMESTAMP"],
            ["timestamptz '2013-11-03 00:00:00-07'", "TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"],
            ["['a', 'b']", "VARCHAR[]", "VARCHAR[]"],
            ["cast('1' as numeric)", "numeric", "DECIMAL"],
            ["cast('{}' as json)", "json", "JSON"],
        ]


class NotNullMessage:
    @pytest.fixture(scope="class")
    def expected_error_messages(self):
        return ["constraint failed", "not null on id"]


class HookTables:
    """The tables into which the suite's hooks write."""

    @pytest.fixture(scope="class")
    def test_data_dir(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("data")
        names = ("test_state", "target_dbname", "target_host", "target_name", "target_schema",
                 "target_type", "target_user", "target_pass", "target_threads", "run_started_at",
                 "invocation_id", "thread_id")  # fmt: skip
        kinds = {"target_threads": "integer"}
        columns = ", ".join(f"{name} {kinds.get(name, 'varchar')}" for name in names)
        for file, table in (("seed_model", "on_model_hook"), ("seed_run", "on_run_hook")):
            (folder / f"{file}.sql").write_text(
                f"drop table if exists {{schema}}.{table};\n"
                f"create table {{schema}}.{table} ({columns})"
            )
        return folder


class HookContext(HookTables):
    """What hooks know of a target that has no server and no users."""

    def check_hooks(self, state, project, host, count=1):
        del host
        several = "count" in inspect.signature(self.get_ctx_vars).parameters
        found = (
            self.get_ctx_vars(state, count=count, project=project)
            if several
            else [self.get_ctx_vars(state, project)]
        )
        for context in found:
            assert context["test_state"] == state
            assert context["target_name"] == "default"
            assert context["target_schema"] == project.test_schema
            assert context["target_threads"] == 4
            assert context["target_type"] == "duckdb"
            assert context["run_started_at"]
            assert context["invocation_id"]
            assert context["thread_id"].startswith(("Thread-", "MainThread"))


class EphemeralMulti:
    """The text of the statement is DuckDB's; the common table expressions are dbt's."""

    def test_ephemeral_multi(self, project):
        run_dbt(["seed"])
        assert len(run_dbt(["run"])) == 3
        for model in ("dependent", "double_dependent", "super_dependent"):
            check_relations_equal(project.adapter, ["seed", model])
        written = read_file("target", "run", "test", "models", "double_dependent.sql")
        assert written.startswith("create view")
        assert written.count("__dbt__cte__base as (") == 1


@pytest.mark.usefixtures("project")
class EphemeralNested:
    def test_ephemeral_nested(self):
        assert len(run_dbt(["run"])) == 2
        written = read_file("target", "run", "test", "models", "root_view.sql")
        assert written.startswith("create view")
        assert written.index("__dbt__cte__ephemeral_level_two") < written.index(
            "__dbt__cte__ephemeral as"
        )


class PythonFilter:
    """A DuckDB relation is filtered by SQL, not by a column object."""

    @pytest.fixture(scope="class")
    def models(self):
        code = test_python_model.incremental_python.replace("df.id > 5", "'id > 5'")
        return {"m_1.sql": test_python_model.m_1, "incremental.py": code}


class SeedWithMark:
    """The suite's own file with a byte order mark is not part of its package."""

    @pytest.fixture(scope="class", autouse=True)
    def setUp(self, project):
        project.run_sql(seeds.seeds__expected_sql)
        path = Path(project.project_root) / "seeds" / "seed_bom.csv"
        path.write_bytes(BOM_UTF8 + seeds.seed__actual_csv.lstrip().encode())


class InputLiterals:
    """DuckDB's TIMESTAMP literals have no zone."""

    @pytest.fixture(scope="class")
    def input_model_sql(self):
        return sample_mode_fixtures.input_model_sql.replace("-0'", "'")


class MicrobatchLiterals:
    """DuckDB's TIMESTAMP literals have no zone."""

    @pytest.fixture(scope="class")
    def input_model_sql(self):
        return """
        {{ config(materialized='table', event_time='event_time') }}
        select 1 as id, timestamp '2020-01-01 00:00:00' as event_time
        union all
        select 2 as id, timestamp '2020-01-02 00:00:00' as event_time
        union all
        select 3 as id, timestamp '2020-01-03 00:00:00' as event_time
        """

    @pytest.fixture(scope="class")
    def insert_two_rows_sql(self, project):
        return (
            f"insert into {project.test_schema}.input_model (id, event_time) values "
            "(4, timestamp '2020-01-04 00:00:00'), (5, timestamp '2020-01-05 00:00:00')"
        )


class StatementText:
    """A model under contract is a view that the lake then writes, not a CREATE TABLE."""

    @pytest.fixture(scope="class")
    def expected_sql(self):
        return """
        create or replace temporary view <model_identifier> as (select id, color, date_day from (
            -- depends_on: <foreign_key_model_identifier>
            select 'blue' as color, 1 as id, '2019-01-01' as date_day
        ) as model_subq)
        """


class QuotedStatementText:
    """As above, with a column whose name is a keyword."""

    @pytest.fixture(scope="class")
    def expected_sql(self):
        return """
        create or replace temporary view <model_identifier> as (select id, "from", date_day from (
            select 'blue' as "from", 1 as id, '2019-01-01' as date_day
        ) as model_subq)
        """


class MissingColumnHook:
    """dbt-duckdb has one exception for what DuckDB refuses."""

    def test_missing_column_pre_hook(self, project):
        del project
        with pytest.raises(DbtRuntimeError, match="Catalog Error"):
            run_dbt(["run"], expect_pass=False)


class PandasRows:
    """The session is DuckDB's, not Spark's: rows come as a data frame."""

    @pytest.fixture(scope="class")
    def models(self):
        suite = test_python_model
        made = "session.createDataFrame(data, ["
        pandas = "__import__('pandas').DataFrame(data, columns=["
        return {
            "meta_test.py": suite.python_model_meta_get.replace(made, pandas),
            "meta_from_schema.py": suite.python_model_meta_from_schema.replace(made, pandas),
            "schema.yml": suite.schema_yml_with_meta,
        }


def _typed(yml: str, name: str, text: str) -> type:
    """Return the fixture of models whose dates are typed, as the suite does for PostgreSQL."""

    class TypedDates:
        @pytest.fixture(scope="class")
        def models(self):
            return {f"{name}.yml": yml, f"{name}.sql": text.replace("'postgres'", "'duckdb'")}

    return TypedDates


class TimestampNames:
    """DuckDB's names of types."""

    @pytest.fixture(scope="class")
    def expected_schema(self):
        return {
            "current_timestamp": "TIMESTAMP WITH TIME ZONE",
            "current_timestamp_in_utc_backcompat": "TIMESTAMP",
            "current_timestamp_backcompat": "TIMESTAMP",
        }

    @pytest.fixture(scope="class")
    def expected_sql(self):
        return None


class SeedTypeNames:
    """DuckDB's names of types."""

    @pytest.fixture(scope="class")
    def models(self):
        text = seed_fixtures.properties__schema_yml
        names = {"timestamp without time zone": "TIMESTAMP", "text": "character varying(256)",
                 "date": "DATE", "boolean": "BOOLEAN", "integer": "INTEGER"}  # fmt: skip
        for ours, theirs in names.items():
            text = text.replace(f"type: {ours}\n", f"type: {theirs}\n")
        return {"schema.yml": text}


class SingleFloat:
    """DuckDB's float is single, the number of a seed is double if nobody says what it is."""

    @pytest.fixture(scope="class")
    def project_config_update(self):
        return {"seeds": {"test": {"+column_types": {"float_col": "float"}}}}


class LakeTarget:
    """The suite's own profile is PostgreSQL's."""

    @pytest.fixture(scope="class")
    def dbt_profile_target(self):
        return dict(TARGET)


class OrderedVersions:
    """The suite takes rows by position, which only an order of theirs gives."""

    @pytest.fixture(autouse=True)
    def rows_in_order(self, monkeypatch):
        run, order = test_various_configs.run_sql_with_adapter, "id >= 10 and test_valid_to > date"
        monkeypatch.setattr(
            test_various_configs,
            "run_sql_with_adapter",
            lambda adapter, sql, fetch: run(
                adapter, f"{sql} order by {order} '2099-01-01', id", fetch
            ),
        )


FIXTURES: dict[str, tuple[type, ...]] = {
    "basic.test_docs_generate.BaseDocsGenerate": (Catalog,),
    "basic.test_docs_generate.BaseDocsGenReferences": (ReferencesCatalog,),
    "constraints.test_constraints.BaseTableConstraintsColumnsEqual": (ColumnTypes,),
    "constraints.test_constraints.BaseViewConstraintsColumnsEqual": (ColumnTypes,),
    "constraints.test_constraints.BaseIncrementalConstraintsColumnsEqual": (ColumnTypes,),
    "constraints.test_constraints.BaseConstraintsRollback": (NotNullMessage,),
    "constraints.test_constraints.BaseIncrementalConstraintsRollback": (NotNullMessage,),
    "constraints.test_constraints.BaseConstraintsRuntimeDdlEnforcement": (StatementText,),
    "constraints.test_constraints.BaseIncrementalConstraintsRuntimeDdlEnforcement": (
        StatementText,
    ),
    "constraints.test_constraints.BaseModelConstraintsRuntimeEnforcement": (StatementText,),
    "constraints.test_constraints.BaseConstraintQuotedColumn": (QuotedStatementText,),
    "hooks.test_run_hooks.BaseAfterRunHooks": (MissingColumnHook,),
    "python_model.test_python_model.BasePythonMetaGetTests": (PandasRows,),
    "simple_copy.test_copy_uppercase.BaseSimpleCopyUppercase": (LakeTarget,),
    "simple_seed.test_seed_type_override.BaseSimpleSeedColumnOverride": (SeedTypeNames,),
    "simple_snapshot.test_various_configs.BaseSnapshotDbtValidToCurrent": (OrderedVersions,),
    "utils.data_types.test_type_float.BaseTypeFloat": (SingleFloat,),
    "utils.test_date_spine.BaseDateSpine": (
        _typed(
            fixture_date_spine.models__test_date_spine_yml,
            "test_date_spine",
            fixture_date_spine.models__test_date_spine_sql,
        ),
    ),
    "utils.test_get_intervals_between.BaseGetIntervalsBetween": (
        _typed(
            fixture_get_intervals_between.models__test_get_intervals_between_yml,
            "test_get_intervals_between",
            fixture_get_intervals_between.models__test_get_intervals_between_sql.replace(
                "09/01/2023", "2023-09-01"
            ).replace("09/12/2023", "2023-09-12"),
        ),
    ),
    "utils.test_timestamps.BaseCurrentTimestamps": (TimestampNames,),
    "ephemeral.test_ephemeral.BaseEphemeralMulti": (EphemeralMulti,),
    "ephemeral.test_ephemeral.BaseEphemeralNested": (EphemeralNested,),
    "hooks.test_model_hooks.BasePrePostModelHooks": (HookContext,),
    "hooks.test_model_hooks.TestPrePostModelHooksUnderscores": (HookContext,),
    "hooks.test_model_hooks.BaseHookRefs": (HookContext,),
    "hooks.test_model_hooks.BasePrePostModelHooksInConfig": (HookContext,),
    "hooks.test_model_hooks.BasePrePostModelHooksInConfigWithCount": (HookContext,),
    "hooks.test_model_hooks.BasePrePostModelHooksInConfigKwargs": (HookContext,),
    "hooks.test_run_hooks.BasePrePostRunHooks": (HookContext,),
    "python_model.test_python_model.BasePythonIncrementalTests": (PythonFilter,),
    "python_model.test_python_model.BasePythonEmptyTests": (InputLiterals,),
    "python_model.test_python_model.BasePythonSampleTests": (InputLiterals,),
    "sample_mode.test_sample_mode.BaseSampleModeTest": (InputLiterals,),
    "simple_seed.test_seed.BaseSimpleSeedWithBOM": (SeedWithMark,),
    "incremental.test_incremental_microbatch.BaseMicrobatch": (MicrobatchLiterals,),
}
