-- 0001 people and audit
-- columns marked public may leave in exports; all others are private

-- People who may sign in (`user` is a reserved word).
CREATE TABLE IF NOT EXISTS user_account (
    id BLOB PRIMARY KEY,                  -- private
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
    id BLOB PRIMARY KEY,                  -- private
    user_id BLOB NOT NULL REFERENCES user_account (id), -- private
    secret_digest BLOB NOT NULL UNIQUE,   -- private: sha-256
    created_at BIGINT NOT NULL,             -- private
    seen_at BIGINT NOT NULL,                -- private: last request, to the minute
    expires_at BIGINT NOT NULL              -- private: ends then in any case
);
CREATE INDEX IF NOT EXISTS session_by_user ON session (user_id);
CREATE INDEX IF NOT EXISTS session_by_expiry ON session (expires_at);

-- API tokens. The secret is never stored, only its sha-256.
CREATE TABLE IF NOT EXISTS api_token (
    id BLOB PRIMARY KEY,                  -- private
    user_id BLOB NOT NULL REFERENCES user_account (id), -- private
    label TEXT NOT NULL,                    -- private: what it is for
    secret_digest BLOB NOT NULL UNIQUE,   -- private: sha-256
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
    digest BLOB NOT NULL                  -- private: sha-256 over the former digest and this entry
);
CREATE INDEX IF NOT EXISTS audit_entry_by_object ON audit_entry (object, sequence);
CREATE INDEX IF NOT EXISTS audit_entry_by_actor ON audit_entry (actor, sequence);
CREATE INDEX IF NOT EXISTS audit_entry_by_action ON audit_entry (action, sequence);

-- The end of the chain: its row is the lock that keeps the sequence without gaps over many servers,
-- and tells when entries were cut off the end.
CREATE TABLE IF NOT EXISTS audit_head (
    id BIGINT PRIMARY KEY,                  -- private: always 1
    sequence BIGINT NOT NULL,               -- private
    digest BLOB NOT NULL                  -- private
);

-- 0002 hosts and inventories
-- Hosts, their groups, and what they report. All of it is private.

CREATE TABLE IF NOT EXISTS host (
    id BLOB PRIMARY KEY,              -- private
    name TEXT NOT NULL,                 -- private
    state TEXT NOT NULL,                -- private: machine `host`
    generation BIGINT NOT NULL,         -- private: grows with each transition
    agent_version TEXT NOT NULL,        -- private
    os_id TEXT NOT NULL,                -- private
    os_codename TEXT NOT NULL,          -- private
    os_name TEXT NOT NULL,              -- private
    reboot_pending BIGINT NOT NULL,     -- private
    restart_pending BIGINT NOT NULL,    -- private: services that use replaced files
    facts_digest BLOB NOT NULL,       -- private: sha-256, empty: none yet
    services_digest BLOB NOT NULL,    -- private
    packages_digest BLOB NOT NULL,    -- private: key of package_set; empty: none yet
    inventory_mark BIGINT NOT NULL,     -- private: when any of the three last changed (host_evaluation compares)
    enrolled_at BIGINT NOT NULL,        -- private
    last_seen BIGINT NOT NULL,          -- private
    offer_sequence BIGINT NOT NULL,     -- private: last sequence of a signed offer
    key_current BLOB NOT NULL,        -- private: sha-256 of the public key of its certificate; empty: any of ours
    key_next BLOB NOT NULL,           -- private: of the one that was issued and not used yet; empty: none
    key_former BLOB NOT NULL,         -- private: of the one before, for what is under way; empty: none
    key_former_until BIGINT NOT NULL,   -- private
    link BLOB NOT NULL,               -- private: of its last check-in (wire Chain); empty: none yet
    link_before BLOB NOT NULL,        -- private
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
    host BLOB PRIMARY KEY,            -- private
    facts TEXT NOT NULL,                -- private: JSON, wire HostFacts
    services TEXT NOT NULL              -- private: JSON, array of wire Service
);

