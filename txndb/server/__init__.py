"""The real body: event loop, disks, sockets, gRPC, CLI."""
