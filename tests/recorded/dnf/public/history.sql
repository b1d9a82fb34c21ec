-- A host of EL 8: what its dnf did in two transactions, and one that failed.
CREATE TABLE trans (
    id INTEGER PRIMARY KEY AUTOINCREMENT, dt_begin INTEGER NOT NULL, dt_end INTEGER,
    rpmdb_version_begin TEXT, rpmdb_version_end TEXT, releasever TEXT NOT NULL,
    user_id INTEGER NOT NULL, cmdline TEXT, state INTEGER NOT NULL
);
CREATE TABLE repo (id INTEGER PRIMARY KEY, repoid TEXT NOT NULL);
CREATE TABLE item (id INTEGER PRIMARY KEY, item_type INTEGER NOT NULL);
CREATE TABLE trans_item (
    id INTEGER PRIMARY KEY AUTOINCREMENT, trans_id INTEGER REFERENCES trans(id),
    item_id INTEGER REFERENCES item(id), repo_id INTEGER REFERENCES repo(id),
    action INTEGER NOT NULL, reason INTEGER NOT NULL, state INTEGER NOT NULL
);
CREATE TABLE rpm (
    item_id INTEGER UNIQUE NOT NULL REFERENCES item(id), name TEXT NOT NULL, epoch INTEGER NOT NULL,
    version TEXT NOT NULL, release TEXT NOT NULL, arch TEXT NOT NULL
);
CREATE TABLE config (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO config VALUES ('version', '1.1');
INSERT INTO repo VALUES (1, 'baseos'), (2, 'epel');
INSERT INTO item VALUES (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 2);
INSERT INTO rpm VALUES
    (1, 'kernel-core', 0, '4.18.0', '513.5.1.el8_9', 'x86_64'),
    (2, 'kernel-core', 0, '4.18.0', '553.el8_10', 'x86_64'),
    (3, 'dkms', 1, '3.0.12', '1.el8', 'noarch'),
    (4, 'dkms', 1, '3.0.13', '1.el8', 'noarch'),
    (5, 'kernel-debug-core', 0, '4.18.0', '553.el8_10', 'x86_64');
INSERT INTO trans VALUES
    (1, 1700000000, 1700000100, 'a', 'b', '8', 0, 'install dkms kernel-core', 1),
    (2, 1718015696, 1718015760, 'b', 'c', '8', 1000, 'update', 1),
    (3, 1718100000, 1718100005, 'c', 'c', '8', 0, 'install kernel-debug-core', 2);
-- Actions: 1 install, 6 upgrade, 7 upgraded, 8 remove, 11 another reason. States: 1 done, 2 failed.
INSERT INTO trans_item (trans_id, item_id, repo_id, action, reason, state) VALUES
    (1, 1, 1, 1, 2, 1), (1, 3, 2, 1, 2, 1), (1, 6, 1, 1, 2, 1),
    (2, 2, 1, 1, 2, 1), (2, 4, 2, 6, 2, 1), (2, 3, 2, 7, 2, 1), (2, 1, 1, 8, 2, 1),
    (3, 5, 1, 1, 2, 2), (3, 2, 1, 11, 1, 1);
