"""From YAML and command-line overrides to checked objects. No class path is ever looked up."""
