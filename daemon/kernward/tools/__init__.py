"""One file per outside program, file format or kernel interface; nothing here decides."""
