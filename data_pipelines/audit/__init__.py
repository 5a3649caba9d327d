"""What `data_pipelines.verify` looks at, sums up and draws."""
