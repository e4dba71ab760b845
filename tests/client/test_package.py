"""`import txndb` is enough: the package is the PEP 249 module, and loads the driver only when it is used."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import txndb
import txndb.client as driver

README = Path(__file__).resolve().parents[2] / "README.md"


def test_every_name_of_the_driver_is_the_packages() -> None:
    for name in driver.__all__:
        assert getattr(txndb, name) is getattr(driver, name), name
    assert set(txndb.__all__) == {*driver.__all__, "__version__"}
    assert set(txndb.__all__) <= set(dir(txndb))
    assert not hasattr(txndb, "nothing_of_the_kind")


def test_the_version_is_the_distributions() -> None:
    assert txndb.__version__ == metadata.version("txndb")


def test_a_node_does_not_load_the_driver() -> None:
    program = "import sys, txndb, txndb.server.main; sys.exit('txndb.client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_the_readmes_transfer_runs() -> None:
    """The function of the quick tour, on a database in this process."""
    block = README.read_text("utf-8").split("```python\n")[1].split("```")[0]
    lines = [line for line in block.splitlines() if not line.startswith("conn = ")]
    connection = txndb.connect()
    try:
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE accounts (id int PRIMARY KEY, balance int)")
        cursor.execute("INSERT INTO accounts VALUES (1, 100), (2, 0)")
        connection.commit()
        exec(compile("\n".join(lines), "README.md", "exec"), {"conn": connection})
        cursor.execute("SELECT balance FROM accounts ORDER BY id")
        assert cursor.fetchall() == [(90,), (10,)]
    finally:
        connection.close()
