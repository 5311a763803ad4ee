"""What passes between workers and driver, without Ray."""

from raytrain.training.board import Board


def test_a_checkpoint_waits_for_the_records_before_it_to_be_kept() -> None:
    board = Board()
    group = board.begin(0, workers=1)
    board.put({"step": 5}, group)
    assert board.may_save(group, 5) is None
    assert board.take() == [{"step": 5}, {"checkpoint": 5}]
    assert board.may_save(group, 5) is None  # taken, and not yet kept
    assert board.take() == []
    assert board.may_save(group, 5) is True
    assert board.may_save(group, 6) is None


def test_workers_that_were_replaced_are_heard_no_more_and_may_not_save() -> None:
    board = Board()
    old = board.begin(0, workers=2)
    assert board.may_save(old, 5) is None
    board.take()
    board.take()
    assert board.may_save(old, 5) is True
    new = board.begin(0, workers=1)
    assert board.may_save(old, 5) is False
    assert board.may_save(new, 5) is None  # what it reports is yet to come
    board.put({"step": 6}, old)
    board.put({"step": 1}, new)
    board.put({"notice": "of anyone"})
    kept = [record for record in board.take() if "checkpoint" not in record]
    assert kept[1:] == [{"step": 1}, {"notice": "of anyone"}]
    assert kept[0]["notice"].startswith("a worker was lost; training goes on from step 0 with 1")
