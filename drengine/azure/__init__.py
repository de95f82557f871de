"""Azure behind Protocols: one HTTP pipeline, authentication, one module per service."""
