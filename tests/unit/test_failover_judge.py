"""What a stream has lost, and for how long (benchmarks/failover/judge.py)."""

import math

from judge import Arrivals, Damage, Times, judge, worse

MS = 1_000_000
TIMES = Times(0, 2000 * MS, 5000 * MS)


def arrivals(numbers, delay_ms=0.5):
    return Arrivals(list(numbers), [round((n + delay_ms) * MS) for n in numbers])


def test_a_stream_that_is_whole_has_no_damage():
    assert judge(arrivals(range(5000)), TIMES) == Damage(0, 0, 0)


def test_the_gap_is_what_exceeds_that_of_the_quiet_time():
    came = [n for n in range(5000) if not 500 <= n < 509 and not 2000 <= n < 2099]
    assert judge(arrivals(came), TIMES) == Damage(90, 9 + 99, 0)


def test_a_gap_that_begins_before_the_event_counts():
    came = [n for n in range(5000) if not 1998 <= n < 2048]
    assert judge(arrivals(came), TIMES).gap_ms == 50


def test_a_stream_that_does_not_come_back_has_a_gap_without_end():
    assert judge(arrivals(range(2000)), TIMES) == Damage(math.inf, 2800, 0)
    assert judge(arrivals([]), TIMES) == Damage(math.inf, 4800, 0)


def test_what_comes_twice_fills_no_gap():
    came = arrivals([n for n in range(5000) if not 2000 <= n < 2100])
    middle = came.numbers.index(2100)
    came = Arrivals(
        [*came.numbers[:middle], 1999, *came.numbers[middle:]],
        [*came.times_ns[:middle], 2050 * MS, *came.times_ns[middle:]],
    )
    assert judge(came, TIMES) == Damage(100, 100, 1)


def test_what_was_sent_at_the_end_may_be_under_way():
    assert judge(arrivals(range(4900)), TIMES).lost == 0


def test_what_is_late_at_the_end_has_come_back():
    came, late = arrivals(range(4600)), arrivals(range(4600, 5000), delay_ms=500.5)
    came = Arrivals(came.numbers + late.numbers, came.times_ns + late.times_ns)
    assert judge(came, TIMES) == Damage(500, 0, 0)


def test_worse_is_figure_by_figure():
    assert worse([Damage(1, 20, 0), Damage(3, 10, 2)]) == Damage(3, 20, 2)
