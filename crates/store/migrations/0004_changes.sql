-- Changes, their plans and approvals, rollouts, deployments, and what agents are told and tell.
-- All of it is private.

CREATE TABLE IF NOT EXISTS change_request (
    id {blob} PRIMARY KEY,              -- private
    number BIGINT NOT NULL UNIQUE,      -- private: the short name people use
    title TEXT NOT NULL,                -- private
    reason TEXT NOT NULL,               -- private: why
    requester TEXT NOT NULL,            -- private: user name
    requester_id {blob},                -- private: user; NULL: the server itself
    specification TEXT NOT NULL,        -- private: JSON, what was asked for
    created_at BIGINT NOT NULL,         -- private
    events BIGINT NOT NULL              -- private: number of its last event; its row orders them
);
CREATE INDEX IF NOT EXISTS change_request_by_title ON change_request (title, number);
CREATE INDEX IF NOT EXISTS change_request_by_requester ON change_request (requester, number);

-- The plan of a change. Its head and hosts never change once it is proposed; its state does.
CREATE TABLE IF NOT EXISTS plan (
    id {blob} PRIMARY KEY,              -- private
    change_id {blob} NOT NULL UNIQUE REFERENCES change_request (id), -- private
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
    plan {blob} NOT NULL REFERENCES plan (id), -- private
    host {blob} NOT NULL,               -- private
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
    plan {blob} NOT NULL REFERENCES plan (id), -- private
    host {blob} NOT NULL,               -- private
    finding {blob} NOT NULL,            -- private
    PRIMARY KEY (plan, host, finding)
);
CREATE INDEX IF NOT EXISTS plan_finding_by_finding ON plan_finding (finding);

CREATE TABLE IF NOT EXISTS approval (
    plan {blob} NOT NULL REFERENCES plan (id), -- private
    by_name TEXT NOT NULL,              -- private: user name
    by_id {blob},                       -- private
    digest TEXT NOT NULL,               -- private: of the plan, as the approver named it
    comment TEXT NOT NULL,              -- private
    at BIGINT NOT NULL,                 -- private
    PRIMARY KEY (plan, by_name)
);

-- Dry runs: one for each host that a change is meant for.
CREATE TABLE IF NOT EXISTS rehearsal (
    id {blob} PRIMARY KEY,              -- private
    plan {blob} NOT NULL REFERENCES plan (id), -- private
    change_id {blob} NOT NULL,          -- private
    host {blob} NOT NULL,               -- private
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
    id {blob} PRIMARY KEY,              -- private
    plan {blob} NOT NULL UNIQUE REFERENCES plan (id), -- private
    change_id {blob} NOT NULL,          -- private
    state TEXT NOT NULL,                -- private: machine `rollout`
    generation BIGINT NOT NULL,         -- private
    start_at BIGINT NOT NULL,           -- private: begin no earlier
    window_end BIGINT NOT NULL,         -- private: begin no later
    changed_at BIGINT NOT NULL,         -- private
    open BIGINT NOT NULL                -- private: 0 when nothing more is to be done unless a person asks
);
CREATE INDEX IF NOT EXISTS rollout_open ON rollout (open, id);

CREATE TABLE IF NOT EXISTS wave (
    rollout {blob} NOT NULL REFERENCES rollout (id), -- private
    number BIGINT NOT NULL,             -- private: from 1
    state TEXT NOT NULL,                -- private: machine `wave`
    generation BIGINT NOT NULL,         -- private
    since BIGINT NOT NULL,              -- private: when it came into its state
    opened_at BIGINT NOT NULL,          -- private: when it was last opened: silence counts from there
    PRIMARY KEY (rollout, number)
);

CREATE TABLE IF NOT EXISTS deployment (
    id {blob} PRIMARY KEY,              -- private
    rollout {blob} NOT NULL REFERENCES rollout (id), -- private
    plan {blob} NOT NULL,               -- private
    change_id {blob} NOT NULL,          -- private
    wave BIGINT NOT NULL,               -- private
    host {blob} NOT NULL,               -- private
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
    deployment {blob} NOT NULL REFERENCES deployment (id), -- private
    number BIGINT NOT NULL,             -- private: from 1
    name TEXT NOT NULL,                 -- private
    state TEXT NOT NULL,                -- private: machine `task`
    reasons TEXT NOT NULL,              -- private: JSON array of Reason
    at BIGINT NOT NULL,                 -- private: host's clock
    PRIMARY KEY (deployment, number)
);

-- Orders that were signed. The document is made again from these values whenever it is handed out.
CREATE TABLE IF NOT EXISTS host_order (
    deployment {blob} NOT NULL REFERENCES deployment (id), -- private
    action TEXT NOT NULL,               -- private: deploy, undo
    host {blob} NOT NULL,               -- private
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
    change_id {blob} NOT NULL REFERENCES change_request (id), -- private
    number BIGINT NOT NULL,             -- private: from 1, without gaps
    at BIGINT NOT NULL,                 -- private
    machine TEXT NOT NULL,              -- private: change, rehearsal, plan, rollout, wave, deployment, task, output, log
    deployment {blob},                  -- private
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
    host {blob} PRIMARY KEY,            -- private
    acknowledged BIGINT NOT NULL        -- private: sequence of the last entry
);

-- Which hosts have new work: the mark grows over all hosts, so that every server sees what is new.
CREATE TABLE IF NOT EXISTS work (
    host {blob} PRIMARY KEY,            -- private
    mark BIGINT NOT NULL                -- private
);
CREATE INDEX IF NOT EXISTS work_by_mark ON work (mark);
CREATE TABLE IF NOT EXISTS work_mark (
    id BIGINT PRIMARY KEY,              -- private: always 1; its row orders the marks of all servers
    mark BIGINT NOT NULL                -- private
);

-- Logs that people asked of hosts: the newest request of each deployment, gone when its time is over.
CREATE TABLE IF NOT EXISTS log_request (
    id {blob} PRIMARY KEY,              -- private
    deployment {blob} NOT NULL UNIQUE REFERENCES deployment (id), -- private
    host {blob} NOT NULL,               -- private
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
    request {blob} NOT NULL REFERENCES log_request (id), -- private
    from_line BIGINT NOT NULL,          -- private
    lines TEXT NOT NULL,                -- private: JSON array of wire LogLine
    PRIMARY KEY (request, from_line)
);
