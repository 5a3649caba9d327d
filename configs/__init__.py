"""One file a domain; each states only what differs from `config.schema`."""
