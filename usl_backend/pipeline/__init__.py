"""One run from start to end: fetch, embed, select, publish. No web, no command line, no job queue here."""
