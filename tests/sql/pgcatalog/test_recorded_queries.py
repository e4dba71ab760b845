"""The queries behind psql's backslash commands: all run, and give PostgreSQL's rows for a schema that both have."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.sql.parse.corpus import captured_statements, catalog_queries
from tests.sql.pgcatalog.server import reference_database
from tests.sql.pgcatalog.world import SAMPLE, as_texts, make_session, texts
from txndb.errors import TxndbError

_RECORDED = Path(__file__).parents[4] / "shared" / "data" / "psql-catalog-queries" / "queries.json"
_RELATIONS = ("emp", "dept", "preset", "changed", "emp_hired", "emp_pkey", "dept_id_seq", "nokey_not_there")

Text = list[tuple[str | None, ...]]

NOT_HERE = {
    "SELECT 'add1'::pg_catalog.regproc::pg_catalog.oid": "42883",
    "SELECT 'v_emp'::pg_catalog.regclass::pg_catalog.oid": "42P01",
}
"""Queries about objects of kinds that do not exist here: PostgreSQL's error for an unknown name."""

OTHER_OBJECTS = frozenset(
    r"""\l|\l+|\dn|\dn+|\du|\du+|\dg|\df pg_catalog.lower|\da sum|\dC|\do =|\dL|\dA|\dt *.*|\dx|\dd|\dc|\dF|\dFd
    |\dconfig work_mem|\dt+|\d+|\di+""".replace("\n    ", "").split("|")
)
"""What differs by nature: other databases, schemas, roles and functions are built in; sizes are unknown here."""


def _commands() -> dict[str, list[str]]:
    if not _RECORDED.exists():
        pytest.skip("the recorded psql queries are not here")
    found: dict[str, list[str]] = json.loads(_RECORDED.read_text())
    return found


def test_every_recorded_query_runs() -> None:
    async def story() -> dict[str, str]:
        session = await make_session(*SAMPLE)
        ((oid,),) = await texts(session, "select 'emp'::regclass::oid")
        failed: dict[str, str] = {}
        for sql in catalog_queries():
            try:
                await session.execute(sql.replace("<OID>", str(oid)))
            except TxndbError as error:
                failed[sql] = error.code
        return failed

    assert asyncio.run(story()) == NOT_HERE


def test_what_pgbench_asks_of_the_catalogue() -> None:
    queries = [q for q in captured_statements() if "pg_catalog." in q and q.startswith("select o.n")]
    assert queries

    async def story() -> list[Text]:
        session = await make_session("create table pgbench_accounts(aid int primary key)")
        return [await texts(session, query) for query in queries]

    assert asyncio.run(story()) == [[("2", None, "0")]] * len(queries)


@pytest.fixture(scope="module")
def reference(postgres_url: str) -> Iterator[psycopg.Connection]:
    with reference_database(postgres_url) as conn:
        for statement in SAMPLE:
            conn.execute(statement.encode())
        yield conn


def _reference_rows(conn: psycopg.Connection, sql: str) -> tuple[list[str], Text]:
    cursor = conn.execute(sql.encode())
    return [column.name for column in cursor.description or ()], cursor.fetchall()


def _oids(rows: Text) -> dict[str, str]:
    return {str(name): str(oid) for name, oid in rows}


def _comparable(names: list[str], rows: Text) -> list[dict[str, Any]]:
    """Rows by column, without oids; a column's answer for the whole query is what is compared."""
    made = [
        {
            n: v
            for n, v in zip(names, row, strict=True)
            if n not in ("oid", "reltablespace") and "oid" not in n
        }
        for row in rows
    ]
    return sorted(made, key=repr)


async def _ours(queries: list[str]) -> tuple[dict[str, str], list[tuple[list[str], Text]]]:
    session = await make_session(*SAMPLE)
    oids = _oids(await texts(session, "select relname, oid from pg_class"))
    found = []
    for sql in queries:
        result = await session.execute(_aimed(sql, oids))
        assert result.columns is not None
        found.append(([c.name for c in result.columns], as_texts(session, result)))
    return oids, found


def _aimed(sql: str, oids: dict[str, str]) -> str:
    """A query whose `<OID:name>` are replaced by a server's oids."""
    for name in _RELATIONS:
        sql = sql.replace(f"<OID:{name}>", oids.get(name, "1"))
    return sql


def _compare(reference: psycopg.Connection, queries: list[str]) -> None:
    oids, ours = asyncio.run(_ours(queries))
    theirs = _oids(
        _reference_rows(reference, "select relname, oid from pg_class where relnamespace = 2200")[1]
    )
    assert oids.keys() >= theirs.keys()
    differing: dict[str, tuple[Any, Any]] = {}
    for sql, (names, rows) in zip(queries, ours, strict=True):
        their_names, their_rows = _reference_rows(reference, _aimed(sql, theirs))
        assert names == their_names, sql
        left, right = _comparable(names, rows), _comparable(their_names, their_rows)
        if left != right:
            differing[sql] = ([r for r in left if r not in right], [r for r in right if r not in left])
    assert differing == {}


def test_psql_gets_the_rows_postgresql_gives(reference: psycopg.Connection) -> None:
    """Every command's queries, those about one relation for each kind of relation."""
    queries: dict[str, None] = {}
    for command, recorded in _commands().items():
        for sql in recorded:
            if command in OTHER_OBJECTS or sql in NOT_HERE or "pg_get_functiondef" in sql:
                continue
            for name in _RELATIONS if "<OID>" in sql else ("",):
                queries[sql.replace("<OID>", f"<OID:{name}>")] = None
    assert len(queries) > 150
    _compare(reference, list(queries))


