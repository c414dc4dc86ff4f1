"""When everything fails, asking is rare; when one question fails, nothing changes."""

from __future__ import annotations

from claude_pipeline.lane.storm import Storm


def fail(storm: Storm, key: int, now: float, *, others: int = 100) -> bool:
    storm.sent()
    return storm.failed(key, now, others=others, now=now + 0.05, chance=0.0)


def in_storm() -> Storm:
    storm = Storm()
    assert [fail(storm, key, float(key)) for key in range(1, 10)] == [False] * 8 + [True]
    return storm


def test_one_question_that_fails_again_and_again_is_no_storm() -> None:
    storm = Storm()
    assert not any(fail(storm, 7, now) for now in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0))


def test_it_is_one_where_there_is_no_other_question_to_tell() -> None:
    storm = Storm()
    assert [fail(storm, 7, now, others=0) for now in (1.0, 2.0)] == [False, True]


def test_many_that_fail_and_none_answered_is_a_storm() -> None:
    assert in_storm().wait_seconds(9.05) == 5.0


def test_many_that_fail_among_more_that_are_on_their_way_is_none() -> None:
    storm = Storm()
    fail(storm, 0, 1.0)
    for _ in range(40):
        storm.sent()
    assert not any(fail(storm, key, 1.0 + key) for key in range(1, 20))


def test_an_answer_to_what_was_sent_since_ends_it() -> None:
    storm = in_storm()
    storm.heard(sent_at=0.5)  # from before
    assert storm.wait_seconds(9.05) > 0
    storm.heard(sent_at=2.0)
    assert storm.wait_seconds(9.05) == 0.0
    assert not storm.suspected


def test_one_is_asked_at_a_time_ever_more_rarely_and_in_the_end_more_of_them() -> None:
    storm, now, pauses, asked = in_storm(), 9.05, [], []
    for key in range(12):
        wait = storm.wait_seconds(now)
        now += wait
        count = 0
        while storm.wait_seconds(now) == 0.0:
            storm.sent()
            count += 1
        assert storm.wait_seconds(now) == float("inf")
        for n in range(count):
            assert storm.failed((key, n), now, others=100, now=now + 0.05, chance=0.0) is (n == count - 1)
        now += 0.05
        pauses.append(round(wait))
        asked.append(count)
    assert pauses == [5, 10, 20, 40, 60, 60, 60, 60, 60, 60, 60, 60]
    assert asked == [1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 16]


def test_what_was_sent_before_the_pause_does_not_make_it_longer() -> None:
    storm = in_storm()
    assert not storm.failed(99, 8.5, others=100, now=9.2, chance=0.0)
    assert storm.wait_seconds(9.05) == 5.0