-- What of a host's identity is seldom needed.
CREATE TABLE IF NOT EXISTS host_identity (
    host BLOB PRIMARY KEY,            -- private
    certificates BIGINT NOT NULL,       -- private: how many were issued
    expires_at BIGINT NOT NULL,         -- private: of the one in use; 0: not known
    next_expires_at BIGINT NOT NULL,    -- private: of the one not used yet
    link_superseded BLOB NOT NULL,    -- private: end of the line left for a back-up; empty: none
    link_barred BLOB NOT NULL,        -- private: end of a copy's line; empty: none
    copy_digest BLOB NOT NULL,        -- private: sha-256 of the marks of the copy last told of; empty: none
    cloned_from BLOB                  -- private: host whose copy this one was
);
CREATE INDEX IF NOT EXISTS host_identity_by_origin ON host_identity (cloned_from);
CREATE INDEX IF NOT EXISTS host_by_key ON host (key_current);

-- Marks by which machines are known again: `machine-id:…`, `product-uuid:…`, `mac:…`.
CREATE TABLE IF NOT EXISTS host_mark (
    mark TEXT NOT NULL,                 -- private
    host BLOB NOT NULL,               -- private
    PRIMARY KEY (mark, host)
);
CREATE INDEX IF NOT EXISTS host_mark_by_host ON host_mark (host);

-- A host that may be the same machine as another one, until a person answers.
CREATE TABLE IF NOT EXISTS host_likeness (
    host BLOB NOT NULL,               -- private: the newer one
    other BLOB NOT NULL,              -- private
    at BIGINT NOT NULL,                 -- private
    reasons TEXT NOT NULL,              -- private: JSON array of Reason
    PRIMARY KEY (host, other)
);

-- Hosts whose machine goes on as another host.
CREATE TABLE IF NOT EXISTS host_predecessor (
    former BLOB PRIMARY KEY,          -- private
    host BLOB NOT NULL,               -- private
    at BIGINT NOT NULL                  -- private
);
CREATE INDEX IF NOT EXISTS host_predecessor_by_host ON host_predecessor (host);

-- Hosts that are to be judged anew: cost follows what changed.
CREATE TABLE IF NOT EXISTS host_changed (
    host BLOB PRIMARY KEY,            -- private
    mark BIGINT NOT NULL                -- private
);

CREATE TABLE IF NOT EXISTS host_event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,                  -- private
    host BLOB NOT NULL,               -- private
    at BIGINT NOT NULL,                 -- private
    event TEXT NOT NULL,                -- private
    actor TEXT NOT NULL,                -- private
    reasons TEXT NOT NULL               -- private: JSON array of Reason
);
CREATE INDEX IF NOT EXISTS host_event_by_host ON host_event (host, sequence);

-- Hosts whose inventory comes from a file: what tells the machine apart, and where the file comes from.
CREATE TABLE IF NOT EXISTS host_import (
    host BLOB PRIMARY KEY,            -- private
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
    id BLOB PRIMARY KEY,              -- private
    name TEXT NOT NULL UNIQUE,          -- private
    created_at BIGINT NOT NULL          -- private
);
CREATE TABLE IF NOT EXISTS host_group_member (
    group_id BLOB NOT NULL REFERENCES host_group (id), -- private
    host BLOB NOT NULL,               -- private
    PRIMARY KEY (group_id, host)
);
CREATE INDEX IF NOT EXISTS host_group_member_by_host ON host_group_member (host);

-- Tokens that let a machine enrol. The secret is never stored, only its sha-256.
CREATE TABLE IF NOT EXISTS enrolment_token (
    id BLOB PRIMARY KEY,              -- private
    secret_digest BLOB NOT NULL UNIQUE, -- private
    group_id BLOB,                    -- private: new hosts join it
    uses_left BIGINT NOT NULL,          -- private
    expires_at BIGINT NOT NULL,         -- private
    created_by TEXT NOT NULL,           -- private
    created_at BIGINT NOT NULL          -- private
);

-- The dictionary over which inventories are sets: every unique package version once.
CREATE TABLE IF NOT EXISTS package_version (
    id INTEGER PRIMARY KEY AUTOINCREMENT,                        -- public
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
    digest BLOB PRIMARY KEY,          -- private: sha-256 of the sorted list as JSON, as the agent has it
    packages BIGINT NOT NULL,           -- private: how many
    members BLOB NOT NULL,            -- private: roaring bitmap of package_version ids
    marks BLOB NOT NULL,              -- private: sets of what departs from "automatic, of the usual origin, complete"
    unused_since BIGINT NOT NULL        -- private: when a sweep found that no host has it; 0: in use
);

