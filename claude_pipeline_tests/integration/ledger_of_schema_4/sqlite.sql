BEGIN TRANSACTION;
CREATE TABLE batch (
	id VARCHAR(128) NOT NULL, 
	chunk_id INTEGER, 
	tag VARCHAR(32), 
	requests INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME, 
	ended_at DATETIME, 
	archived_at DATETIME, 
	counts TEXT, 
	seen_at DATETIME NOT NULL, 
	paid_twice INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "batch" VALUES('msgbatch_1',1,'tag-1',10,'ended','2026-11-22 14:30:00.000000','2026-11-23 14:30:00.000000','2026-11-22 15:30:00.000000',NULL,'{"succeeded": 10}','2026-11-22 14:30:00.000000',0);
INSERT INTO "batch" VALUES('msgbatch_2',2,'tag-2',10,'in_progress','2026-11-22 14:30:00.000000','2026-11-23 14:30:00.000000',NULL,NULL,'{"processing": 10}','2026-11-22 14:30:00.000000',0);
CREATE TABLE chunk (
	id INTEGER NOT NULL, 
	workload VARCHAR(63) NOT NULL, 
	snapshot VARCHAR(64) NOT NULL, 
	"key" VARCHAR(32) NOT NULL, 
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
	created_at DATETIME NOT NULL, 
	moved_at DATETIME NOT NULL, 
	attempts INTEGER NOT NULL, 
	not_before DATETIME, 
	error TEXT, 
	error_type TEXT, 
	batch_id VARCHAR(128), 
	collected_at DATETIME, 
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
	cancel_asked_at DATETIME, 
	rounds_before INTEGER DEFAULT '0' NOT NULL, 
	moves_on INTEGER, 
	next_level_cut INTEGER DEFAULT '0' NOT NULL, 
	kept_units BIGINT, 
	waits_for VARCHAR(32), 
	PRIMARY KEY (id), 
	CONSTRAINT state_known CHECK (state IN ('held', 'ready', 'sending', 'live', 'ended', 'done', 'failed', 'canceled')), 
	CONSTRAINT done_is_collected CHECK (state != 'done' OR collected_at IS NOT NULL), 
	CONSTRAINT live_has_batch CHECK (state NOT IN ('live', 'ended', 'done') OR batch_id IS NOT NULL), 
	UNIQUE (workload, snapshot, "key"), 
	FOREIGN KEY(workload, snapshot) REFERENCES snapshot (workload, id)
);
INSERT INTO "chunk" VALUES(1,'notes','2026-11-22.1','r1-0001',1,1,1,'claude-haiku-5-5',64,'done',10,1000,1,0,9,'chunks/r1-0001.jsonl','0000000000000000000000000000000000000000000000000000000000000000','chunks/r1-0001.parquet','0000000000000000000000000000000000000000000000000000000000000000','2026-11-22 14:30:00.000000','2026-11-22 14:30:00.000000',1,NULL,NULL,NULL,'msgbatch_1','2026-11-22 14:30:00.000000',10,0,0,0,0,0,0,100,50,7,0,NULL,0,0,0,0,NULL);
INSERT INTO "chunk" VALUES(2,'notes','2026-11-22.1','r1-0002',1,2,1,'claude-haiku-5-5',64,'live',10,1000,1,0,9,'chunks/r1-0002.jsonl','0000000000000000000000000000000000000000000000000000000000000000','chunks/r1-0002.parquet','0000000000000000000000000000000000000000000000000000000000000000','2026-11-22 14:30:00.000000','2026-11-22 14:30:00.000000',1,NULL,NULL,NULL,'msgbatch_2',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,NULL,0,NULL,NULL);
INSERT INTO "chunk" VALUES(3,'notes','2026-11-22.1','r1-0003',1,3,1,'claude-haiku-5-5',64,'sending',10,1000,1,0,9,'chunks/r1-0003.jsonl','0000000000000000000000000000000000000000000000000000000000000000','chunks/r1-0003.parquet','0000000000000000000000000000000000000000000000000000000000000000','2026-11-22 14:30:00.000000','2026-11-22 14:30:00.000000',1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,NULL,0,NULL,NULL);
INSERT INTO "chunk" VALUES(4,'notes','2026-11-22.1','r1-0004',1,4,1,'claude-haiku-5-5',64,'ready',10,1000,1,0,9,'chunks/r1-0004.jsonl','0000000000000000000000000000000000000000000000000000000000000000','chunks/r1-0004.parquet','0000000000000000000000000000000000000000000000000000000000000000','2026-11-22 14:30:00.000000','2026-11-22 14:30:00.000000',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,NULL,0,NULL,NULL);
CREATE TABLE event (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	move VARCHAR(48) NOT NULL, 
	workload VARCHAR(63), 
	snapshot VARCHAR(64), 
	chunk_id INTEGER, 
	intent_id INTEGER, 
	batch_id VARCHAR(128), 
	"before" VARCHAR(16), 
	"after" VARCHAR(16), 
	detail TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "event" VALUES(1,'2026-11-22 14:30:00.000000','workload registered','notes',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(2,'2026-11-22 14:30:00.000000','snapshot loaded','notes','2026-11-22.1',NULL,NULL,NULL,NULL,'loaded','20 records');
INSERT INTO "event" VALUES(3,'2026-11-22 14:30:00.000000','chunks ready','notes','2026-11-22.1',NULL,NULL,NULL,NULL,'ready','4 new, 4 in all');
INSERT INTO "event" VALUES(4,'2026-11-22 14:30:00.000000','snapshot planned','notes','2026-11-22.1',NULL,NULL,NULL,'loaded','planned','40 requests in 4 chunks, 0 reused, 0 duplicates, 0 awaited, 0 rejected');
INSERT INTO "event" VALUES(5,'2026-11-22 14:30:00.000000','intent opened','notes','2026-11-22.1',1,1,NULL,'ready','sending','tag-1');
INSERT INTO "event" VALUES(6,'2026-11-22 14:30:00.000000','batch created','notes','2026-11-22.1',1,1,'msgbatch_1','sending','live',NULL);
INSERT INTO "event" VALUES(7,'2026-11-22 14:30:00.000000','batch ended','notes','2026-11-22.1',1,NULL,'msgbatch_1','live','ended','10 succeeded');
INSERT INTO "event" VALUES(8,'2026-11-22 14:30:00.000000','chunk collected','notes','2026-11-22.1',1,NULL,'msgbatch_1','ended','done','10 succeeded, 0 errored, 0 canceled, 0 expired');
INSERT INTO "event" VALUES(9,'2026-11-22 14:30:00.000000','intent opened','notes','2026-11-22.1',2,2,NULL,'ready','sending','tag-2');
INSERT INTO "event" VALUES(10,'2026-11-22 14:30:00.000000','batch created','notes','2026-11-22.1',2,2,'msgbatch_2','sending','live',NULL);
INSERT INTO "event" VALUES(11,'2026-11-22 14:30:00.000000','intent opened','notes','2026-11-22.1',3,3,NULL,'ready','sending','tag-3');
INSERT INTO "event" VALUES(12,'2026-11-22 14:30:00.000000','create in doubt','notes','2026-11-22.1',3,3,NULL,NULL,NULL,'it''s a drop');
CREATE TABLE intent (
	id INTEGER NOT NULL, 
	chunk_id INTEGER NOT NULL, 
	tag VARCHAR(32) NOT NULL, 
	requests INTEGER NOT NULL, 
	watermark VARCHAR(128), 
	state VARCHAR(16) NOT NULL, 
	batch_id VARCHAR(128), 
	created_at DATETIME NOT NULL, 
	doubt_at DATETIME, 
	doubt_reason TEXT, 
	candidates TEXT, 
	settled_at DATETIME, 
	PRIMARY KEY (id), 
	CONSTRAINT state_known CHECK (state IN ('open', 'doubt', 'live', 'rejected', 'absent', 'closed')), 
	FOREIGN KEY(chunk_id) REFERENCES chunk (id), 
	UNIQUE (tag), 
	UNIQUE (batch_id)
);
INSERT INTO "intent" VALUES(1,1,'tag-1',10,NULL,'closed','msgbatch_1','2026-11-22 14:30:00.000000',NULL,NULL,NULL,'2026-11-22 14:30:00.000000');
INSERT INTO "intent" VALUES(2,2,'tag-2',10,NULL,'live','msgbatch_2','2026-11-22 14:30:00.000000',NULL,NULL,NULL,'2026-11-22 14:30:00.000000');
INSERT INTO "intent" VALUES(3,3,'tag-3',10,NULL,'doubt',NULL,'2026-11-22 14:30:00.000000','2026-11-22 14:30:00.000000','it''s a drop',NULL,NULL);
CREATE TABLE part (
	path TEXT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	workload VARCHAR(63) NOT NULL, 
	snapshot VARCHAR(64) NOT NULL, 
	plan_number INTEGER NOT NULL, 
	chunk_id INTEGER, 
	rows BIGINT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	current INTEGER NOT NULL, 
	merged INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (path)
);
CREATE TABLE publication (
	version INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	published_at DATETIME NOT NULL, 
	PRIMARY KEY (version)
);
CREATE TABLE setting (
	"key" VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "setting" VALUES('ledger_id','3a241fb2');
INSERT INTO "setting" VALUES('schema_version','4');
CREATE TABLE snapshot (
	workload VARCHAR(63) NOT NULL, 
	id VARCHAR(64) NOT NULL, 
	partition VARCHAR(32) NOT NULL, 
	number INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	path TEXT NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	records BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	plan_number INTEGER NOT NULL, 
	plan_path TEXT, 
	plan_sha256 VARCHAR(64), 
	planned_at DATETIME, 
	asked BIGINT, 
	reused BIGINT, 
	duplicates BIGINT, 
	awaited BIGINT, 
	rejected BIGINT, 
	merged_at DATETIME, 
	merged_plan INTEGER, 
	merge_number INTEGER DEFAULT '0' NOT NULL, 
	merged_chunks INTEGER, 
	published_merge INTEGER, 
	succeeded BIGINT, 
	dead BIGINT, 
	canceled_at DATETIME, 
	pilot INTEGER, 
	rounds_used INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (workload, id), 
	CONSTRAINT merged_has_counts CHECK (merged_at IS NULL OR succeeded IS NOT NULL), 
	CONSTRAINT state_known CHECK (state IN ('loaded', 'planned', 'merged')), 
	UNIQUE (workload, partition, number)
);
INSERT INTO "snapshot" VALUES('notes','2026-11-22.1','2026-11-22',1,'planned','snapshots/2026-11-22.1','d1',20,'2026-11-22 14:30:00.000000',1,'plan','0000000000000000000000000000000000000000000000000000000000000000','2026-11-22 14:30:00.000000',40,0,0,0,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE snapshot_wait (
	workload VARCHAR(63) NOT NULL, 
	snapshot VARCHAR(64) NOT NULL, 
	waits_on VARCHAR(64) NOT NULL, 
	PRIMARY KEY (workload, snapshot, waits_on)
);
CREATE TABLE spend (
	chunk_id INTEGER NOT NULL, 
	model VARCHAR(128) NOT NULL, 
	lane VARCHAR(16) NOT NULL, 
	billed_at DATETIME NOT NULL, 
	requests INTEGER NOT NULL, 
	input_tokens BIGINT NOT NULL, 
	output_tokens BIGINT NOT NULL, 
	cache_write_tokens BIGINT NOT NULL, 
	cache_read_tokens BIGINT NOT NULL, 
	cost_units BIGINT NOT NULL, 
	PRIMARY KEY (chunk_id, model, lane)
);
INSERT INTO "spend" VALUES(1,'claude-haiku-5-5','batch','2026-11-22 14:30:00.000000',10,100,50,0,0,7);
CREATE TABLE workload (
	name VARCHAR(63) NOT NULL, 
	source TEXT, 
	cadence VARCHAR(16) NOT NULL, 
	measure TEXT, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "workload" VALUES('notes',NULL,'daily',NULL,'2026-11-22 14:30:00.000000');
CREATE INDEX batch_by_chunk ON batch (chunk_id);
CREATE INDEX part_by_snapshot ON part (workload, snapshot, kind);
CREATE INDEX event_by_chunk ON event (chunk_id);
CREATE INDEX chunk_by_state ON chunk (state, workload);
CREATE INDEX intent_by_state ON intent (state);
CREATE UNIQUE INDEX intent_one_living_per_chunk ON intent (chunk_id) WHERE state IN ('doubt', 'live', 'open');
COMMIT;
