-- Twenty questions to the warehouse of the sample workload `tickets`. The README quotes the first ten; a test runs them all.

-- 1. What became of the records of each snapshot?
SELECT snapshot, outcome, count(*) AS records
FROM tickets.results GROUP BY ALL ORDER BY ALL;

-- 2. What do the answers say?
SELECT queue, count(*) AS tickets, count(*) FILTER (WHERE urgent) AS urgent
FROM tickets.latest WHERE outcome = 'succeeded' GROUP BY queue ORDER BY tickets DESC;

-- 3. What did it cost, by day and model?
SELECT day, workload, model, lane, requests, round(cost_usd, 4) AS usd
FROM ops.costs ORDER BY day, workload, model, lane;

-- 4. Why have records no answer?
SELECT error_type, error_message, count(*) AS records
FROM tickets.dead_letters GROUP BY ALL ORDER BY records DESC;

-- 5. Which records are these, and in which batch?
SELECT snapshot, record_id, error_type, batch_id
FROM tickets.dead_letters ORDER BY snapshot, record_id LIMIT 10;

-- 6. How long do batches take, and how near did they come to the 24 hours?
SELECT model, count(*) AS batches, round(median(turnaround_seconds) / 60, 1) AS median_minutes,
       round(max(turnaround_seconds) / 3600, 2) AS longest_hours, round(min(hours_to_sla), 2) AS least_hours_left
FROM ops.batches WHERE ended_at IS NOT NULL GROUP BY model ORDER BY model;

-- 7. How fast did it go?
SELECT date_trunc('hour', minute) AS hour, workload, lane, round(max(requests_per_min), 1) AS peak_requests_per_min,
       round(max(input_tokens_per_min)) AS peak_input_tokens_per_min
FROM ops.throughput GROUP BY ALL ORDER BY ALL;

-- 8. Which records cost most?
SELECT record_id, language, input_tokens, output_tokens, cost_usd
FROM tickets.results WHERE cost_usd > 0 ORDER BY cost_usd DESC, record_id LIMIT 5;

-- 9. Which answers changed from one snapshot to the next?
SELECT record_id, old.snapshot AS was_in, old.queue AS was, new.snapshot AS is_in, new.queue AS "is"
FROM tickets.latest new JOIN tickets.results old USING (record_id)
WHERE old.snapshot <> new.snapshot AND old.queue <> new.queue ORDER BY record_id, was_in LIMIT 10;

-- 10. What does each column mean?
SELECT column_name, data_type, comment FROM duckdb_columns()
WHERE schema_name = 'tickets' AND table_name = 'results' ORDER BY column_index;

-- 11. How many records paid nothing, since the same question was answered before?
SELECT snapshot, answer_source, count(*) AS records, round(sum(cost_usd), 4) AS usd
FROM tickets.results WHERE outcome = 'succeeded' GROUP BY ALL ORDER BY ALL;

-- 12. What do a thousand records cost, snapshot by snapshot?
SELECT workload, snapshot, records, round(1000 * cost_usd / nullif(records, 0), 4) AS usd_per_1000
FROM ops.snapshots ORDER BY created_at;

-- 13. How long did a snapshot take, from its plan to its merge?
SELECT workload, snapshot, state, round(date_diff('second', planned_at, merged_at) / 60, 1) AS minutes
FROM ops.snapshots ORDER BY created_at;

-- 14. How many answers do not fit the schema, or were cut or refused?
SELECT snapshot, model, count(*) AS answers, count(*) FILTER (WHERE error_type = 'invalid_output') AS outside_schema,
       count(*) FILTER (WHERE stop_reason = 'max_tokens') AS cut, count(*) FILTER (WHERE stop_reason = 'refusal') AS refused
FROM tickets.results WHERE outcome = 'succeeded' GROUP BY ALL ORDER BY ALL;

-- 15. How do answers differ by what the records say of themselves, also inside structs and lists?
SELECT customer.plan AS plan, round(avg(urgent::INTEGER), 3) AS urgent_share, count(*) AS tickets
FROM tickets.latest WHERE outcome = 'succeeded' GROUP BY ALL ORDER BY tickets DESC;

-- 16. And by tag, where a record has several?
SELECT tag, mode(queue) AS most_often, count(*) AS tickets
FROM (SELECT unnest(tags) AS tag, queue FROM tickets.latest WHERE outcome = 'succeeded')
GROUP BY tag ORDER BY tickets DESC, tag LIMIT 5;

-- 17. How many tokens does a question take, by language?
SELECT language, round(avg(input_tokens)) AS input_tokens, round(avg(output_tokens)) AS output_tokens
FROM tickets.results WHERE answer_source IN ('batch', 'realtime') GROUP BY language ORDER BY language;

-- 18. Which records had to be asked more than once, and what came of it?
SELECT record_id, count(*) AS attempts, arg_max(outcome, attempt) AS outcome
FROM tickets.attempts GROUP BY record_id HAVING count(*) > 1 ORDER BY attempts DESC, record_id LIMIT 10;

-- 19. What happened to one chunk?
SELECT "at", move, before, after, detail FROM ops.events
WHERE workload = 'tickets' AND chunk = 'r1-0001' ORDER BY id;

-- 20. When was this file published, and what was still on its way then?
SELECT max("at") AS published_at,
       (SELECT count(*) FROM ops.chunks WHERE state NOT IN ('done', 'failed', 'canceled')) AS chunks_on_their_way
FROM ops.events;
