"""The SQL layer: types, parse, catalog, plan, exec, session, in that order of dependence."""
