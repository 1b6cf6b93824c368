-- API keys, of which only the sha256 is kept. They stay when they end, to be listed.
CREATE TABLE keys (
    key_id TEXT PRIMARY KEY,
    organization INTEGER NOT NULL REFERENCES organizations,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    -- Names of queues with commas between them; empty means all.
    queues TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
);
CREATE INDEX keys_by_age ON keys (created_at, key_id);
