"""`python -m txndb.server start …`: a node without the rest of the program, for processes that start others."""

from txndb.server.cli import main

main()
