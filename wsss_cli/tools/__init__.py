"""The work of each tool on a record, one file a tool; streaming tools are `stage.Tool`s."""
