"""Testing against txndb: clusters on demand, real and simulated, with faults – for txndb itself and for applications.

`world` is a simulated cluster behind the ordinary driver, `cluster` a real one of processes, `plugin` gives both to
pytest. Nothing in a database node knows of this package.
"""
