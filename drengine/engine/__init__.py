"""The engine: a pure core (`machine`, `fold`, `decide`, `retry`) and one driver."""
