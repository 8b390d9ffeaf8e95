-- columns marked public may leave in exports; all others are private

-- People who may sign in (`user` is a reserved word).
CREATE TABLE IF NOT EXISTS user_account (
    id {blob} PRIMARY KEY,                  -- private
    name TEXT NOT NULL UNIQUE,              -- private
    role TEXT NOT NULL,                     -- private: administrator, operator, approver, viewer
    password TEXT NOT NULL,                 -- private: PHC string of argon2id
    password_change_required BIGINT NOT NULL, -- private: the password is a one-time one
    disabled BIGINT NOT NULL,               -- private: may not sign in
    created_at BIGINT NOT NULL,             -- private
    last_sign_in BIGINT,                    -- private
    generation BIGINT NOT NULL              -- private: grows with each change
);

-- Signed-in browsers. The secret in the cookie is never stored, only its sha-256.
CREATE TABLE IF NOT EXISTS session (
    id {blob} PRIMARY KEY,                  -- private
    user_id {blob} NOT NULL REFERENCES user_account (id), -- private
    secret_digest {blob} NOT NULL UNIQUE,   -- private: sha-256
    created_at BIGINT NOT NULL,             -- private
    seen_at BIGINT NOT NULL,                -- private: last request, to the minute
    expires_at BIGINT NOT NULL              -- private: ends then in any case
);
CREATE INDEX IF NOT EXISTS session_by_user ON session (user_id);
CREATE INDEX IF NOT EXISTS session_by_expiry ON session (expires_at);

-- API tokens. The secret is never stored, only its sha-256.
CREATE TABLE IF NOT EXISTS api_token (
    id {blob} PRIMARY KEY,                  -- private
    user_id {blob} NOT NULL REFERENCES user_account (id), -- private
    label TEXT NOT NULL,                    -- private: what it is for
    secret_digest {blob} NOT NULL UNIQUE,   -- private: sha-256
    scopes TEXT,                            -- private: JSON list of permissions; NULL for all of the role
    created_at BIGINT NOT NULL,             -- private
    expires_at BIGINT NOT NULL,             -- private
    used_at BIGINT                          -- private: last use, to the hour
);
CREATE INDEX IF NOT EXISTS api_token_by_user ON api_token (user_id);
CREATE INDEX IF NOT EXISTS api_token_by_expiry ON api_token (expires_at);

-- Wrong passwords within the present window, by account and by address.
CREATE TABLE IF NOT EXISTS login_attempt (
    subject TEXT PRIMARY KEY,               -- private: `account NAME` or `address IP`
    failures BIGINT NOT NULL,               -- private
    window_ends BIGINT NOT NULL             -- private
);
CREATE INDEX IF NOT EXISTS login_attempt_by_end ON login_attempt (window_ends);

-- Who did what to what. Append-only; each digest covers the one before.
CREATE TABLE IF NOT EXISTS audit_entry (
    sequence BIGINT PRIMARY KEY,            -- private: from 1, without gaps
    at BIGINT NOT NULL,                     -- private
    actor TEXT NOT NULL,                    -- private
    action TEXT NOT NULL,                   -- private: stable dotted name
    object TEXT NOT NULL,                   -- private: id or name
    detail TEXT NOT NULL,                   -- private: JSON
    digest {blob} NOT NULL                  -- private: sha-256 over the former digest and this entry
);
CREATE INDEX IF NOT EXISTS audit_entry_by_object ON audit_entry (object, sequence);
CREATE INDEX IF NOT EXISTS audit_entry_by_actor ON audit_entry (actor, sequence);
CREATE INDEX IF NOT EXISTS audit_entry_by_action ON audit_entry (action, sequence);

-- The end of the chain: its row is the lock that keeps the sequence without gaps over many servers,
-- and tells when entries were cut off the end.
CREATE TABLE IF NOT EXISTS audit_head (
    id BIGINT PRIMARY KEY,                  -- private: always 1
    sequence BIGINT NOT NULL,               -- private
    digest {blob} NOT NULL                  -- private
);
