"""The deciding half: pure functions over frozen values. No clock, no files, no logging here."""
