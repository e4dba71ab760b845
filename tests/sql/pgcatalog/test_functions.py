"""Functions over the catalogue, the reg* types, and rows that have no counterpart in a recorded query."""

from __future__ import annotations

import asyncio

import pytest

from tests.sql.pgcatalog.world import SAMPLE, make_session, texts, value
from txndb.errors import InternalError, TxndbError
from txndb.sql.catalog.pgcatalog.functions import size_text
from txndb.sql.catalog.pgcatalog.objects import parenthesised
from txndb.sql.catalog.pgcatalog.relations import packer, read_relations


async def _values(*expressions: str) -> list[str | None]:
    session = await make_session(*SAMPLE)
    return [await value(session, e) for e in expressions]


EXPRESSIONS = {
    "'emp'::regclass": "emp",
    "'public.emp'::regclass::text": "emp",
    "'emp_pkey'::regclass": "emp_pkey",
    "'\"Odd name\"'::regclass": '"Odd name"',
    "'pg_class'::regclass::oid": "1259",
    "1259::regclass": "pg_class",
    "'information_schema.tables'::regclass": "information_schema.tables",
    "'emp'::regclass = (select oid from pg_class where relname = 'emp')": "t",
    "'int8'::regtype": "bigint",
    "'varchar'::regtype::oid": "1043",
    "23::regtype::text": "integer",
    "'array_in'::regproc": "array_in",
    "'lower(text)'::regprocedure": "lower(text)",
    "'public'::regnamespace::oid": "2200",
    "11::regnamespace": "pg_catalog",
    "'root'::regrole::oid": "10",
    "to_regclass('nix')": None,
    "to_regclass('emp')": "emp",
    "to_regtype('nix')": None,
    "to_regtype('text')": "text",
    "format_type(1043, 84)": "character varying(80)",
    "format_type(1700, 786438)": "numeric(12,2)",
    "format_type(23, null)": "integer",
    "format_type(null, null)": None,
    "pg_get_userbyid(10)": "root",
    "pg_get_userbyid(77)": "unknown (OID=77)",
    "pg_get_serial_sequence('emp', 'id')": "public.emp_id_seq",
    "pg_get_serial_sequence('emp', 'email')": None,
    "pg_get_indexdef('emp_hired'::regclass)": "CREATE INDEX emp_hired ON public.emp USING btree (hired DESC)",
    "pg_get_indexdef('emp_token'::regclass, 2, true)": "level",
    "pg_get_indexdef('emp_token'::regclass, 3, true)": "",
    "pg_get_indexdef('emp'::regclass)": None,
    "pg_table_is_visible('emp'::regclass)": "t",
    "pg_table_is_visible('information_schema.tables'::regclass)": "f",
    "pg_table_is_visible(1)": None,
    "has_table_privilege('emp', 'select')": "t",
    "has_table_privilege('root', 'emp', 'select')": "t",
    "has_table_privilege(1::oid, 'select')": None,
    "has_schema_privilege('public', 'usage')": "t",
    "has_database_privilege('postgres', 'connect')": "t",
    "has_column_privilege('emp', 'id', 'select')": "t",
    "current_database()": "defaultdb",
    "current_schema()": "public",
    "current_schemas(true)": "{pg_catalog,public}",
    "current_schemas(false)": "{public}",
    "current_user": "root",
    "pg_is_in_recovery()": "f",
    "pg_encoding_to_char(6)": "UTF8",
    "pg_char_to_encoding('utf-8')": "6",
    "version() like 'PostgreSQL 15%'": "t",
    "current_setting('search_path')": '"$user", public',
    "current_setting('no.such', true)": None,
    "obj_description('emp'::regclass, 'pg_class')": None,
    "pg_relation_is_publishable('emp')": "t",
    "array_to_string(array(select option_name || option_value from pg_options_to_table('{a=1,b=2}')), ',')": "a1,b2",
    "(select catdesc from pg_get_keywords() where word = 'select')": "reserved",
}


def test_expressions() -> None:
    found = asyncio.run(_values(*EXPRESSIONS))
    assert dict(zip(EXPRESSIONS, found, strict=True)) == EXPRESSIONS


