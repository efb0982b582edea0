"""What each streaming tool does to a record, one file a tool, all in the shape of `stage.Tool`."""
