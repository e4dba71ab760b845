"""The session's parameters as functions and virtual tables see them: current_setting, set_config, pg_settings."""

from __future__ import annotations

from typing import Protocol

from txndb.sql.session.settings import PARAMETERS, Settings
from txndb.sql.session.transactions import Block


class Session(Protocol):
    """What is needed of a session."""

    settings: Settings
    parameters: dict[str, str]
    local_settings: dict[str, str | None]
    block: Block | None

    def settings_changed(self) -> None:
        """Take over what other parts keep a copy of."""


class FunctionParameters:
    """`SessionParameters` of the catalogue over a session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def show(self, name: str) -> str:
        """The value as SHOW prints it."""
        session = self._session
        key = name.lower()
        if key in ("server_version", "session_authorization"):
            return session.parameters[key]
        return session.settings.show(name)

    def described(self) -> list[tuple[str, str, str, bool]]:
        """(name, value in its unit, default, whether it is fixed) of all, by name."""
        settings = self._session.settings
        told = {
            "server_version": self.show("server_version"),
            "session_authorization": self.show("session_authorization"),
        }
        return [
            (p.name, told.get(key) or settings.get(key), settings.defaults.get(key, p.default), p.fixed)
            for key, p in sorted(PARAMETERS.items())
        ]

    def set_config(self, name: str, value: str | None, local: bool) -> str:
        """SET, or SET LOCAL, which holds for the transaction block; outside one it has no lasting effect."""
        session = self._session
        settings, key = session.settings, name.lower()
        if local:
            if session.block is None:
                return settings.check(name, value) if value is not None else settings.show(name)
            session.local_settings.setdefault(key, settings.values.get(key))
        else:
            session.local_settings.pop(key, None)
        settings.set(key, value)
        session.settings_changed()
        return settings.show(key)
