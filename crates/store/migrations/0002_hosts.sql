-- Hosts, their groups, and what they report. All of it is private.

CREATE TABLE IF NOT EXISTS host (
    id {blob} PRIMARY KEY,              -- private
    name TEXT NOT NULL,                 -- private
    state TEXT NOT NULL,                -- private: machine `host`
    generation BIGINT NOT NULL,         -- private: grows with each transition
    agent_version TEXT NOT NULL,        -- private
    os_id TEXT NOT NULL,                -- private
    os_codename TEXT NOT NULL,          -- private
    os_name TEXT NOT NULL,              -- private
    reboot_pending BIGINT NOT NULL,     -- private
    restart_pending BIGINT NOT NULL,    -- private: services that use replaced files
    facts_digest {blob} NOT NULL,       -- private: sha-256, empty: none yet
    services_digest {blob} NOT NULL,    -- private
    packages_digest {blob} NOT NULL,    -- private: key of package_set; empty: none yet
    inventory_mark BIGINT NOT NULL,     -- private: when any of the three last changed (host_evaluation compares)
    enrolled_at BIGINT NOT NULL,        -- private
    last_seen BIGINT NOT NULL,          -- private
    offer_sequence BIGINT NOT NULL,     -- private: last sequence of a signed offer
    key_current {blob} NOT NULL,        -- private: sha-256 of the public key of its certificate; empty: any of ours
    key_next {blob} NOT NULL,           -- private: of the one that was issued and not used yet; empty: none
    key_former {blob} NOT NULL,         -- private: of the one before, for what is under way; empty: none
    key_former_until BIGINT NOT NULL,   -- private
    link {blob} NOT NULL,               -- private: of its last check-in (wire Chain); empty: none yet
    link_before {blob} NOT NULL,        -- private
    clock_apart BIGINT NOT NULL,        -- private: milliseconds its clock is ahead (negative: behind); 0 within bounds
    cloned_at BIGINT NOT NULL,          -- private: when a second machine with its identity spoke; 0: never
    likenesses BIGINT NOT NULL          -- private: hosts it may be the same machine as, not answered yet
);
CREATE INDEX IF NOT EXISTS host_by_name ON host (name, id);
-- Lists are read state by state, each in the order that is asked for.
CREATE INDEX IF NOT EXISTS host_by_state ON host (state, last_seen, id);
CREATE INDEX IF NOT EXISTS host_by_state_name ON host (state, name, id);
CREATE INDEX IF NOT EXISTS host_by_state_os ON host (state, os_name, name, id);
CREATE INDEX IF NOT EXISTS host_by_set ON host (packages_digest);

-- What is long and seldom changes, apart from what every sign of life writes and every list reads.
CREATE TABLE IF NOT EXISTS host_report (
    host {blob} PRIMARY KEY,            -- private
    facts TEXT NOT NULL,                -- private: JSON, wire HostFacts
    services TEXT NOT NULL              -- private: JSON, array of wire Service
);

-- What of a host's identity is seldom needed.
CREATE TABLE IF NOT EXISTS host_identity (
    host {blob} PRIMARY KEY,            -- private
    certificates BIGINT NOT NULL,       -- private: how many were issued
    expires_at BIGINT NOT NULL,         -- private: of the one in use; 0: not known
    next_expires_at BIGINT NOT NULL,    -- private: of the one not used yet
    link_superseded {blob} NOT NULL,    -- private: end of the line left for a back-up; empty: none
    link_barred {blob} NOT NULL,        -- private: end of a copy's line; empty: none
    copy_digest {blob} NOT NULL,        -- private: sha-256 of the marks of the copy last told of; empty: none
    cloned_from {blob}                  -- private: host whose copy this one was
);
CREATE INDEX IF NOT EXISTS host_identity_by_origin ON host_identity (cloned_from);
CREATE INDEX IF NOT EXISTS host_by_key ON host (key_current);

-- Marks by which machines are known again: `machine-id:…`, `product-uuid:…`, `mac:…`.
CREATE TABLE IF NOT EXISTS host_mark (
    mark TEXT NOT NULL,                 -- private
    host {blob} NOT NULL,               -- private
    PRIMARY KEY (mark, host)
);
CREATE INDEX IF NOT EXISTS host_mark_by_host ON host_mark (host);

-- A host that may be the same machine as another one, until a person answers.
CREATE TABLE IF NOT EXISTS host_likeness (
    host {blob} NOT NULL,               -- private: the newer one
    other {blob} NOT NULL,              -- private
    at BIGINT NOT NULL,                 -- private
    reasons TEXT NOT NULL,              -- private: JSON array of Reason
    PRIMARY KEY (host, other)
);