STANDARD = (
    "select * from information_schema.tables where table_schema = 'public'",
    "select * from information_schema.columns where table_schema = 'public'",
    "select * from information_schema.table_constraints where table_schema = 'public' and constraint_type <> 'CHECK'",
    "select count(*), table_name from information_schema.table_constraints where table_schema = 'public' group by 2",
    "select * from information_schema.key_column_usage where table_schema = 'public'",
    "select * from information_schema.constraint_column_usage where table_schema = 'public'",
    "select * from information_schema.sequences where sequence_schema = 'public'",
    "select * from information_schema.referential_constraints",
    "select check_clause from information_schema.check_constraints where constraint_schema = 'public'",
    "select * from pg_tables where schemaname = 'public'",
    "select * from pg_indexes where schemaname = 'public'",
    "select * from pg_sequences where schemaname = 'public'",
    "select * from pg_attrdef order by adnum limit 0",
    "select indisunique, indisprimary, indkey, indoption, indnatts, indclass, indcollation from pg_index i"
    " join pg_class c on c.oid = indrelid where relnamespace = 2200",
    "select conname, contype, conkey, pg_get_constraintdef(oid) from pg_constraint where connamespace = 2200",
    "select classid::regclass, refclassid::regclass, deptype, refobjsubid from pg_depend"
    " where objid in (select oid from pg_class where relnamespace = 2200 and relkind in ('i', 'S')"
    " union all select oid from pg_constraint where connamespace = 2200) and deptype <> 'n'",
    "select attname, atttypid, attlen, attnum, atttypmod, attnotnull, atthasdef, attbyval, attalign, attstorage,"
    " attcollation, atthasmissing, attndims from pg_attribute a join pg_class c on c.oid = attrelid"
    " where relname in ('emp', 'dept', 'Odd name', 'nokey', 'changed') and attnum > 0 and not attisdropped",
    "select relname, relkind, relnatts, relhasindex, relchecks, relpersistence, relreplident, relam from pg_class"
    " where relnamespace = 2200 and relkind <> 'S' and relname <> 'changed'",
    "select seqstart, seqincrement, seqmin, seqmax, seqtypid, seqcache, seqcycle from pg_sequence",
)


def test_standard_views_give_the_rows_postgresql_gives(reference: psycopg.Connection) -> None:
    _compare(reference, list(STANDARD))


NESTED = (
    "select conname, array(select attname from unnest(c.conkey) with ordinality k(attnum, at) join pg_attribute a"
    " on a.attnum = k.attnum where a.attrelid = c.conrelid order by k.at)"
    " from pg_constraint c where connamespace = 2200",
    "select attname from (select indrelid, indkey, generate_subscripts(indkey, 1) i from pg_index"
    " where indrelid = '<OID:emp>' and not indisprimary) x join pg_attribute a on attrelid = indrelid"
    " and attnum = indkey[i] order by 1",
    "select relname, (select max(x) from (values (relnatts), (relchecks)) v(x)) from pg_class c"
    " where relnamespace = 2200 and relkind = 'r'",
    "select a, (select sum(q.n) from (select a + 1 as n) q) from (values (1), (2)) t(a)",
    "select a, (select x from (values (7), (8), (9)) v(x) order by x limit 1 offset a) from (values (1), (2)) t(a)",
    "select a, array(select a union all select a * 2 union all select z from (select a * 3 as z) q)"
    " from (values (1), (2)) t(a)",
    "select a, array(select n from generate_series(1, a) n cross join (values (1), (2)) v(x) order by n)"
    " from (values (1), (2)) t(a)",
    "select conname, array_agg(attname::text order by i) from (select conrelid, conname, unnest(conkey) as num,"
    " generate_subscripts(conkey, 1) as i from pg_constraint where connamespace = 2200) c"
    " join pg_attribute on attrelid = conrelid and attnum = num group by 1",
    "select relname, opt, key from (select indexrelid, unnest(indkey) as key, unnest(indoption) as opt from pg_index) i"
    " join pg_class on oid = indexrelid where relnamespace = 2200",
    "select relname, key, option, at from pg_index i join pg_class c on c.oid = indexrelid,"
    " unnest(i.indkey, i.indoption) with ordinality k(key, option, at) where relnamespace = 2200",
    "select unnest(array[1, 2, 3]) as a, generate_series(7, 8) as b, 'x' as c",
    "select a, exists (select 1 from generate_series(2, a) g) from (values (1), (2)) t(a)",
)
"""Subqueries whose FROM reads the enclosing query, as introspection queries do."""


def test_correlated_subqueries_give_the_rows_postgresql_gives(reference: psycopg.Connection) -> None:
    _compare(reference, list(NESTED))


def test_types_are_described_as_postgresql_does(reference: psycopg.Connection) -> None:
    query = (
        "select typname, typlen, typbyval, typtype, typcategory, typispreferred, typdelim, typelem, typarray, typalign,"
        " typstorage, typcollation, typinput, typoutput, typreceive, typsend, typmodin, typmodout, typsubscript"
        " from pg_type where typname = any('{%s}')"
    )

    async def story() -> Text:
        session = await make_session()
        names = ",".join(str(name) for (name,) in await texts(session, "select typname from pg_type"))
        found = await texts(session, query % names)
        return [(names,), *found]

    names, *ours = asyncio.run(story())
    theirs = _reference_rows(reference, query % names[0])[1]
    assert sorted(ours) == sorted(theirs)
    assert len(ours) > 60
