"""Sessions over a key-value store in memory, and a sample schema that txndb and PostgreSQL both take."""

from __future__ import annotations

from tests.sql.fakekv import FakeKV
from txndb.sql import types
from txndb.sql.catalog.leases import DirectLeases
from txndb.sql.catalog.pgcatalog import system_schemas
from txndb.sql.catalog.store import bootstrap_rows
from txndb.sql.exec.program import program_compiler
from txndb.sql.session.api import Result
from txndb.sql.session.services import SqlServices
from txndb.sql.session.session import Session, open_session
from txndb.sql.types.core import type_by_oid

SAMPLE = (
    "create table dept(id serial primary key, name text not null unique, budget numeric(12,2) default 0)",
    "create table emp(id bigserial primary key, dept_id int, email varchar(80), hired date default current_date,"
    " level smallint not null default 1, raise float8, at timestamptz(3), mood char(3), ok boolean default true,"
    " token uuid, photo bytea, unique(dept_id,email))",
    "create index emp_hired on emp(hired desc)",
    "create unique index emp_token on emp(token, level)",
    'create table "Odd name"("a b" int primary key, "C" text)',
    "create table nokey(a int, b int)",
    "create table preset(a int default 1, b varchar(9) default 'it''s', c char(3) default 'x', d text default '',"
    " e numeric(5,2) default 1.5, f boolean default false, g date default '2020-01-02', h int default -1,"
    " i text default null, j bigint default 7, k timestamptz default now(), l float8 default 2, m uuid default null,"
    " n numeric default -2.50, o varchar(3) default null)",
    "create table changed(a int, b int, c int primary key)",
    "alter table changed drop column a",
    "alter table changed add column d int not null default 7",
)


def make_services() -> SqlServices:
    """A node's services over an empty store."""
    kv = FakeKV(program_compiler())
    kv.load(bootstrap_rows())
    return SqlServices(
        kv,
        DirectLeases(),
        wall_us=lambda: kv.now_us,
        random=lambda: 0.5,
        random_bytes=bytes,
        virtual=system_schemas(),
    )


async def make_session(*statements: str) -> Session:
    """A session of root in `defaultdb` after the statements."""
    session = await open_session(make_services(), "root", "defaultdb", {})
    for statement in statements:
        await session.execute(statement)
    return session


async def texts(session: Session, sql: str) -> list[tuple[str | None, ...]]:
    """A query's rows in text form."""
    return as_texts(session, await session.execute(sql))


def as_texts(session: Session, result: Result) -> list[tuple[str | None, ...]]:
    """A result's rows in text form."""
    assert result.columns is not None
    formatters = [types.text_formatter(type_by_oid(c.type_oid), session.env) for c in result.columns]
    return [
        tuple(None if v is None else f(v) for f, v in zip(formatters, row, strict=True))
        for row in result.rows
    ]


async def value(session: Session, expression: str) -> str | None:
    """An expression's value in text form."""
    ((found,),) = await texts(session, f"select {expression}")
    return found
