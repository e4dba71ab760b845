"""The PostgreSQL wire protocol (version 3.0) as a pure codec, both roles: bytes <-> messages, no meaning, no I/O.

`framing` cuts the stream, `frontend` is what clients send, `backend` what servers send. A server feeds
`frontend.FrontendParser` and writes with the builders of `backend`; a client does the reverse.
"""
