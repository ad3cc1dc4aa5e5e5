"""What is read out of the log about waiting: only time in which a healthy slot of the same role stood free counts."""

from tests.slot_log import waits_in


def line(second, event, *, slot="", seat="", role="buyer", **more):
    said = {"timestamp": f"2026-01-01T00:00:{second:06.3f}Z", "event": event, **more}
    return said | ({"slot": slot} if slot else {}) | ({"seat": seat} if seat else {}) | ({"role": role} if role else {})


def test_waiting_beside_a_free_slot_counts():
    waits = waits_in(
        [
            line(0, "slot_free", slot="buyer-0"),
            line(1, "slot_asked", seat="esc_a/buyer"),
            line(4, "slot_taken", slot="buyer-0", seat="esc_a/buyer"),
            line(5, "slot_granted", slot="buyer-0", seat="esc_a/buyer", waited_s=4.0),
        ]
    )
    assert waits.beside_free_s == 3
    assert (waits.asked, waits.granted, waits.waited_s, waits.longest_s) == (1, 1, 4.0, 4.0)


def test_waiting_while_all_of_the_role_are_taken_does_not():
    waits = waits_in(
        [
            line(0, "slot_free", slot="buyer-0"),
            line(0, "slot_free", slot="vendor-0", role="vendor"),
            line(1, "slot_taken", slot="buyer-0", seat="esc_a/buyer"),
            line(2, "slot_asked", seat="esc_b/buyer"),
            line(7, "slot_free", slot="buyer-0"),
            line(7.5, "slot_taken", slot="buyer-0", seat="esc_b/buyer"),
            line(8, "slot_granted", slot="buyer-0", seat="esc_b/buyer", waited_s=6.0),
        ]
    )
    assert waits.beside_free_s == 0.5


def test_a_slot_that_cannot_be_used_is_not_free():
    waits = waits_in(
        [
            line(0, "slot_free", slot="buyer-0"),
            line(1, "slot_unusable", slot="buyer-0", role=None, reason="silent"),
            line(2, "slot_asked", seat="esc_a/buyer"),
            line(8, "slot_free", slot="buyer-0"),
            line(9, "slot_taken", slot="buyer-0", seat="esc_a/buyer"),
        ]
    )
    assert waits.beside_free_s == 1
