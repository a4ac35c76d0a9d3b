"""The bookkeeping of what a subscriber holds."""

from persipubsub.delivery.receipts import Receipts
from persipubsub.engine.messages import Delivery, Receipt


def delivery(message_id: int, token: int) -> Delivery:
    return Delivery(message_id, token, b"", 0, b"", None, 0, 0, 1, None, 0)


def test_only_what_was_held_is_forgotten() -> None:
    receipts = Receipts()
    receipts.add([delivery(1, 10), delivery(2, 20), delivery(3, 30)])
    forget = receipts.forgetting()
    receipts.add([delivery(2, 21), delivery(4, 40)])  # the second was taken again meanwhile
    receipts.forget(delivery(2, 20))
    forget()
    assert receipts.drain() == [Receipt(4, 40), Receipt(2, 21)]
    assert not receipts


def test_two_threads_that_drain_get_each_receipt_once() -> None:
    class Raced(dict[int, int]):
        """What is held, of which another thread takes the last right before this one does."""

        def popitem(self) -> tuple[int, int]:
            if len(self) == 1:
                self.clear()
            return super().popitem()

    receipts = Receipts()
    receipts._tokens = Raced({1: 10, 2: 20})
    assert receipts.drain() == [Receipt(2, 20)]
    assert receipts.drain() == []
