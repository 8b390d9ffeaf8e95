-- What publishers say (may be shared with the world) and what it means for our hosts (may not).

CREATE TABLE IF NOT EXISTS feed (
    name TEXT PRIMARY KEY,              -- public
    source TEXT NOT NULL,               -- private: URL or directory of the last good data
    etag TEXT NOT NULL,                 -- private: for the next conditional request
    last_modified TEXT NOT NULL,        -- private: for the next conditional request
    checked_at BIGINT NOT NULL,         -- public: last attempt
    loaded_at BIGINT,                   -- public: last good data; NULL: never
    advisories BIGINT NOT NULL,         -- public
    facts BIGINT NOT NULL,              -- public
    problems TEXT NOT NULL,             -- public: JSON, the first records that could not be read
    last_error TEXT NOT NULL,           -- private: empty when the last attempt was good
    generation BIGINT NOT NULL          -- public: grows with each change of the data
);

-- Loads that people asked for; a server takes the oldest one that nobody works on.
CREATE TABLE IF NOT EXISTS feed_request (
    id {serial},                        -- private
    requested_by TEXT NOT NULL,         -- private
    requested_at BIGINT NOT NULL,       -- private
    source TEXT NOT NULL,               -- private: URL or directory on the server; empty: the publishers
    names TEXT NOT NULL,                -- private: JSON array of feed names; empty: all
    state TEXT NOT NULL,                -- private: queued, running, done
    heartbeat BIGINT NOT NULL,          -- private: last sign of life of who works on it
    progress TEXT NOT NULL              -- private: JSON array, one entry a feed
);
CREATE INDEX IF NOT EXISTS feed_request_by_state ON feed_request (state, id);

-- All statements of one feed on one source package of one release: the unit that changes.
CREATE TABLE IF NOT EXISTS advisory_set (
    feed TEXT NOT NULL,                 -- public
    release_name TEXT NOT NULL,         -- public: codename
    source TEXT NOT NULL,               -- public: source package
    digest TEXT NOT NULL,               -- public: sha-256 of body
    body TEXT NOT NULL,                 -- public: JSON array of domain Advisory
    PRIMARY KEY (feed, release_name, source)
);

-- Which sets speak of a vulnerability.
CREATE TABLE IF NOT EXISTS advisory_mention (
    vulnerability TEXT NOT NULL,        -- public
    feed TEXT NOT NULL,                 -- public
    release_name TEXT NOT NULL,         -- public
    source TEXT NOT NULL,               -- public
    PRIMARY KEY (vulnerability, feed, release_name, source)
);
CREATE INDEX IF NOT EXISTS advisory_mention_by_set ON advisory_mention (feed, release_name, source);

CREATE TABLE IF NOT EXISTS vulnerability (
    id TEXT PRIMARY KEY,                -- public
    description TEXT NOT NULL,          -- public
    cvss_vector TEXT,                   -- public
    cvss_score DOUBLE PRECISION,        -- public: 0.0 to 10.0
    epss_score DOUBLE PRECISION,        -- public: 0.0 to 1.0
    epss_percentile DOUBLE PRECISION,   -- public: 0.0 to 1.0
    kev_date_added TEXT,                -- public: YYYY-MM-DD
    kev_due_date TEXT,                  -- public: YYYY-MM-DD
    kev_ransomware BIGINT               -- public: 0 or 1
);

CREATE TABLE IF NOT EXISTS finding (
    id {blob} PRIMARY KEY,              -- private
    host {blob} NOT NULL,               -- private
    source TEXT NOT NULL,               -- private
    vulnerability TEXT NOT NULL,        -- private
    state TEXT NOT NULL,                -- private: machine `finding`
    generation BIGINT NOT NULL,         -- private
    verdict TEXT NOT NULL,              -- private: VerdictState
    source_version TEXT NOT NULL,       -- private
    fixed_version TEXT,                 -- private: NULL: no fix published
    packages TEXT NOT NULL,             -- private: JSON array of binary package names
    severity TEXT NOT NULL,             -- private: the publisher's word
    priority BIGINT NOT NULL,           -- private: severity level * 10 + exploit level
    reasons TEXT NOT NULL,              -- private: JSON array of Reason
    first_seen BIGINT NOT NULL,         -- private
    changed_at BIGINT NOT NULL,         -- private
    UNIQUE (host, source, vulnerability)
);
-- Lists are read state by state, each in the order that is asked for.
CREATE INDEX IF NOT EXISTS finding_by_priority ON finding (state, priority, id);
CREATE INDEX IF NOT EXISTS finding_by_vulnerability ON finding (state, vulnerability, priority, id);
CREATE INDEX IF NOT EXISTS finding_by_source ON finding (state, source, priority, id);
CREATE INDEX IF NOT EXISTS finding_by_first_seen ON finding (state, first_seen, id);
CREATE INDEX IF NOT EXISTS finding_by_host ON finding (host, state, priority, id);

CREATE TABLE IF NOT EXISTS finding_event (
    sequence {serial},                  -- private
    finding {blob} NOT NULL,            -- private
    at BIGINT NOT NULL,                 -- private
    event TEXT NOT NULL,                -- private: event of the machine, or `open`, `update`
    actor TEXT NOT NULL,                -- private: who or what
    reasons TEXT NOT NULL               -- private: JSON array of Reason
);
CREATE INDEX IF NOT EXISTS finding_event_by_finding ON finding_event (finding, sequence);

-- Counted as findings change, so that no page counts the fleet.
CREATE TABLE IF NOT EXISTS finding_count (
    state TEXT NOT NULL,                -- private
    verdict TEXT NOT NULL,              -- private
    level BIGINT NOT NULL,              -- private: severity level, 0 to 5
    fixable BIGINT NOT NULL,            -- private: 1 when a fixed version is published
    exploited BIGINT NOT NULL,          -- private: 1 when exploited in the wild
    findings BIGINT NOT NULL,           -- private
    PRIMARY KEY (state, verdict, level, fixable, exploited)
);

-- What each host was last judged by.
CREATE TABLE IF NOT EXISTS host_evaluation (
    host {blob} PRIMARY KEY,            -- private
    inventory_mark BIGINT NOT NULL,     -- private: when the inventory it was judged by changed
    feed_generation BIGINT NOT NULL,    -- private: sum of the generations of all feeds
    evaluated_at BIGINT NOT NULL        -- private
);
CREATE INDEX IF NOT EXISTS host_evaluation_by_feed ON host_evaluation (feed_generation);