ERRORS = {
    "'nix'::regclass": "42P01",
    "'nix'::regproc": "42883",
    "'lower'::regprocedure": "22P02",
    "'format_type'::regproc::oid > 0 and 'to_char'::regproc::oid > 0": "42725",
    "'nix'::regrole": "42704",
    "'nix'::regnamespace": "3F000",
    "has_table_privilege('nix', 'select')": "42P01",
    "has_schema_privilege('nix', 'usage')": "3F000",
    "has_database_privilege('nix', 'connect')": "3D000",
    "pg_get_serial_sequence('emp', 'nix')": "42703",
    "current_setting('nix')": "42704",
    "set_config('nix', '1', false)": "42704",
    "set_config('server_version', '1', false)": "55P02",
    "1 + pg_partition_ancestors('emp')::int": "0A000",
}


@pytest.mark.parametrize("expression", ERRORS)
def test_errors(expression: str) -> None:
    with pytest.raises(TxndbError) as caught:
        asyncio.run(_values(expression))
    assert caught.value.code == ERRORS[expression]


def test_set_config_lasts_and_is_undone_as_set_is() -> None:
    async def story() -> list[str | None]:
        session = await make_session()
        found = [await value(session, "set_config('work_mem', '8MB', false)")]
        found.append(await value(session, "current_setting('work_mem')"))
        await session.execute("begin")
        await value(session, "set_config('work_mem', '9MB', true)")
        found.append(await value(session, "current_setting('work_mem')"))
        await session.execute("commit")
        found.append(await value(session, "current_setting('work_mem')"))
        await value(session, "set_config('search_path', '', false)")
        found.append(await value(session, "current_schema()"))
        return found

    assert asyncio.run(story()) == ["8MB", "8MB", "9MB", "8MB", None]


def test_a_transaction_keeps_its_number_and_later_ones_have_larger() -> None:
    async def story() -> list[int]:
        session = await make_session("create table t(a int primary key)", "begin")
        numbers = [int(str(await value(session, "txid_current()")))]
        await session.execute("insert into t values (1)")
        numbers.append(int(str(await value(session, "txid_current()"))))
        await session.execute("commit")
        return [*numbers, int(str(await value(session, "txid_current()")))]

    first, again, later = asyncio.run(story())
    assert first == again < later


def test_settings_are_shown_in_their_unit() -> None:
    async def story() -> list[tuple[str | None, ...]]:
        session = await make_session("set lock_timeout = '5s'")
        names = "('lock_timeout', 'work_mem', 'jit', 'TimeZone')"
        return await texts(
            session,
            f"select name, setting, unit, vartype, source from pg_settings where name in {names} order by 1",
        )

    assert sorted(asyncio.run(story())) == [
        ("TimeZone", "UTC", None, "string", "default"),
        ("jit", "off", None, "bool", "default"),
        ("lock_timeout", "5000", "ms", "integer", "session"),
        ("work_mem", "4096", "kB", "integer", "default"),
    ]


def test_a_set_as_an_item_of_the_target_list() -> None:
    async def story() -> list[list[tuple[str | None, ...]]]:
        session = await make_session(
            "create table t(a int primary key)", "insert into t values (2), (0), (3)"
        )
        return [
            await texts(session, "select a, generate_series(1, a) as n from t order by a, n"),
            await texts(session, "select unnest(array['x', 'y'])"),
            await texts(session, "select pg_partition_ancestors('t')"),
        ]

    rows = [("2", "1"), ("2", "2"), ("3", "1"), ("3", "2"), ("3", "3")]
    assert asyncio.run(story()) == [rows, [("x",), ("y",)], []]


def test_system_columns_are_not_in_star() -> None:
    async def story() -> tuple[int, list[tuple[str | None, ...]]]:
        session = await make_session()
        columns = (await session.execute("select * from pg_am")).columns
        assert columns is not None
        return len(columns), await texts(
            session, "select tableoid::regclass, amname from pg_am where oid = 403"
        )

    assert asyncio.run(story()) == (4, [("pg_am", "btree")])