-- Hosts whose machine goes on as another host.
CREATE TABLE IF NOT EXISTS host_predecessor (
    former {blob} PRIMARY KEY,          -- private
    host {blob} NOT NULL,               -- private
    at BIGINT NOT NULL                  -- private
);
CREATE INDEX IF NOT EXISTS host_predecessor_by_host ON host_predecessor (host);

-- Hosts that are to be judged anew: cost follows what changed.
CREATE TABLE IF NOT EXISTS host_changed (
    host {blob} PRIMARY KEY,            -- private
    mark BIGINT NOT NULL                -- private
);

CREATE TABLE IF NOT EXISTS host_event (
    sequence {serial},                  -- private
    host {blob} NOT NULL,               -- private
    at BIGINT NOT NULL,                 -- private
    event TEXT NOT NULL,                -- private
    actor TEXT NOT NULL,                -- private
    reasons TEXT NOT NULL               -- private: JSON array of Reason
);
CREATE INDEX IF NOT EXISTS host_event_by_host ON host_event (host, sequence);

-- Hosts whose inventory comes from a file: what tells the machine apart, and where the file comes from.
CREATE TABLE IF NOT EXISTS host_import (
    host {blob} PRIMARY KEY,            -- private
    machine_id TEXT NOT NULL,           -- private: digest; empty: unknown
    product_uuid TEXT NOT NULL,         -- private: empty: unknown
    made_at BIGINT NOT NULL,            -- private: machine's clock: what its findings speak of
    made_by TEXT NOT NULL,              -- private: program and version
    made_for TEXT NOT NULL,             -- private: user there
    missing TEXT NOT NULL,              -- private: JSON array of texts: what the file lacks
    imported_at BIGINT NOT NULL,        -- private
    imported_by TEXT NOT NULL           -- private: user name
);
CREATE INDEX IF NOT EXISTS host_import_by_machine ON host_import (machine_id);
CREATE INDEX IF NOT EXISTS host_import_by_product ON host_import (product_uuid);

-- How many hosts are in a state: no page counts the fleet.
CREATE TABLE IF NOT EXISTS host_count (
    state TEXT PRIMARY KEY,             -- private
    hosts BIGINT NOT NULL               -- private
);

CREATE TABLE IF NOT EXISTS host_group (
    id {blob} PRIMARY KEY,              -- private
    name TEXT NOT NULL UNIQUE,          -- private
    created_at BIGINT NOT NULL          -- private
);
CREATE TABLE IF NOT EXISTS host_group_member (
    group_id {blob} NOT NULL REFERENCES host_group (id), -- private
    host {blob} NOT NULL,               -- private
    PRIMARY KEY (group_id, host)
);
CREATE INDEX IF NOT EXISTS host_group_member_by_host ON host_group_member (host);

-- Tokens that let a machine enrol. The secret is never stored, only its sha-256.
CREATE TABLE IF NOT EXISTS enrolment_token (
    id {blob} PRIMARY KEY,              -- private
    secret_digest {blob} NOT NULL UNIQUE, -- private
    group_id {blob},                    -- private: new hosts join it
    uses_left BIGINT NOT NULL,          -- private
    expires_at BIGINT NOT NULL,         -- private
    created_by TEXT NOT NULL,           -- private
    created_at BIGINT NOT NULL          -- private
);

-- The dictionary over which inventories are sets: every unique package version once.
CREATE TABLE IF NOT EXISTS package_version (
    id {serial},                        -- public
    ecosystem TEXT NOT NULL,            -- public
    name TEXT NOT NULL,                 -- public
    version TEXT NOT NULL,              -- public
    architecture TEXT NOT NULL,         -- public
    source TEXT NOT NULL,               -- public
    source_version TEXT NOT NULL,       -- public
    UNIQUE (ecosystem, name, version, architecture, source, source_version)
);

-- One inventory of packages, shared by every host that has the same.
CREATE TABLE IF NOT EXISTS package_set (
    digest {blob} PRIMARY KEY,          -- private: sha-256 of the sorted list as JSON, as the agent has it
    packages BIGINT NOT NULL,           -- private: how many
    members {blob} NOT NULL,            -- private: roaring bitmap of package_version ids
    marks {blob} NOT NULL,              -- private: sets of what departs from "automatic, of the usual origin, complete"
    unused_since BIGINT NOT NULL        -- private: when a sweep found that no host has it; 0: in use
);