-- 0003 advisories and findings
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
    id INTEGER PRIMARY KEY AUTOINCREMENT,                        -- private
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
    id BLOB PRIMARY KEY,              -- private
    host BLOB NOT NULL,               -- private
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
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,                  -- private
    finding BLOB NOT NULL,            -- private
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
    host BLOB PRIMARY KEY,            -- private
    inventory_mark BIGINT NOT NULL,     -- private: when the inventory it was judged by changed
    feed_generation BIGINT NOT NULL,    -- private: sum of the generations of all feeds
    evaluated_at BIGINT NOT NULL        -- private
);
CREATE INDEX IF NOT EXISTS host_evaluation_by_feed ON host_evaluation (feed_generation);

-- 0004 changes, rollouts, deployments
-- Changes, their plans and approvals, rollouts, deployments, and what agents are told and tell.
-- All of it is private.

CREATE TABLE IF NOT EXISTS change_request (
    id BLOB PRIMARY KEY,              -- private
    number BIGINT NOT NULL UNIQUE,      -- private: the short name people use
    title TEXT NOT NULL,                -- private
    reason TEXT NOT NULL,               -- private: why
    requester TEXT NOT NULL,            -- private: user name
    requester_id BLOB,                -- private: user; NULL: the server itself
    specification TEXT NOT NULL,        -- private: JSON, what was asked for
    created_at BIGINT NOT NULL,         -- private
    events BIGINT NOT NULL              -- private: number of its last event; its row orders them
);
CREATE INDEX IF NOT EXISTS change_request_by_title ON change_request (title, number);
CREATE INDEX IF NOT EXISTS change_request_by_requester ON change_request (requester, number);

-- The plan of a change. Its head and hosts never change once it is proposed; its state does.
CREATE TABLE IF NOT EXISTS plan (
    id BLOB PRIMARY KEY,              -- private
    change_id BLOB NOT NULL UNIQUE REFERENCES change_request (id), -- private
    state TEXT NOT NULL,                -- private: machine `plan`
    generation BIGINT NOT NULL,         -- private
    answer_until BIGINT NOT NULL,       -- private: dry runs without an answer then count as failed
    window_start BIGINT,                -- private: NULL: as soon as it is started
    window_end BIGINT NOT NULL,         -- private
    head TEXT NOT NULL,                 -- private: JSON of the plan without its hosts; empty before it is proposed
    digest TEXT NOT NULL,               -- private: what people approve; empty before it is proposed
    risk TEXT NOT NULL,                 -- private: JSON; empty before it is proposed
    hosts BIGINT NOT NULL,              -- private: hosts of the plan
    asked BIGINT NOT NULL,              -- private: hosts of the change
    changed_at BIGINT NOT NULL          -- private
);
CREATE INDEX IF NOT EXISTS plan_by_state ON plan (state, id);

-- One host of a proposed plan.
CREATE TABLE IF NOT EXISTS plan_host (
    plan BLOB NOT NULL REFERENCES plan (id), -- private
    host BLOB NOT NULL,               -- private
    host_name TEXT NOT NULL,            -- private
    os TEXT NOT NULL,                   -- private: JSON
    manifest TEXT NOT NULL,             -- private: JSON
    notes TEXT NOT NULL,                -- private: JSON array of Reason
    packages BIGINT NOT NULL,           -- private: steps of the manifest
    findings TEXT NOT NULL,             -- private: untouched, planned, remediated, released
    due BIGINT NOT NULL,                -- private: transitions since the findings were last looked at
    PRIMARY KEY (plan, host)
);
CREATE INDEX IF NOT EXISTS plan_host_due ON plan_host (due, plan, host);

-- Findings that the plan is to close.
CREATE TABLE IF NOT EXISTS plan_finding (
    plan BLOB NOT NULL REFERENCES plan (id), -- private
    host BLOB NOT NULL,               -- private
    finding BLOB NOT NULL,            -- private
    PRIMARY KEY (plan, host, finding)
);
CREATE INDEX IF NOT EXISTS plan_finding_by_finding ON plan_finding (finding);

CREATE TABLE IF NOT EXISTS approval (
    plan BLOB NOT NULL REFERENCES plan (id), -- private
    by_name TEXT NOT NULL,              -- private: user name
    by_id BLOB,                       -- private
    digest TEXT NOT NULL,               -- private: of the plan, as the approver named it
    comment TEXT NOT NULL,              -- private
    at BIGINT NOT NULL,                 -- private
    PRIMARY KEY (plan, by_name)
);