def test_rows_of_uncommitted_ddl_are_seen_by_its_transaction_alone() -> None:
    async def story() -> list[str | None]:
        session = await make_session()
        count = "(select count(*) from pg_class where relname like 'fresh%')"
        await session.execute("begin")
        await session.execute("create table fresh(a int primary key)")
        found = [await value(session, count)]
        await session.execute("rollback")
        return [*found, await value(session, count)]

    assert asyncio.run(story()) == ["2", "0"]


def test_every_system_relation_can_be_read() -> None:
    async def story() -> None:
        session = await make_session(*SAMPLE)
        for relation in read_relations():
            result = await session.execute(f"select * from {relation.schema}.{relation.name}")
            assert all(len(row) == len(relation.columns) for row in result.rows)
            slots = [at for at, column in enumerate(relation.columns) if column.not_null]
            assert not any(row[at] is None for row in result.rows for at in slots), relation.name

    asyncio.run(story())


def test_oids_are_unique_within_a_catalogue() -> None:
    async def story() -> list[tuple[str, int, int]]:
        session = await make_session(*SAMPLE, "alter table dept add column x int check (x > 0)")
        found = []
        for relation in read_relations():
            if relation.kind == "r" and relation.columns[0].name == "oid":
                rows = (await session.execute(f"select oid from {relation.schema}.{relation.name}")).rows
                found.append((relation.name, len(rows), len(set(rows))))
        return found

    found = asyncio.run(story())
    assert [(n, rows) for n, rows, _ in found] == [(n, distinct) for n, _, distinct in found]


def test_what_catalogues_name_exists() -> None:
    """References of pg_attribute, pg_index, pg_constraint, pg_type and pg_proc lead somewhere."""
    broken = (
        "select count(*) from pg_attribute a left join pg_class c on c.oid = attrelid where c.oid is null",
        "select count(*) from pg_attribute a left join pg_type t on t.oid = atttypid where t.oid is null",
        "select count(*) from pg_class c left join pg_namespace n on n.oid = relnamespace where n.oid is null",
        "select count(*) from pg_index i left join pg_class c on c.oid = indexrelid where c.oid is null",
        "select count(*) from pg_constraint k left join pg_class c on c.oid = conrelid where c.oid is null",
        "select count(*) from pg_type t left join pg_proc p on p.oid = typinput where p.oid is null",
        "select count(*) from pg_attrdef d left join pg_attribute a on attrelid = adrelid and attnum = adnum"
        " where not coalesce(atthasdef, false)",
        "select count(*) from pg_depend d left join pg_class c on c.oid = objid where classid = 1259 and c.oid is null",
    )

    async def story() -> list[tuple[str | None, ...]]:
        session = await make_session(*SAMPLE)
        return [row for query in broken for row in await texts(session, query)]

    assert asyncio.run(story()) == [("0",)] * len(broken)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (10239, "10239 bytes"),
        (10240, "10 kB"),
        (-10240, "-10 kB"),
        (10485247, "10239 kB"),
        (10485248, "10 MB"),
        (123456789, "118 MB"),
        (2**63 - 1, "8192 PB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    """Figures are PostgreSQL 15's answers."""
    assert size_text(size) == text


def test_parentheses() -> None:
    assert [parenthesised(e) for e in ("a > 0", "(a > 0)", "(a) > (b)", "f(a)")] == [
        "(a > 0)",
        "(a > 0)",
        "((a) > (b))",
        "(f(a))",
    ]


def test_a_row_names_only_columns_that_exist() -> None:
    relation = next(r for r in read_relations() if r.name == "pg_am")
    with pytest.raises(InternalError, match="pg_am has no column nix"):
        packer(relation)({"nix": 1})


def test_exists_is_false_where_the_filter_keeps_nothing() -> None:
    """psql's \\dT asks so whether a type is another's array."""

    async def story() -> list[str | None]:
        session = await make_session()
        asked = (
            "exists (select 1 from pg_type e where e.oid = t.typelem and e.typarray = t.oid) from pg_type t"
        )
        return [
            (await texts(session, f"select {asked} where t.typname = '{name}'"))[0][0]
            for name in ("_int8", "int8")
        ]

    assert asyncio.run(story()) == ["t", "f"]
