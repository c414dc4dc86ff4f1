CREATE TABLE setting (
	key VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (key)
);
CREATE TABLE workload (
	name VARCHAR(63) NOT NULL, 
	source TEXT, 
	cadence VARCHAR(16) NOT NULL, 
	measure TEXT, 
	created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE snapshot (
	workload VARCHAR(63) NOT NULL, 
	id VARCHAR(64) NOT NULL, 
	partition VARCHAR(32) NOT NULL, 
	number INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	path TEXT NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	records BIGINT NOT NULL, 
	created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
	plan_number INTEGER NOT NULL, 
	plan_path TEXT, 
	plan_sha256 VARCHAR(64), 
	planned_at TIMESTAMP WITH TIME ZONE, 
	asked BIGINT, 
	reused BIGINT, 
	duplicates BIGINT, 
	awaited BIGINT, 
	rejected BIGINT, 
	merged_at TIMESTAMP WITH TIME ZONE, 
	merged_plan INTEGER, 
	merge_number INTEGER DEFAULT '0' NOT NULL, 
	merged_chunks INTEGER, 
	published_merge INTEGER, 
	succeeded BIGINT, 
	dead BIGINT, 
	canceled_at TIMESTAMP WITH TIME ZONE, 
	pilot INTEGER, 
	rounds_used INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (workload, id), 
	CONSTRAINT merged_has_counts CHECK (merged_at IS NULL OR succeeded IS NOT NULL), 
	CONSTRAINT state_known CHECK (state IN ('loaded', 'planned', 'merged')), 
	UNIQUE (workload, partition, number)
);
CREATE TABLE snapshot_wait (
	workload VARCHAR(63) NOT NULL, 
	snapshot VARCHAR(64) NOT NULL, 
	waits_on VARCHAR(64) NOT NULL, 
	PRIMARY KEY (workload, snapshot, waits_on)
);
CREATE TABLE batch (
	id VARCHAR(128) NOT NULL, 
	chunk_id BIGINT, 
	tag VARCHAR(32), 
	requests INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
	expires_at TIMESTAMP WITH TIME ZONE, 
	ended_at TIMESTAMP WITH TIME ZONE, 
	archived_at TIMESTAMP WITH TIME ZONE, 
	counts TEXT, 
	seen_at TIMESTAMP WITH TIME ZONE NOT NULL, 
	paid_twice INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX batch_by_chunk ON batch (chunk_id);
CREATE TABLE spend (
	chunk_id BIGINT NOT NULL, 
	model VARCHAR(128) NOT NULL, 
	lane VARCHAR(16) NOT NULL, 
	billed_at TIMESTAMP WITH TIME ZONE NOT NULL, 
	requests INTEGER NOT NULL, 
	input_tokens BIGINT NOT NULL, 
	output_tokens BIGINT NOT NULL, 
	cache_write_tokens BIGINT NOT NULL, 
	cache_read_tokens BIGINT NOT NULL, 
	cost_units BIGINT NOT NULL, 
	PRIMARY KEY (chunk_id, model, lane)
);
CREATE TABLE part (
	path TEXT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	workload VARCHAR(63) NOT NULL, 
	snapshot VARCHAR(64) NOT NULL, 
	plan_number INTEGER NOT NULL, 
	chunk_id BIGINT, 
	rows BIGINT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
	current INTEGER NOT NULL, 
	merged INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (path)
);
CREATE INDEX part_by_snapshot ON part (workload, snapshot, kind);
CREATE TABLE publication (
	version SERIAL NOT NULL, 
	path TEXT NOT NULL, 
	published_at TIMESTAMP WITH TIME ZONE NOT NULL, 
	PRIMARY KEY (version)
);
CREATE TABLE event (
	id BIGSERIAL NOT NULL, 
	at TIMESTAMP WITH TIME ZONE NOT NULL, 
	move VARCHAR(48) NOT NULL, 
	workload VARCHAR(63), 
	snapshot VARCHAR(64), 
	chunk_id BIGINT, 
	intent_id BIGINT, 
	batch_id VARCHAR(128), 
	before VARCHAR(16), 
	after VARCHAR(16), 
	detail TEXT, 
	PRIMARY KEY (id)
);
CREATE INDEX event_by_chunk ON event (chunk_id);
CREATE TABLE chunk (
	id BIGSERIAL NOT NULL, 
	workload VARCHAR(63) NOT NULL, 
	snapshot VARCHAR(64) NOT NULL, 
	key VARCHAR(32) NOT NULL, 
	round INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	plan_number INTEGER NOT NULL, 
	model VARCHAR(128) NOT NULL, 
	max_tokens BIGINT, 
	state VARCHAR(16) NOT NULL, 
	requests INTEGER NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	reserve_units BIGINT NOT NULL, 
	first_row BIGINT NOT NULL, 
	last_row BIGINT NOT NULL, 
	params_path TEXT NOT NULL, 
	params_sha256 VARCHAR(64) NOT NULL, 
	index_path TEXT NOT NULL, 
	index_sha256 VARCHAR(64) NOT NULL, 
	created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
	moved_at TIMESTAMP WITH TIME ZONE NOT NULL, 
	attempts INTEGER NOT NULL, 
	not_before TIMESTAMP WITH TIME ZONE, 
	error TEXT, 
	error_type TEXT, 
	batch_id VARCHAR(128), 
	collected_at TIMESTAMP WITH TIME ZONE, 
	succeeded INTEGER, 
	errored INTEGER, 
	canceled INTEGER, 
	expired INTEGER, 
	retryable INTEGER, 
	stopped INTEGER, 
	invalid INTEGER, 
	input_tokens BIGINT, 
	output_tokens BIGINT, 
	cost_units BIGINT, 
	next_round_cut INTEGER NOT NULL, 
	cancel_asked_at TIMESTAMP WITH TIME ZONE, 
	rounds_before INTEGER DEFAULT '0' NOT NULL, 
	moves_on INTEGER, 
	next_level_cut INTEGER DEFAULT '0' NOT NULL, 
	kept_units BIGINT, 
	waits_for VARCHAR(32), 
	PRIMARY KEY (id), 
	CONSTRAINT state_known CHECK (state IN ('held', 'ready', 'sending', 'live', 'ended', 'done', 'failed', 'canceled')), 
	CONSTRAINT done_is_collected CHECK (state != 'done' OR collected_at IS NOT NULL), 
	CONSTRAINT live_has_batch CHECK (state NOT IN ('live', 'ended', 'done') OR batch_id IS NOT NULL), 
	UNIQUE (workload, snapshot, key), 
	FOREIGN KEY(workload, snapshot) REFERENCES snapshot (workload, id)
);
CREATE INDEX chunk_by_state ON chunk (state, workload);
CREATE TABLE intent (
	id BIGSERIAL NOT NULL, 
	chunk_id BIGINT NOT NULL, 
	tag VARCHAR(32) NOT NULL, 
	requests INTEGER NOT NULL, 
	watermark VARCHAR(128), 
	state VARCHAR(16) NOT NULL, 
	batch_id VARCHAR(128), 
	created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
	doubt_at TIMESTAMP WITH TIME ZONE, 
	doubt_reason TEXT, 
	candidates TEXT, 
	settled_at TIMESTAMP WITH TIME ZONE, 
	PRIMARY KEY (id), 
	CONSTRAINT state_known CHECK (state IN ('open', 'doubt', 'live', 'rejected', 'absent', 'closed')), 
	FOREIGN KEY(chunk_id) REFERENCES chunk (id), 
	UNIQUE (tag), 
	UNIQUE (batch_id)
);
CREATE INDEX intent_by_state ON intent (state);
CREATE UNIQUE INDEX intent_one_living_per_chunk ON intent (chunk_id) WHERE state IN ('doubt', 'live', 'open');
INSERT INTO batch (id, chunk_id, tag, requests, status, created_at, expires_at, ended_at, archived_at, counts, seen_at, paid_twice) VALUES ('msgbatch_1', 1, 'tag-1', 10, 'ended', '2026-11-22 14:30:00+00:00', '2026-11-23 14:30:00+00:00', '2026-11-22 15:30:00+00:00', NULL, '{"succeeded": 10}', '2026-11-22 14:30:00+00:00', 0);
INSERT INTO batch (id, chunk_id, tag, requests, status, created_at, expires_at, ended_at, archived_at, counts, seen_at, paid_twice) VALUES ('msgbatch_2', 2, 'tag-2', 10, 'in_progress', '2026-11-22 14:30:00+00:00', '2026-11-23 14:30:00+00:00', NULL, NULL, '{"processing": 10}', '2026-11-22 14:30:00+00:00', 0);
INSERT INTO event (id, at, move, workload, snapshot, chunk_id, intent_id, batch_id, before, after, detail) VALUES (1, '2026-11-22 14:30:00+00:00', 'workload registered', 'notes', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO event (id, at, move, workload, snapshot, chunk_id, intent_id, batch_id, before, after, detail) VALUES (2, '2026-11-22 14:30:00+00:00', 'snapshot loaded', 'notes', '2026-11-22.1', NULL, NULL, NULL, NULL, 'loaded', '20 records');
INSERT INTO event (id, at, move, workload, snapshot, chunk_id, intent_id, batch_id, before, after, detail) VALUES (3, '2026-11-22 14:30:00+00:00', 'chunks ready', 'notes', '2026-11-22.1', NULL, NULL, NULL, NULL, 'ready', '4 new, 4 in all');
INSERT INTO event (id, at, move, workload, snapshot, chunk_id, intent_id, batch_id, before, after, detail) VALUES (4, '2026-11-22 14:30:00+00:00', 'snapshot planned', 'notes', '2026-11-22.1', NULL, NULL, NULL, 'loaded', 'planned', '40 requests in 4 chunks, 0 reused, 0 duplicates, 0 awaited, 0 rejected');
INSERT INTO event (id, at, move, workload, snapshot, chunk_id, intent_id, batch_id, before, after, detail) VALUES (5, '2026-11-22 14:30:00+00:00', 'intent opened', 'notes', '2026-11-22.1', 1, 1, NULL, 'ready', 'sending', 'tag-1');
INSERT INTO event (id, at, move, workload, snapshot, chunk_id, intent_id, batch_id, before, after, detail) VALUES (6, '2026-11-22 14:30:00+00:00', 'batch created', 'notes', '2026-11-22.1', 1, 1, 'msgbatch_1', 'sending', 'live', NULL);
INSERT INTO event (id, at, move, workload, snapshot, chunk_id, intent_id, batch_id, before, after, detail) VALUES (7, '2026-11-22 14:30:00+00:00', 'batch ended', 'notes', '2026-11-22.1', 1, NULL, 'msgbatch_1', 'live', 'ended', '10 succeeded');
INSERT INTO event (id, at, move, workload, snapshot, chunk_id, intent_id, batch_id, before, after, detail) VALUES (8, '2026-11-22 14:30:00+00:00', 'chunk collected', 'notes', '2026-11-22.1', 1, NULL, 'msgbatch_1', 'ended', 'done', '10 succeeded, 0 errored, 0 canceled, 0 expired');
INSERT INTO event (id, at, move, workload, snapshot, chunk_id, intent_id, batch_id, before, after, detail) VALUES (9, '2026-11-22 14:30:00+00:00', 'intent opened', 'notes', '2026-11-22.1', 2, 2, NULL, 'ready', 'sending', 'tag-2');
INSERT INTO event (id, at, move, workload, snapshot, chunk_id, intent_id, batch_id, before, after, detail) VALUES (10, '2026-11-22 14:30:00+00:00', 'batch created', 'notes', '2026-11-22.1', 2, 2, 'msgbatch_2', 'sending', 'live', NULL);
INSERT INTO event (id, at, move, workload, snapshot, chunk_id, intent_id, batch_id, before, after, detail) VALUES (11, '2026-11-22 14:30:00+00:00', 'intent opened', 'notes', '2026-11-22.1', 3, 3, NULL, 'ready', 'sending', 'tag-3');
INSERT INTO event (id, at, move, workload, snapshot, chunk_id, intent_id, batch_id, before, after, detail) VALUES (12, '2026-11-22 14:30:00+00:00', 'create in doubt', 'notes', '2026-11-22.1', 3, 3, NULL, NULL, NULL, 'it''s a drop');
SELECT setval(pg_get_serial_sequence('event', 'id'), (SELECT max(id) FROM event));
INSERT INTO setting (key, value) VALUES ('ledger_id', '3a241fb2');
INSERT INTO setting (key, value) VALUES ('schema_version', '4');
INSERT INTO snapshot (workload, id, partition, number, state, path, digest, records, created_at, plan_number, plan_path, plan_sha256, planned_at, asked, reused, duplicates, awaited, rejected, merged_at, merged_plan, merge_number, merged_chunks, published_merge, succeeded, dead, canceled_at, pilot, rounds_used) VALUES ('notes', '2026-11-22.1', '2026-11-22', 1, 'planned', 'snapshots/2026-11-22.1', 'd1', 20, '2026-11-22 14:30:00+00:00', 1, 'plan', '0000000000000000000000000000000000000000000000000000000000000000', '2026-11-22 14:30:00+00:00', 40, 0, 0, 0, 0, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO spend (chunk_id, model, lane, billed_at, requests, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, cost_units) VALUES (1, 'claude-haiku-5-5', 'batch', '2026-11-22 14:30:00+00:00', 10, 100, 50, 0, 0, 7);
INSERT INTO workload (name, source, cadence, measure, created_at) VALUES ('notes', NULL, 'daily', NULL, '2026-11-22 14:30:00+00:00');
INSERT INTO chunk (id, workload, snapshot, key, round, number, plan_number, model, max_tokens, state, requests, size_bytes, reserve_units, first_row, last_row, params_path, params_sha256, index_path, index_sha256, created_at, moved_at, attempts, not_before, error, error_type, batch_id, collected_at, succeeded, errored, canceled, expired, retryable, stopped, invalid, input_tokens, output_tokens, cost_units, next_round_cut, cancel_asked_at, rounds_before, moves_on, next_level_cut, kept_units, waits_for) VALUES (1, 'notes', '2026-11-22.1', 'r1-0001', 1, 1, 1, 'claude-haiku-5-5', 64, 'done', 10, 1000, 1, 0, 9, 'chunks/r1-0001.jsonl', '0000000000000000000000000000000000000000000000000000000000000000', 'chunks/r1-0001.parquet', '0000000000000000000000000000000000000000000000000000000000000000', '2026-11-22 14:30:00+00:00', '2026-11-22 14:30:00+00:00', 1, NULL, NULL, NULL, 'msgbatch_1', '2026-11-22 14:30:00+00:00', 10, 0, 0, 0, 0, 0, 0, 100, 50, 7, 0, NULL, 0, 0, 0, 0, NULL);
INSERT INTO chunk (id, workload, snapshot, key, round, number, plan_number, model, max_tokens, state, requests, size_bytes, reserve_units, first_row, last_row, params_path, params_sha256, index_path, index_sha256, created_at, moved_at, attempts, not_before, error, error_type, batch_id, collected_at, succeeded, errored, canceled, expired, retryable, stopped, invalid, input_tokens, output_tokens, cost_units, next_round_cut, cancel_asked_at, rounds_before, moves_on, next_level_cut, kept_units, waits_for) VALUES (2, 'notes', '2026-11-22.1', 'r1-0002', 1, 2, 1, 'claude-haiku-5-5', 64, 'live', 10, 1000, 1, 0, 9, 'chunks/r1-0002.jsonl', '0000000000000000000000000000000000000000000000000000000000000000', 'chunks/r1-0002.parquet', '0000000000000000000000000000000000000000000000000000000000000000', '2026-11-22 14:30:00+00:00', '2026-11-22 14:30:00+00:00', 1, NULL, NULL, NULL, 'msgbatch_2', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, 0, NULL, 0, NULL, NULL);
INSERT INTO chunk (id, workload, snapshot, key, round, number, plan_number, model, max_tokens, state, requests, size_bytes, reserve_units, first_row, last_row, params_path, params_sha256, index_path, index_sha256, created_at, moved_at, attempts, not_before, error, error_type, batch_id, collected_at, succeeded, errored, canceled, expired, retryable, stopped, invalid, input_tokens, output_tokens, cost_units, next_round_cut, cancel_asked_at, rounds_before, moves_on, next_level_cut, kept_units, waits_for) VALUES (3, 'notes', '2026-11-22.1', 'r1-0003', 1, 3, 1, 'claude-haiku-5-5', 64, 'sending', 10, 1000, 1, 0, 9, 'chunks/r1-0003.jsonl', '0000000000000000000000000000000000000000000000000000000000000000', 'chunks/r1-0003.parquet', '0000000000000000000000000000000000000000000000000000000000000000', '2026-11-22 14:30:00+00:00', '2026-11-22 14:30:00+00:00', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, 0, NULL, 0, NULL, NULL);
INSERT INTO chunk (id, workload, snapshot, key, round, number, plan_number, model, max_tokens, state, requests, size_bytes, reserve_units, first_row, last_row, params_path, params_sha256, index_path, index_sha256, created_at, moved_at, attempts, not_before, error, error_type, batch_id, collected_at, succeeded, errored, canceled, expired, retryable, stopped, invalid, input_tokens, output_tokens, cost_units, next_round_cut, cancel_asked_at, rounds_before, moves_on, next_level_cut, kept_units, waits_for) VALUES (4, 'notes', '2026-11-22.1', 'r1-0004', 1, 4, 1, 'claude-haiku-5-5', 64, 'ready', 10, 1000, 1, 0, 9, 'chunks/r1-0004.jsonl', '0000000000000000000000000000000000000000000000000000000000000000', 'chunks/r1-0004.parquet', '0000000000000000000000000000000000000000000000000000000000000000', '2026-11-22 14:30:00+00:00', '2026-11-22 14:30:00+00:00', 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, 0, NULL, 0, NULL, NULL);
SELECT setval(pg_get_serial_sequence('chunk', 'id'), (SELECT max(id) FROM chunk));
INSERT INTO intent (id, chunk_id, tag, requests, watermark, state, batch_id, created_at, doubt_at, doubt_reason, candidates, settled_at) VALUES (1, 1, 'tag-1', 10, NULL, 'closed', 'msgbatch_1', '2026-11-22 14:30:00+00:00', NULL, NULL, NULL, '2026-11-22 14:30:00+00:00');
INSERT INTO intent (id, chunk_id, tag, requests, watermark, state, batch_id, created_at, doubt_at, doubt_reason, candidates, settled_at) VALUES (2, 2, 'tag-2', 10, NULL, 'live', 'msgbatch_2', '2026-11-22 14:30:00+00:00', NULL, NULL, NULL, '2026-11-22 14:30:00+00:00');
INSERT INTO intent (id, chunk_id, tag, requests, watermark, state, batch_id, created_at, doubt_at, doubt_reason, candidates, settled_at) VALUES (3, 3, 'tag-3', 10, NULL, 'doubt', NULL, '2026-11-22 14:30:00+00:00', '2026-11-22 14:30:00+00:00', 'it''s a drop', NULL, NULL);
SELECT setval(pg_get_serial_sequence('intent', 'id'), (SELECT max(id) FROM intent));
