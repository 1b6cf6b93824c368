-- API keys, of which only the sha256 is kept. They stay when they end, to be listed.
CREATE TABLE keys (
    key_id text PRIMARY KEY,
    organization integer NOT NULL REFERENCES organizations,
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    role text NOT NULL,
    -- Names of queues with commas between them; empty means all.
    queues text NOT NULL,
    name bytea NOT NULL,
    digest bytea NOT NULL UNIQUE
);
CREATE INDEX keys_by_age ON keys (created_at, key_id);