-- Dry runs: one for each host that a change is meant for.
CREATE TABLE IF NOT EXISTS rehearsal (
    id BLOB PRIMARY KEY,              -- private
    plan BLOB NOT NULL REFERENCES plan (id), -- private
    change_id BLOB NOT NULL,          -- private
    host BLOB NOT NULL,               -- private
    host_name TEXT NOT NULL,            -- private
    os TEXT NOT NULL,                   -- private: JSON
    state TEXT NOT NULL,                -- private: left-out, asked, answered, dropped
    job TEXT NOT NULL,                  -- private: JSON; empty when left out
    reasons TEXT NOT NULL,              -- private: JSON array of Reason
    outcome TEXT NOT NULL,              -- private: JSON; empty before the answer
    answered_at BIGINT,                 -- private
    UNIQUE (plan, host)
);
CREATE INDEX IF NOT EXISTS rehearsal_by_host ON rehearsal (host, state);

CREATE TABLE IF NOT EXISTS rollout (
    id BLOB PRIMARY KEY,              -- private
    plan BLOB NOT NULL UNIQUE REFERENCES plan (id), -- private
    change_id BLOB NOT NULL,          -- private
    state TEXT NOT NULL,                -- private: machine `rollout`
    generation BIGINT NOT NULL,         -- private
    start_at BIGINT NOT NULL,           -- private: begin no earlier
    window_end BIGINT NOT NULL,         -- private: begin no later
    changed_at BIGINT NOT NULL,         -- private
    open BIGINT NOT NULL                -- private: 0 when nothing more is to be done unless a person asks
);
CREATE INDEX IF NOT EXISTS rollout_open ON rollout (open, id);

CREATE TABLE IF NOT EXISTS wave (
    rollout BLOB NOT NULL REFERENCES rollout (id), -- private
    number BIGINT NOT NULL,             -- private: from 1
    state TEXT NOT NULL,                -- private: machine `wave`
    generation BIGINT NOT NULL,         -- private
    since BIGINT NOT NULL,              -- private: when it came into its state
    opened_at BIGINT NOT NULL,          -- private: when it was last opened: silence counts from there
    PRIMARY KEY (rollout, number)
);

CREATE TABLE IF NOT EXISTS deployment (
    id BLOB PRIMARY KEY,              -- private
    rollout BLOB NOT NULL REFERENCES rollout (id), -- private
    plan BLOB NOT NULL,               -- private
    change_id BLOB NOT NULL,          -- private
    wave BIGINT NOT NULL,               -- private
    host BLOB NOT NULL,               -- private
    host_name TEXT NOT NULL,            -- private
    state TEXT NOT NULL,                -- private: machine `deployment`
    generation BIGINT NOT NULL,         -- private
    created_at BIGINT NOT NULL,         -- private
    changed_at BIGINT NOT NULL,         -- private: when it came into its state (server's clock)
    heard_at BIGINT NOT NULL,           -- private: last word of its host about it
    delivered_at BIGINT,                -- private: when its order was first handed out
    withdraw_at BIGINT,                 -- private: when it was asked back
    undo_at BIGINT,                     -- private: when its undo was ordered
    undo_refused TEXT NOT NULL,         -- private: JSON array of Reason; empty: not refused
    reasons TEXT NOT NULL,              -- private: JSON array of Reason: of the last event
    proof TEXT NOT NULL,                -- private: awaited, proved, differs
    proof_reasons TEXT NOT NULL,        -- private: JSON array of Reason
    output_bytes BIGINT NOT NULL,       -- private: kept so far
    anomalies BIGINT NOT NULL,          -- private: reports that its state did not allow
    UNIQUE (rollout, host)
);
CREATE INDEX IF NOT EXISTS deployment_by_host ON deployment (host, state);
CREATE INDEX IF NOT EXISTS deployment_by_change ON deployment (change_id, host_name, id);
CREATE INDEX IF NOT EXISTS deployment_by_change_state ON deployment (change_id, state, host_name, id);
CREATE INDEX IF NOT EXISTS deployment_by_proof ON deployment (proof, state, id);

CREATE TABLE IF NOT EXISTS task (
    deployment BLOB NOT NULL REFERENCES deployment (id), -- private
    number BIGINT NOT NULL,             -- private: from 1
    name TEXT NOT NULL,                 -- private
    state TEXT NOT NULL,                -- private: machine `task`
    reasons TEXT NOT NULL,              -- private: JSON array of Reason
    at BIGINT NOT NULL,                 -- private: host's clock
    PRIMARY KEY (deployment, number)
);

-- Orders that were signed. The document is made again from these values whenever it is handed out.
CREATE TABLE IF NOT EXISTS host_order (
    deployment BLOB NOT NULL REFERENCES deployment (id), -- private
    action TEXT NOT NULL,               -- private: deploy, undo
    host BLOB NOT NULL,               -- private
    sequence BIGINT NOT NULL,           -- private: grows with every order of this host
    issued_at BIGINT NOT NULL,          -- private
    window_start BIGINT NOT NULL,       -- private
    window_end BIGINT NOT NULL,         -- private
    PRIMARY KEY (deployment, action),
    UNIQUE (host, sequence)
);

-- Everything that happened to a change, its plan, rollout, waves, deployments and tasks, with the
-- output of its hosts: one numbered line of events, which `fettle change watch` replays.
CREATE TABLE IF NOT EXISTS change_event (
    change_id BLOB NOT NULL REFERENCES change_request (id), -- private
    number BIGINT NOT NULL,             -- private: from 1, without gaps
    at BIGINT NOT NULL,                 -- private
    machine TEXT NOT NULL,              -- private: change, rehearsal, plan, rollout, wave, deployment, task, output, log
    deployment BLOB,                  -- private
    host_name TEXT NOT NULL,            -- private: empty when about no single host
    event TEXT NOT NULL,                -- private
    state TEXT NOT NULL,                -- private: after the event
    actor TEXT NOT NULL,                -- private
    body TEXT NOT NULL,                 -- private: JSON array of Reason, or of lines of output
    anomaly BIGINT NOT NULL,            -- private: 1 when the state did not allow it
    PRIMARY KEY (change_id, number)
);
CREATE INDEX IF NOT EXISTS change_event_by_deployment ON change_event (deployment, number);

-- How far each host's reports are stored.
CREATE TABLE IF NOT EXISTS agent_report (
    host BLOB PRIMARY KEY,            -- private
    acknowledged BIGINT NOT NULL        -- private: sequence of the last entry
);

-- Which hosts have new work: the mark grows over all hosts, so that every server sees what is new.
CREATE TABLE IF NOT EXISTS work (
    host BLOB PRIMARY KEY,            -- private
    mark BIGINT NOT NULL                -- private
);
CREATE INDEX IF NOT EXISTS work_by_mark ON work (mark);
CREATE TABLE IF NOT EXISTS work_mark (
    id BIGINT PRIMARY KEY,              -- private: always 1; its row orders the marks of all servers
    mark BIGINT NOT NULL                -- private
);

-- Logs that people asked of hosts: the newest request of each deployment, gone when its time is over.
CREATE TABLE IF NOT EXISTS log_request (
    id BLOB PRIMARY KEY,              -- private
    deployment BLOB NOT NULL UNIQUE REFERENCES deployment (id), -- private
    host BLOB NOT NULL,               -- private
    asked_by TEXT NOT NULL,             -- private: user name
    asked_at BIGINT NOT NULL,           -- private
    expires_at BIGINT NOT NULL,         -- private
    done BIGINT NOT NULL,               -- private: 1 when nothing follows
    missing TEXT NOT NULL,              -- private: why the host has none; empty: it has
    most_bytes BIGINT NOT NULL,         -- private: that are taken
    bytes BIGINT NOT NULL,              -- private: that are here
    next_line BIGINT NOT NULL,          -- private: first line that is not here
    heard_at BIGINT                     -- private: when the last part came; NULL: none yet
);
CREATE INDEX IF NOT EXISTS log_request_by_host ON log_request (host, done);
CREATE INDEX IF NOT EXISTS log_request_by_end ON log_request (expires_at);

CREATE TABLE IF NOT EXISTS log_part (
    request BLOB NOT NULL REFERENCES log_request (id), -- private
    from_line BIGINT NOT NULL,          -- private
    lines TEXT NOT NULL,                -- private: JSON array of wire LogLine
    PRIMARY KEY (request, from_line)
);
